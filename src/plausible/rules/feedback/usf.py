"""Sign symmetry (uSF): the feedback weights have the current signs of the forward weights, in one magnitude per layer.

Equation:
    B_l = s_l · sign(W_lᵀ), from the current weights at every step        (Xiao et al. 2018; Liao et al. 2016)

What travels:
    δ_{l+1} goes down through s·sign(W): the signs of the forward weights travel, their magnitudes do not.

Departures:
    A weight that is exactly zero feeds back +s or −s, by the sign of its zero, where sign(0) = 0 would cut the
    feedback of zero-initialised and pruned weights (copysign costs half of a multiplication by the sign, besides).

Reference: xiao2018

@inproceedings{xiao2018,
  author    = {Xiao, Will and Chen, Honglin and Liao, Qianli and Poggio, Tomaso},
  title     = {Biologically-plausible learning algorithms can scale to large datasets},
  booktitle = {International Conference on Learning Representations},
  year      = {2019},
  note      = {arXiv:1811.03567, 2018}
}
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
class UniformSignSymmetry(TransportRule):
    """B = s · sign(W)."""

    name = "usf"
    claims = Claims(
        reads="error",
        forward_weights="signs",
        derivatives_travel=True,
        phases=2,
        online=False,
        additive=True,
        paper="xiao2018",
    )
    literature = held("~ N N N N N ~ Y ~")
    because: ClassVar[Mapping[str, str]] = {
        "Dale's law": "With one sign for each neuron, matching signs could be wired once for all. The rule does not "
        "bring that about: outgoing weights start with both signs, and change them.",
    }

    def feedback(self, weight: Tensor, state: TransportSite) -> Tensor:
        """The layer's scale with the weight's current signs; nothing is stored."""
        return torch.copysign(state.scale, weight)
