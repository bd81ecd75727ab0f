"""Broadcast alignment in spiking nets (Samadi et al.): cells weigh one error by a smooth stand-in for their own curve.

Equation:
    e = y − y*,    ΔW^l_ij = −(η / n_{l−1}) dt (B^lᵀ e)_i f′(I_i) s_j                   (Samadi, Lillicrap & Tweed 2017)
    f(I) = max(0, c₁ tanh(c₂ I)),    f′(I) = c₁ c₂ / cosh²(c₂ I) for I > 0, else 0
    ΔV_kj = −(η / n) dt e_k s_j at the readout (delta rule);    a bias is a weight from an input that is always 1
    c₁ and c₂ are fitted to the cells' rate; I is a cell's current from its threshold on, s are spikes of amplitude a

What travels:
    Forward, spikes. Back, at every step, the graded error of the readout (classes numbers), to all layers at once: a
    fixed random B (classes, n) weighs it in the cell that hears it, where f′ is known from the cell's own current. It
    reaches no soma. Nothing is kept from step to step.

Departures:
    The paper's text was not at hand, but its abstract, the form of f, and how others have rebuilt it. Not verified: the
    constants of its neurons (c₁ = .82, c₂ = .08, as reported for them, are fitted anew to ours), that a rate is divided
    by the number of inputs, that s are the spikes themselves, whether it pauses or starts anew with each stimulus (here
    neither). Its pixels enter as numbers, ours as spikes; its output cells are one a class, ours a population.
    ``grad`` sums the steps of a call, averaged over streams: called for each image, weights change after each.

Reference: samadi2017

@article{samadi2017,
  author  = {Samadi, Arash and Lillicrap, Timothy P. and Tweed, Douglas B.},
  title   = {Deep learning with dynamic spiking neurons and fixed feedback weights},
  journal = {Neural Computation},
  volume  = {29},
  number  = {3},
  pages   = {578--602},
  year    = {2017}
}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.optimize import curve_fit
from torch import Tensor, nn

from plausible.core.families.online import OnlineLearner, OnlineRule, Outer, State, Teaching
from plausible.core.registry import register
from plausible.core.rule import Claims, Inputs, Loss, held, require, tunable
from plausible.functional import lif
from plausible.functional.lif import Cell
from plausible.rules.spiking.broadcast import Broadcast, BroadcastLearner
from plausible.rules.spiking.relay import SpikingChain, entering, products, random_feedback, spiking_chain


def fitted(cell: Cell, most: float) -> tuple[float, float]:
    """c₁ and c₂ with which c₁ tanh(c₂ I) is closest to the rate of ``cell``, times its amplitude, for I from 0 to
    ``most`` above the threshold, by least squares."""
    current = torch.linspace(0, most, 1001, dtype=torch.float64)
    rate = lif.rate(cell, 1 + current).numpy()
    start = (rate[-1], 1 / most)
    (c1, c2), _ = curve_fit(
        lambda x, c1, c2: c1 * np.tanh(c2 * x), current.numpy(), rate, start, xtol=1e-12, ftol=1e-12
    )
    return float(c1), float(c2)


class CurveBroadcast(Broadcast):
    """Feedback weights, and the curve that the hidden cells take for their own.

    Attributes:
        c1: of the amplitude's unit times hertz. c2: one over a current.
    """

    def __init__(self, net: SpikingChain, weights: Mapping[str, Tensor], most: float) -> None:
        super().__init__(net, weights)
        self.c1, self.c2 = fitted(net.neurons.cell, most)

    def slope(self, current: Tensor) -> Tensor:
        """f′ at currents (N, n) from the threshold on."""
        return (current > 0) * (self.c1 * self.c2 / torch.cosh(self.c2 * current) ** 2)


@register
@dataclass(frozen=True, kw_only=True)
class BroadcastAlignment(OnlineRule):
    """A graded error for all, weighed by the derivative of a curve fitted to the neurons'.

    Attributes:
        scale: mean norm of the feedback weights of a cell.
        most: up to which current above the threshold, in its units, the curve is fitted.
    """

    name = "samadi"
    model = "lif-mlp"
    continuous = True
    claims = Claims(
        reads="target",
        forward_weights="none",
        derivatives_travel=False,
        phases=1,
        online=True,
        additive=True,
        paper="samadi2017",
        events="forward",
        tolerates_delay=True,
        stores_sequence=False,
    )
    literature: ClassVar[Mapping[str, str]] = held("Y Y N Y ~ N ? ? N")
    because: ClassVar[Mapping[str, str]] = {
        "spiking": "All that goes forward is spikes. The error that is broadcast is graded, in the paper too.",
        "timing": "It has no phases, and an error changes little within some milliseconds. Once in a whole stimulus it "
        "changes at once, and no trace reaches back to the spikes that made it.",
    }

    scale: float = tunable(1.7, 0.1, 10.0, log=True)
    most: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.scale > 0, self, "scale", "a teaching signal needs a positive scale")
        require(self.most > 0, self, "most", "a curve is fitted over currents above the threshold")

    def bind(self, model: nn.Module, loss: Loss, example: Inputs | None = None) -> BroadcastLearner:
        """Bind to a chain of LIF layers in place. An example is not needed.

        Raises:
            CoverageError: the model is something else.
        """
        net = spiking_chain(model, self)
        weights = random_feedback(net, self.scale, self.seed)
        return BroadcastLearner(model, self, loss, CurveBroadcast(net, weights, self.most))

    def rest(self, learner: OnlineLearner, x: Tensor) -> State:
        """There is nothing to remember."""
        return ()

    def step(
        self, learner: OnlineLearner, state: tuple[State, State], x_t: Tensor, teaching: Teaching
    ) -> tuple[tuple[State, State], Tensor, Mapping[str, Tensor | Outer]]:
        """See :meth:`OnlineRule.step`."""
        assert isinstance(learner, BroadcastLearner) and isinstance(learner.feedback, CurveBroadcast)
        net, feedback, (before, _) = learner.spiking, learner.feedback, state
        after, y = net.step(before, x_t)
        error = y - teaching.target(y)
        heard = feedback.heard({name: learner.wire(f"{name}.error", error, "output", name) for name in learner.taught})

        sent = entering(before)
        slopes = [feedback.slope(cells.synapse.y) for cells in after.hidden]
        posts = {
            name: signal * (net.dt / len(y) / spikes.shape[1])
            for (name, signal), spikes in zip(heard.items(), sent, strict=True)
        }
        for name, slope in zip(net.hidden, slopes, strict=True):
            posts[name] = posts[name] * slope
        return (after, ()), y, products(posts, sent, hidden=True)
