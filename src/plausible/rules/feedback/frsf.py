"""Sign symmetry, fixed magnitudes (frSF): current signs on random magnitudes that are drawn once.

Equation:
    B_l = M_lᵀ ∘ sign(W_lᵀ), M ≥ 0 fixed        (Liao et al. 2016; Xiao et al. 2018)

What travels:
    δ_{l+1} goes down through M ∘ sign(W): the signs of the forward weights travel, their magnitudes do not.

Departures:
    M is drawn as Xiao et al. draw it: |N(0, s)| for convolutions and U(0, s) for linear layers, with their scale s
    of the layer. A weight that is exactly zero keeps the sign of its zero (see usf).

Reference: liao2016

@inproceedings{liao2016,
  author    = {Liao, Qianli and Leibo, Joel Z. and Poggio, Tomaso},
  title     = {How important is weight symmetry in backpropagation?},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  volume    = {30},
  year      = {2016}
}
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from plausible.core.families.transport import TransportRule, TransportSite
from plausible.core.registry import register
from plausible.core.rule import Claims, held
from plausible.rules.feedback.fa import random_feedback


@register
@dataclass(frozen=True, kw_only=True)
class FixedRandomSignSymmetry(TransportRule):
    """B = M ∘ sign(W), M fixed."""

    name = "frsf"
    claims = Claims(
        reads="error",
        forward_weights="signs",
        derivatives_travel=True,
        phases=2,
        online=False,
        additive=True,
        paper="liao2016",
    )
    literature = held("~ N N N N N ~ Y ~")
    because: ClassVar[Mapping[str, str]] = {
        "Dale's law": "As for `usf`: the law would make matching signs easy, and the rule does not bring it about.",
    }

    def init(self, weight: Tensor, draw: Callable[[str], torch.Generator], scale: float) -> dict[str, Tensor]:
        """Draw M."""
        return {"M": random_feedback(weight, draw("M"), scale).abs()}

    def feedback(self, weight: Tensor, state: TransportSite) -> Tensor:
        """M with the weight's current signs."""
        return torch.copysign(state["M"], weight)
