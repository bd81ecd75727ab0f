"""Sham feedback (Sham): the feedback weight is the forward weight, through all the plumbing of the other rules.

Equation:
    B_l = W_lᵀ, hence back-propagation, to rounding.

What travels:
    δ_{l+1} goes down through a copy of the forward weight: full weight transport, by design.

Departures:
    None. Xiao et al. (2018) use it as the control for their implementation, and so do we: whatever sham does
    otherwise than back-propagation is a fault of the plumbing.

Reference: xiao2018
"""

from dataclasses import dataclass

from torch import Tensor

from plausible.core.families.transport import TransportRule, TransportSite
from plausible.core.registry import register
from plausible.core.rule import Claims, held


@register
@dataclass(frozen=True, kw_only=True)
class Sham(TransportRule):
    """B = W."""

    name = "sham"
    control = "must equal back-propagation"
    tuned_as = "backprop"
    claims = Claims(
        reads="error",
        forward_weights="full",
        derivatives_travel=True,
        phases=2,
        online=False,
        additive=True,
        paper="xiao2018",
    )
    literature = held("N N N N N N ~ Y N")
    scale: float = 1.0  # has no say, so tuning is not to search it

    def feedback(self, weight: Tensor, state: TransportSite) -> Tensor:
        """The weight itself; ``scale`` and ``per_layer`` have no say, as nothing is drawn."""
        return weight
