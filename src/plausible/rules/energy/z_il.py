"""Zero-divergence inference learning (Z-IL): each layer learns just as its error arrives; this is back-propagation.

Equation:
    x_l ← x_l − ε_l + J_{l+1}ᵀ ε_{l+1} from the forward pass, where all hidden ε are 0
    ΔW_l ∝ (φ′(a_l) ∘ ε_l) x_{l−1}ᵀ at step t = L − l, when ε_l is first other than 0        (Song et al. 2020, alg. 2)

What travels:
    ε_{l+1} (N, n_{l+1}) goes down through φ′ and W_{l+1}, one layer a step, as a wave that meets every layer below
    in the state of the forward pass. A clock tells each layer when to learn.

Departures:
    The nonlinearity follows the weight, as in predictive-coding; Song's precedes it. What each layer learns is added
    up, and the weights change after the last step. No layer above an error that has passed has a say any more, so the
    update is the same.

Reference: song2020

@inproceedings{song2020,
  author    = {Song, Yuhang and Lukasiewicz, Thomas and Xu, Zhenghua and Bogacz, Rafal},
  title     = {Can the brain do backpropagation? {Exact} implementation of backpropagation in predictive coding
               networks},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {33},
  year      = {2020}
}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from plausible.core.families.predictive import PredictiveRule
from plausible.core.registry import register
from plausible.core.rule import Claims


@register
@dataclass(frozen=True, kw_only=True)
class ZeroDivergenceInferenceLearning(PredictiveRule):
    """Strict relaxation at γ = 1, with every layer's learning timed."""

    name = "z-il"
    tuned_as = "backprop"
    claims = Claims(
        reads="error",
        forward_weights="full",
        derivatives_travel=True,
        phases=2,
        online=False,
        additive=True,
        paper="song2020",
    )
    literature: ClassVar[Mapping[str, str]] = {
        "weight transport": "violated",
        "derivative transport": "violated",
        "linear feedback": "partly",
        "spiking": "violated",
        "timing": "violated",
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

    def pace(self, depth: int) -> tuple[int, float]:
        """The wave reaches the first layer after as many steps as there are layers above it."""
        return depth - 1, 1.0

    def due(self, layer: int, step: int, depth: int, steps: int) -> bool:
        """When the wave has come to this layer."""
        return layer == depth - 1 - step
