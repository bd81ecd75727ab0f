"""Local-derivative feedback alignment (LFA): the error goes back layer by layer through random weights, and no slopes.

Equation:
    e_n = B_{n+1} e_{n+1},    e_N = e = ∂L/∂a_out,    δ_n = e_n ∘ φ′(a_n)        (Hunsberger 2018, "Variants")
    hence e_n = (B_{n+1} ⋯ B_N) e: direct feedback alignment, with the product of the B for its matrix.

What travels:
    e_{n+1} (N, n_{n+1}) goes down through B_{n+1}, kept here as (n_{n+1}, n_n). A cell's slope stays with the cell, in
    the updates of its own synapses; in feedback alignment (see fa) it travels on with δ.

Departures:
    B is N(0, 1/n_n), so that e_n has the norm of the error on average however many hops it has behind it, times
    ``scale`` once: the thesis makes the B orthogonal, and then sets the norm of their products to that of one direct B.
    For convolutions and between whatever blocks, B is dense, from the end of one block to that of the block before (see
    dfa). Beside a skip connection the chain still goes from block to block, in the order in which they ran.

Reference: hunsberger2018

@phdthesis{hunsberger2018,
  author = {Hunsberger, Eric},
  title  = {Spiking Deep Neural Networks: Engineered and Biological Approaches to Object Recognition},
  school = {University of Waterloo},
  year   = {2018}
}
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from plausible.core.errors import CoverageError
from plausible.core.families.broadcast import BroadcastLearner, BroadcastRule, CutSite, Root
from plausible.core.registry import register
from plausible.core.rule import Claims, Inputs, Loss, held


@register
@dataclass(frozen=True, kw_only=True)
class LocalDerivativeFeedbackAlignment(BroadcastRule):
    """A linear chain of fixed random projections, from block to block."""

    name = "lfa"
    claims = Claims(
        reads="error",
        forward_weights="none",
        derivatives_travel=False,
        phases=2,
        online=False,
        additive=True,
        paper="hunsberger2018",
    )
    literature = held("Y Y N N N N ? ? N")

    def bind(self, model: nn.Module, loss: Loss, example: Inputs | None = None) -> BroadcastLearner:
        """Bind to ``model`` in place; see :meth:`BroadcastRule.bind`.

        Raises:
            CoverageError: also if a layer answers more than once in a pass.
        """
        learner = super().bind(model, loss, example)
        for site in learner.sites():
            if len(site.above) > 1:
                learner.release()
                raise CoverageError(
                    f"lfa sends the error down a chain that passes each layer once, and {site.name!r} answers "
                    f"{len(site.above)} times in a pass. Use fa or dfa, or eprop for an rsnn."
                )
        return learner

    def init(self, state: CutSite, draw: Callable[[str], torch.Generator]) -> dict[str, Tensor]:
        """Draw B."""
        n = state.sizes[1]
        return {"B": torch.randn(state.above[-1], n, generator=draw("B")) / n**0.5}

    def teach(self, error: Tensor, state: CutSite, like: Tensor) -> Tensor:
        """One hop: B e."""
        return state.project(error, state["B"], like.shape)

    def signals(self, learner: BroadcastLearner, x: Inputs, message: Tensor, roots: list[Root]) -> list[Tensor | None]:
        """Follow the error down, from the last block to the first."""
        error, found = self.scale * message, []
        for root in reversed(roots):
            error = self.teach(error, root.site, root.end)
            found.insert(0, error)
        return found
