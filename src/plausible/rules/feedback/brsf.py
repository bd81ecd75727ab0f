"""Sign symmetry, redrawn magnitudes (brSF): current signs on random magnitudes, drawn for every mini-batch.

Equation:
    B_l = M_lᵀ ∘ sign(W_lᵀ), M ≥ 0 drawn anew for each mini-batch        (Liao et al. 2016)

What travels:
    δ_{l+1} goes down through M ∘ sign(W): the signs of the forward weights travel, their magnitudes do not.

Departures:
    M has the distribution of frsf (Xiao et al. 2018). It is drawn in the backward pass from a stream that the
    iteration and the layer's name seed, so nothing is stored, evaluation draws nothing, and a resumed run repeats. The
    stream is that of the weight's device and dtype.

Reference: liao2016
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from plausible.core.families.transport import TransportRule, TransportSite
from plausible.core.registry import register
from plausible.core.rule import Claims, held


@register
@dataclass(frozen=True, kw_only=True)
class BatchRandomSignSymmetry(TransportRule):
    """B = M ∘ sign(W), M drawn for every mini-batch."""

    name = "brsf"
    claims = Claims(
        reads="error",
        forward_weights="signs",
        derivatives_travel=True,
        phases=2,
        online=False,
        additive=False,
        paper="liao2016",
    )
    literature = held("~ N N N N N ~ Y ~")
    because: ClassVar[Mapping[str, str]] = {
        "Dale's law": "As for `usf`: the law would make matching signs easy, and the rule does not bring it about.",
    }

    @property
    def divisible(self) -> bool:
        """All ranks redraw the same magnitudes."""
        return True

    def feedback(self, weight: Tensor, state: TransportSite) -> Tensor:
        """A fresh M with the weight's current signs; drawn where the weight lives, since the draw is the cost."""
        M = self.magnitudes(weight, state) if state.prepared is None else state.prepared
        return torch.copysign(M, weight)

    def prepare(self, weight: Tensor, state: TransportSite) -> None:
        """See :meth:`TransportRule.prepare`; M lies in memory then for all layers at once."""
        state.prepared = self.magnitudes(weight, state)

    def magnitudes(self, weight: Tensor, state: TransportSite) -> Tensor:
        """M of this call, up to its sign."""
        draw = state.generator(weight.device)
        M = torch.empty_like(weight)
        M = M.normal_(generator=draw) if weight.dim() > 2 else M.uniform_(generator=draw)
        return M.mul_(state.scale)
