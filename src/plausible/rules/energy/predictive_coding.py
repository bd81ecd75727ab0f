"""Predictive coding (PC): value nodes relax between prediction from below and error from above, then weights learn.

Equation:
    ε_l = x_l − μ_l,    μ_l = φ(W_l x_{l−1} + b_l)
    x_l ← x_l + γ (−ε_l + W_{l+1}ᵀ (φ′(a_{l+1}) ∘ ε_{l+1}))        (Whittington & Bogacz 2017, eqs. 2.17–2.18)
    ΔW_l ∝ (φ′(a_l) ∘ ε_l) x_{l−1}ᵀ, after the relaxation

What travels:
    At each step ε_{l+1} (N, n_{l+1}) goes down, through φ′ and through W_{l+1} (n_{l+1}, n_l) itself, to the value
    nodes below; the prediction goes up. The teacher drives the output's error at every step.

Departures:
    The nonlinearity follows the weight, so that the model's own forward pass is the state without errors; the paper's
    precedes it, with inputs and targets in the space before it. All variances are 1. The output's error is
    ε_L = −∂loss/∂μ_L at its prediction of the moment, for any loss; for the squared error this is the paper's
    clamped output. A fixed number of steps, at a fixed rate, in the place of the paper's stopping rule. The state
    starts from the forward pass. ``feedback="random"`` sends ε down through a fixed random B instead. Batch
    statistics are taken at every step; running ones are updated once.

Reference: whittington2017

@article{whittington2017,
  author  = {Whittington, James C. R. and Bogacz, Rafal},
  title   = {An approximation of the error backpropagation algorithm in a predictive coding network with local
             {Hebbian} synaptic plasticity},
  journal = {Neural Computation},
  volume  = {29},
  number  = {5},
  pages   = {1229--1262},
  year    = {2017}
}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from plausible.core.families.predictive import PredictiveRule
from plausible.core.registry import register
from plausible.core.rule import Claims, require, tunable


@register
@dataclass(frozen=True, kw_only=True)
class PredictiveCoding(PredictiveRule):
    """Strict predictive coding: predictions follow the values as these relax.

    Attributes:
        steps: of relaxation, before the weights learn.
        rate: γ. The relaxation is stable below 2 / (1 + ‖J‖²), with J the Jacobian of the widest-reaching block.
    """

    name = "predictive-coding"
    claims = Claims(
        reads="error",
        forward_weights="full",
        derivatives_travel=True,
        phases=2,
        online=False,
        additive=True,
        paper="whittington2017",
        tolerates_delay=True,
    )
    literature: ClassVar[Mapping[str, str]] = {
        "weight transport": "violated",
        "derivative transport": "violated",
        "linear feedback": "partly",
        "spiking": "violated",
        "timing": "partly",
        "target": "violated",
        "weight sharing": "solved",
        "BPTT": "solved",
        "Dale's law": "violated",
    }
    because: ClassVar[Mapping[str, str]] = {
        "linear feedback": "What goes down is a vector-Jacobian product of the errors: signed, and growing with them "
        "without bound. What the literature credits is the nonlinear relaxation of the value nodes, which is not the "
        "feedback path itself.",
    }
    steps: int = 20
    rate: float = tunable(0.1, 0.01, 0.3, log=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.steps >= 1, self, "steps", "without relaxation nothing reaches the hidden layers")
        require(0 < self.rate <= 1, self, "rate", "it must lie between 0 and 1")

    def pace(self, depth: int) -> tuple[int, float]:
        """As set, however deep the chain."""
        return self.steps, self.rate
