"""Signed initialisation: fixed feedback that has the signs the forward weights had at the start.

Equation:
    B_l = s_l · sign(W_lᵀ at initialisation), fixed        (Xiao et al. 2018)

What travels:
    δ_{l+1} goes down through B. The signs of the forward weights travel once, before learning.

Departures:
    Xiao's code re-creates B after a model re-initialises its weights; here the weights at ``bind`` count.

Reference: xiao2018
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from plausible.core.families.transport import TransportRule, TransportSite
from plausible.core.registry import register
from plausible.core.rule import Claims, held


@register
@dataclass(frozen=True, kw_only=True)
class SignedInit(TransportRule):
    """B = s · sign(W) at initialisation."""

    name = "signed-init"
    claims = Claims(
        reads="error",
        forward_weights="none",
        derivatives_travel=True,
        phases=2,
        online=False,
        additive=True,
        paper="xiao2018",
    )
    literature = held("~ N N N N N ~ Y N")
    because: ClassVar[Mapping[str, str]] = {
        "weight transport": "Signs are copied once, before learning begins. Learning reads no forward weight.",
    }

    def init(self, weight: Tensor, draw: Callable[[str], torch.Generator], scale: float) -> dict[str, Tensor]:
        """Take the signs, once."""
        return {"B": torch.full_like(weight, scale).copysign_(weight)}

    def feedback(self, weight: Tensor, state: TransportSite) -> Tensor:
        """B, whatever the weight has become."""
        return state["B"]
