"""Predictive coding with fixed predictions (FP-PC): errors settle around the forward pass; this is back-propagation.

Equation:
    x_l ← x_l + η (−ε_l + Ĵ_{l+1}ᵀ ε_{l+1}),    ε_l = x_l − μ̂_l        (Rosenbaum 2022, algorithm 2)
    with μ̂ and Ĵ of the forward pass, held; where it settles, ε_l = Ĵ_{l+1}ᵀ ε_{l+1}.

What travels:
    ε_{l+1} (N, n_{l+1}) goes down through φ′ and W_{l+1}, at each step, while every block holds what it predicted in
    the forward pass.

Departures:
    None of substance: ε has the opposite sign to Rosenbaum's, and values are the ends of the model's own blocks. With
    η = 1 it settles in one step per layer and the update is the gradient of the loss, to rounding. It is here to be
    told apart from strict predictive coding (see predictive-coding), whose name its results often carry.

Reference: rosenbaum2022

@article{rosenbaum2022,
  author  = {Rosenbaum, Robert},
  title   = {On the relationship between predictive coding and backpropagation},
  journal = {PLOS ONE},
  volume  = {17},
  number  = {3},
  pages   = {e0266102},
  year    = {2022}
}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from plausible.core.families.predictive import PredictiveLearner, PredictiveRule, Sweep
from plausible.core.registry import register
from plausible.core.rule import Claims, require


@register
@dataclass(frozen=True, kw_only=True)
class FixedPrediction(PredictiveRule):
    """Predictions and Jacobians of the forward pass, held.

    Attributes:
        steps: of relaxation; 0 takes one for each layer.
        rate: η, the step of the relaxation.
    """

    name = "fixed-prediction"
    tuned_as = "backprop"
    claims = Claims(
        reads="error",
        forward_weights="full",
        derivatives_travel=True,
        phases=2,
        online=False,
        additive=True,
        paper="rosenbaum2022",
    )
    literature: ClassVar[Mapping[str, str]] = {
        "weight transport": "violated",
        "derivative transport": "violated",
        "linear feedback": "violated",
        "spiking": "violated",
        "timing": "violated",
        "target": "violated",
        "weight sharing": "solved",
        "BPTT": "solved",
        "Dale's law": "violated",
    }
    repeats: ClassVar[bool] = False

    steps: int = 0
    rate: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.steps >= 0, self, "steps", "it cannot be negative")
        require(0 < self.rate <= 1, self, "rate", "it must lie between 0 and 1")

    def pace(self, depth: int) -> tuple[int, float]:
        """One step for each layer, unless set."""
        return self.steps or depth, self.rate

    def predict(self, learner: PredictiveLearner, values: list[Tensor], forward: Sweep) -> Sweep:
        """What the forward pass predicted."""
        return forward
