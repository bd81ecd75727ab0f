"""NEF direct feedback alignment (NEF-DFA): spiking populations carry the error to synapses, in their own time.

Equation:
    e = y − y*,    ΔW^l_ij = −η dt ⟨B^lᵀ e⟩_i ψ_i ⟨s_j⟩,    ψ_i = d (a / τ_rc) [⟨J_i⟩ > 1]          (Hunsberger 2018)
    ΔV = −η (dt / n) ⟨e⟩ ⟨s⟩ᵀ at the readout (PES); ⟨·⟩ is a filter, s are spikes of amplitude a, J currents
    a bias, if there is one, is a weight from an input that is always 1

What travels:
    Forward, spikes. Back, at every step, the spikes of on and off cells that stand for the error (classes numbers):
    from the first population to the readout's synapses and to the next population, and so on down to layer 1, a synapse
    later each. A fixed random B (classes, n) weighs them at the synapses; they reach no soma. Learning is always on.

Departures:
    What ``grad`` gets is the sum over the steps of a call: with ``learn`` called for each step, weights change at each
    as in the thesis; called for each image, after each. ⟨e⟩ of a hidden layer passes one alpha synapse, that of the
    random weights. Updates of streams are averaged.

Reference: hunsberger2018

@phdthesis{hunsberger2018,
  author = {Hunsberger, Eric},
  title  = {Spiking deep neural networks: engineered and biological approaches to object recognition},
  school = {University of Waterloo},
  year   = {2018}
}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from plausible.core.families.online import OnlineLearner, OnlineRule, Outer, State, Teaching
from plausible.core.registry import register
from plausible.core.rule import Claims, Inputs, Loss, held, require, tunable
from plausible.functional import lif
from plausible.functional.synapses import AlphaState
from plausible.rules.spiking.relay import (
    Links,
    RelayLearner,
    centred,
    entering,
    products,
    silent,
    traced,
)


class Memory(NamedTuple):
    """What the teaching part of the net remembers.

    Attributes:
        links: the chain of error populations.
        target: (N, classes), with its filter.
        pre: by layer, readout last, ⟨s⟩ (N, n_in).
        usual: by layer, readout last, the slow mean of ⟨s⟩ (N, n_in).
        current: by hidden layer, ⟨J⟩ (N, n).
    """

    links: Links
    target: AlphaState
    pre: tuple[Tensor, ...]
    usual: tuple[Tensor, ...]
    current: tuple[Tensor, ...]


@register
@dataclass(frozen=True, kw_only=True)
class NEFDirectFeedbackAlignment(OnlineRule):
    """Error populations in a chain, and fixed random feedback from each to the synapses of one layer.

    Attributes:
        scale: mean norm of the feedback weights of a cell.
        height: d, of the pseudo-derivative.
        cells: of an error population, for each class.
        trace: time constant of ⟨s⟩ and ⟨J⟩, in seconds.
        usual: time constant of what a synapse holds for usual and takes off ⟨s⟩, in seconds; 0: nothing, as in the
            thesis.
        intercept: error cells begin to fire between 0 and this part of an error of 1.
        told: from which part of a call on the target is there; before, error cells have nothing to answer to. 0: at
            once, as in the thesis.
        delay: of the error's conduction from the output to the first error population, in seconds.
        hidden: whether hidden layers learn; without, a control.
        redraw: draw B anew at every call, so that it carries no credit: a control.
    """

    name = "nef-dfa"
    model = "lif-mlp"
    continuous = True
    claims = Claims(
        reads="target",
        forward_weights="none",
        derivatives_travel=False,
        phases=1,
        online=True,
        additive=True,
        paper="hunsberger2018",
        feedback="rates",
        events="all",
        tolerates_delay=True,
        stores_sequence=False,
    )
    literature: ClassVar[Mapping[str, str]] = held("Y Y Y Y Y N ? Y N")

    scale: float = tunable(1.7, 0.1, 10.0, log=True)
    height: float = 0.33
    cells: int = 20
    trace: float = 5e-3
    usual: float = 0.0
    intercept: float = 0.8
    told: float = 0.0
    delay: float = 0.0
    hidden: bool = True
    redraw: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.scale > 0, self, "scale", "a teaching signal needs a positive scale")
        require(self.height > 0, self, "height", "without a derivative nothing is learned")
        require(self.cells > 0 and self.cells % 2 == 0, self, "cells", "half of them are on cells and half off")
        require(0 < self.trace <= 1, self, "trace", "a time constant in seconds, such as 0.005")
        require(0 <= self.usual <= 1, self, "usual", "a time constant in seconds, such as 1.0, or 0")
        require(0 <= self.intercept < 1, self, "intercept", "a part of an error of 1")
        require(0 <= self.told < 1, self, "told", "a part of the call, such as 0.5")
        require(0 <= self.delay <= 1, self, "delay", "a time in seconds, such as 0.01")

    def bind(self, model: nn.Module, loss: Loss, example: Inputs | None = None) -> RelayLearner:
        """Bind to a chain of LIF layers in place. An example is not needed.

        Raises:
            CoverageError: the model is something else.
        """
        return RelayLearner(
            model, self, loss, cells=self.cells, paired=False, scale=self.scale, radius=1.0,
            intercept=self.intercept, delay=self.delay,
        )  # fmt: skip

    def rest(self, learner: OnlineLearner, x: Tensor) -> Memory:
        """No spike has come by yet."""
        assert isinstance(learner, RelayLearner)
        pre, current, readout = silent(learner.spiking, len(x))
        return Memory(learner.feedback.rest(readout), learner.spiking.synapse.rest(readout), pre, pre, current)

    def step(
        self, learner: OnlineLearner, state: tuple[State, Memory], x_t: Tensor, teaching: Teaching
    ) -> tuple[tuple[State, Memory], Tensor, Mapping[str, Tensor | Outer]]:
        """See :meth:`OnlineRule.step`."""
        assert isinstance(learner, RelayLearner)
        net, (before, memory) = learner.spiking, state
        after, y = net.step(before, x_t)
        told, target = net.synapse.step(memory.target, teaching.target(y), net.dt)
        there = teaching.step >= int(self.told * teaching.steps)
        links = learner.feedback.step(learner, memory.links, (y - told) * there)
        other = learner.redrawn(self.scale) if self.redraw else None
        errors = learner.feedback.errors(links, other)

        pre = traced(memory.pre, entering(before), self.trace, net.dt)
        unusual, usual = centred(pre, memory.usual, self.usual, net.dt)
        current = traced(memory.current, (cells.synapse.y + 1 for cells in after.hidden), self.trace, net.dt)
        share = net.dt / len(y)
        posts = {
            name: errors[name] * lif.step_slope(net.neurons.cell, J, self.height) * share
            for name, J in zip(net.hidden, current, strict=True)
        }
        posts["readout"] = errors["readout"] * (share / net.readout.in_features)
        return (after, Memory(links, target, pre, usual, current)), y, products(posts, unusual, hidden=self.hidden)
