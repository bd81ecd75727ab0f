"""Feedback alignment (FA): the error goes back through fixed random weights, and the forward weights align to them.

Equation:
    δ_l = (B_{l+1} δ_{l+1}) ∘ φ′(a_l),    B fixed and random        (Lillicrap et al. 2016, eq. 3)

What travels:
    δ_{l+1} (N, n_{l+1}) goes down through B_{l+1} (n_l, n_{l+1}), kept here in W's own shape.

Departures:
    B is drawn as Xiao et al. (2018) draw it: N(0, s) for convolutions and U(−s, s) for linear layers, with their
    scale s of the layer (``per_layer=False`` gives s = 1). Lillicrap's B is uniform with a range found by search;
    the field ``scale`` is that search's one dimension.

Reference: lillicrap2016

@article{lillicrap2016,
  author  = {Lillicrap, Timothy P. and Cownden, Daniel and Tweed, Douglas B. and Akerman, Colin J.},
  title   = {Random synaptic feedback weights support error backpropagation for deep learning},
  journal = {Nature Communications},
  volume  = {7},
  pages   = {13276},
  year    = {2016}
}
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from plausible.core.families.transport import TransportRule, TransportSite
from plausible.core.registry import register
from plausible.core.rule import Claims, held


def random_feedback(weight: Tensor, draw: torch.Generator, scale: float) -> Tensor:
    """Xiao's random feedback weight in the shape of ``weight``: N(0, s) for convolutions, U(−s, s) for matrices."""
    if weight.dim() > 2:
        return scale * torch.randn(weight.shape, generator=draw)
    return scale * (2 * torch.rand(weight.shape, generator=draw) - 1)


@register
@dataclass(frozen=True, kw_only=True)
class FeedbackAlignment(TransportRule):
    """B fixed and random."""

    name = "fa"
    claims = Claims(
        reads="error",
        forward_weights="none",
        derivatives_travel=True,
        phases=2,
        online=False,
        additive=True,
        paper="lillicrap2016",
    )
    literature = held("Y N N N N N Y Y N")

    def init(self, weight: Tensor, draw: Callable[[str], torch.Generator], scale: float) -> dict[str, Tensor]:
        """Draw B."""
        return {"B": random_feedback(weight, draw("B"), scale)}

    def feedback(self, weight: Tensor, state: TransportSite) -> Tensor:
        """B, whatever the weight."""
        return state["B"]
