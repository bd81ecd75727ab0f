"""Direct feedback alignment (DFA): the output error goes straight to every layer, through fixed random matrices.

Equation:
    δ_l = (B_l e) ∘ φ′(a_l),    e = ∂L/∂a_L,    B_l fixed and random        (Nøkland 2016, eq. 7)

What travels:
    e (N, n_out) goes to every layer through its own B_l, kept here as (n_out, n_l). Nothing goes from layer to layer.

Departures:
    B_l is N(0, 1/n_l), so that the teaching signal has the norm of the error on average; Nøkland's is uniform with a
    range of its own per experiment. For convolutions B_l is dense, to the end of the block: after normalisation,
    nonlinearity and pooling, whose own derivatives the block applies itself.

Reference: nokland2016

@inproceedings{nokland2016,
  author    = {Nøkland, Arild},
  title     = {Direct feedback alignment provides learning in deep neural networks},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {29},
  year      = {2016}
}
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from plausible.core.families.broadcast import BroadcastRule, CutSite
from plausible.core.registry import register
from plausible.core.rule import Claims, held


@register
@dataclass(frozen=True, kw_only=True)
class DirectFeedbackAlignment(BroadcastRule):
    """A fixed random projection of the error to every layer."""

    name = "dfa"
    anywhere: ClassVar[bool] = True
    claims = Claims(
        reads="error",
        forward_weights="none",
        derivatives_travel=False,
        phases=2,
        online=False,
        additive=True,
        paper="nokland2016",
    )
    literature = held("Y Y N ~ ~ N Y Y N")
    because: ClassVar[Mapping[str, str]] = {
        "spiking": "The literature's half mark is for spiking versions of the rule; on a net of rates nothing spikes.",
        "timing": "One broadcast instead of a sequence of messages is held half a solution. The error still must meet "
        "the activity of its own stimulus: a stimulus late, the update is unrelated to the one in time.",
    }

    def init(self, state: CutSite, draw: Callable[[str], torch.Generator]) -> dict[str, Tensor]:
        """Draw B."""
        n_out, n, _ = state.sizes
        return {"B": torch.randn(n_out, n, generator=draw("B")) * self.scale / n**0.5}

    def teach(self, error: Tensor, state: CutSite, like: Tensor) -> Tensor:
        """B e."""
        return state.project(error, state["B"], like.shape)
