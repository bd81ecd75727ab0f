"""Event-driven random back-propagation (eRBP): error cells in ± pairs, dendrites, and changes at presynaptic spikes.

Equation:
    V^±_k ← max(0, V^±_k ± (y_k − y*_k) ρ dt),  and at V ≥ 1 a spike E^±_k = 1, V ← V − 1       (Neftci et al. 2017)
    τ_U dU_i/dt = −U_i + Σ_k g_ik (E^+_k − E^−_k) / (ρ dt)          in the dendrite of cell i
    at each spike of cell j, but in the first fifth of a stimulus:  w_ij ← w_ij − η a U_i  if b_min < I_i < b_max
    ρ is the rate at an error of 1, I the current of the soma, a the integral of a spike
    peRBP: at each spike, a synapse passes it on, and changes, with probability p only

What travels:
    Forward, spikes. Back, the spikes of 2 · classes error cells to all layers at once: to the readout's dendrites one
    to one, to hidden ones over fixed random g (classes, n), whose sum over a cell's inputs is 0. They reach no soma.
    Nothing else is needed at a synapse than U_i, two comparisons, and a spike. The blackout is counted from the
    beginning of a call of ``learn``, which shows one stimulus: somebody has to know when that is.

Departures:
    Read were the paper's abstract and table of parameters and its authors' code, not its text; the code has τ_U, the
    floor of V and the blackout, 50 of 250 ms, which here is a fifth of whatever a stimulus is shown for. Neurons are
    the model's: they rest at their threshold, where the paper's rest a threshold below it and get noise, and their
    membrane leaks with 20 ms, not 1. b is in thresholds of the current. Classes are told by numbers y* and not by
    spikes, and a population stands for a class in place of one cell, so that the readout has no b. g is normal, not
    uniform. Blanks are the same for all streams of a step, and testing runs with the weights' mean, p w, without them.
    ``grad`` sums the steps of a call, averaged over streams: called for each image, weights change after each.

Reference: neftci2017

@article{neftci2017,
  author  = {Neftci, Emre O. and Augustine, Charles and Paul, Somnath and Detorakis, Georgios},
  title   = {Event-driven random back-propagation: enabling neuromorphic deep learning machines},
  journal = {Frontiers in Neuroscience},
  volume  = {11},
  pages   = {324},
  year    = {2017}
}
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plausible.core.families.online import OnlineLearner, OnlineRule, Outer, State, Teaching
from plausible.core.registry import register
from plausible.core.rule import Claims, Inputs, Loss, held, require, tunable
from plausible.functional.random import generator
from plausible.functional.synapses import LowPass
from plausible.rules.spiking.broadcast import Broadcast, BroadcastLearner
from plausible.rules.spiking.relay import SpikingChain, entering, products, random_feedback, spiking_chain


class Memory(NamedTuple):
    """What error cells and dendrites remember.

    Attributes:
        charge: (N, 2 · classes), V of the positive error cells and of the negative ones, in thresholds.
        dendrites: by layer, readout last, (N, classes): U before g, in units of the error.
    """

    charge: Tensor
    dendrites: tuple[Tensor, ...]


class Blanks(Broadcast):
    """Feedback weights, and synapses that may fail.

    Args:
        net: the network.
        weights: g (d, n) by hidden layer.
        p: probability that a synapse passes a spike on.
    """

    def __init__(self, net: SpikingChain, weights: Mapping[str, Tensor], p: float) -> None:
        super().__init__(net, weights)
        self.p = p
        self._passing: dict[nn.Module, Tensor] = {}

    def run(self, layer: nn.Module, x: Tensor) -> Tensor:
        """The layer's response over the synapses that pass at this step; over their mean where nothing is learned."""
        if self.p == 1 or not isinstance(layer, nn.Linear):
            return super().run(layer, x)
        return F.linear(x, layer.weight * self._passing.get(layer, self.p), layer.bias)

    @contextmanager
    def blanked(self, net: SpikingChain, seed: int, *key: object) -> Iterator[dict[str, Tensor]]:
        """Within, only some synapses pass: 1 where they do, by parameter. Nothing if all do."""
        layers = {} if self.p == 1 else {**net.hidden, "readout": net.readout}
        found = {}
        for name, layer in layers.items():
            drawn = torch.rand(layer.weight.shape, generator=generator(seed, *key, name, "blank"))
            found[f"{name}.weight"] = self._passing[layer] = (drawn < self.p).to(layer.weight)
        try:
            yield found
        finally:
            self._passing = {}


@register
@dataclass(frozen=True, kw_only=True)
class EventDrivenRandomBackpropagation(OnlineRule):
    """Error spikes, summed in dendrites over random weights, change the synapses at which a spike arrives.

    Attributes:
        scale: mean norm of the feedback weights of a cell, before their mean is taken off.
        b_min, b_max: between which currents of the soma a cell learns, in units of its threshold.
        rate: ρ, of an error cell at an error of 1, in Hz.
        tau: τ_U, of the dendrites, in seconds.
        blackout: the part of a stimulus's time, at its beginning, in which nothing is learned.
        transmit: p; below 1 this is peRBP, for which the paper has 0.45.
    """

    name = "erbp"
    model = "lif-mlp"
    continuous = True
    claims = Claims(
        reads="target",
        forward_weights="none",
        derivatives_travel=False,
        phases=2,
        online=True,
        additive=True,
        paper="neftci2017",
        feedback="rates",
        events="all",
        tolerates_delay=True,
        stores_sequence=False,
    )
    literature: ClassVar[Mapping[str, str]] = held("Y Y ~ Y N N ? ? N")
    because: ClassVar[Mapping[str, str]] = {
        "linear feedback": "Pairs of error cells make a linear code together, which is why it is held to be partly "
        "solved. Each sends spikes, never negative, one a step at most, and the audit looks at what is sent.",
        "timing": "In the blackout, activity and error cells go on as ever, and synapses alone are switched off: the "
        "audit sees one regime. The clock that switches them starts with every call, and so knows when stimuli begin, "
        "which no message tells it and the audit cannot delay.",
    }

    scale: float = tunable(1.7, 0.1, 10.0, log=True)
    b_min: float = -11.5
    b_max: float = 11.5
    rate: float = 225.0
    tau: float = 5e-3
    blackout: float = 0.2
    transmit: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.scale > 0, self, "scale", "a teaching signal needs a positive scale")
        require(self.b_min < self.b_max, self, "b_min", "it must be below b_max, or nothing is learned")
        require(self.rate > 0, self, "rate", "error cells that never fire teach nothing")
        require(0 < self.tau <= 1, self, "tau", "a time constant in seconds, such as 0.005")
        require(0 <= self.blackout < 1, self, "blackout", "a part of the time shown, from 0 to below 1")
        require(0 < self.transmit <= 1, self, "transmit", "a probability, and not 0")

    def bind(self, model: nn.Module, loss: Loss, example: Inputs | None = None) -> BroadcastLearner:
        """Bind to a chain of LIF layers in place. An example is not needed.

        Raises:
            CoverageError: the model is something else.
        """
        net = spiking_chain(model, self)
        weights = {name: g - g.mean(0) for name, g in random_feedback(net, self.scale, self.seed).items()}
        return BroadcastLearner(model, self, loss, Blanks(net, weights, self.transmit))

    def rest(self, learner: OnlineLearner, x: Tensor) -> Memory:
        """No error yet."""
        assert isinstance(learner, BroadcastLearner)
        like, K = learner.spiking.readout.weight, learner.spiking.readout.out_features
        return Memory(like.new_zeros(len(x), 2 * K), (like.new_zeros(len(x), K),) * len(learner.taught))

    def step(
        self, learner: OnlineLearner, state: tuple[State, Memory], x_t: Tensor, teaching: Teaching
    ) -> tuple[tuple[State, Memory], Tensor, Mapping[str, Tensor | Outer]]:
        """See :meth:`OnlineRule.step`."""
        assert isinstance(learner, BroadcastLearner) and isinstance(learner.feedback, Blanks)
        net, feedback, (before, memory) = learner.spiking, learner.feedback, state
        with feedback.blanked(net, self.seed, learner.context.iteration, teaching.step) as passing:
            after, y = net.step(before, x_t)
        memory = self._errors(learner, memory, y - teaching.target(y))
        if teaching.step < int(self.blackout * teaching.steps):
            return (after, memory), y, {}

        sent = entering(before)
        share = net.dt / len(y)
        posts = {
            name: U * share
            for name, U in feedback.heard(dict(zip(learner.taught, memory.dendrites, strict=True))).items()
        }
        for name, cells in zip(net.hidden, after.hidden, strict=True):
            current = cells.synapse.y + 1
            posts[name] = posts[name] * ((current > self.b_min) & (current < self.b_max))
        added = products(posts, sent, hidden=True)
        for name, passed in passing.items():
            update = added[name]
            assert isinstance(update, Outer)
            added[name] = (update.post.t() @ update.pre).mul_(passed)
        return (after, memory), y, added

    def _errors(self, learner: BroadcastLearner, memory: Memory, error: Tensor) -> Memory:
        """What error cells and dendrites make of an error (N, classes)."""
        dt, K = learner.spiking.dt, error.shape[1]
        charge = (memory.charge + torch.cat([error, -error], 1) * (self.rate * dt)).clamp_(min=0)
        spikes = (charge >= 1).to(charge)
        heard = [learner.wire(f"{name}.error", spikes, "error", name) for name in learner.taught]
        dendrites = tuple(
            LowPass(self.tau).step(U, (s[:, :K] - s[:, K:]) / (self.rate * dt), dt)[0]
            for U, s in zip(memory.dendrites, heard, strict=True)
        )
        return Memory(charge - spikes, dendrites)
