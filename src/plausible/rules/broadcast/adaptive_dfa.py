"""Adaptive direct feedback alignment (ADFA): the matrices that broadcast the error learn, too.

Equation:
    δ_n = e_n ∘ φ′(a_n),    e_n = B_n e,    e = ∂L/∂a_out        (Hunsberger 2018, "Variants")
    ΔB_n = −η [ μ h_n eᵀ − ν (e_n eᵀ − β diag(e_n²) B_n) + λ B_n ]

    symmetric (Baldi et al. 2016)    μ = 1, ν = 0                  B takes the steps of weights from h_n to the output
    Hebbian                          μ = 0, ν = 0.1, β = 0         unstable: B_n eeᵀ only ever adds to B_n
    Oja                              μ = 0, ν = 0.1, β = 1
    and the hybrids, μ = 1 with ν = 0.1.

What travels:
    e (N, n_out) goes to every layer through its own B_n, kept here as (n_out, n_n). The synapse of B_n from output l to
    cell j sees e_l and the cell's activity h_nj, or the error e_nj that reaches it. No weight travels.

Departures:
    B is stepped by the user's own optimiser, in the group of the weight that reads h_n, so that η is that weight's;
    where the optimiser decays weights, B decays by as much again, besides λ. With μ = 1, ν = λ = 0 the last B and the
    readout weight take the same steps, as Kolen and Pollack's do. λ ("decay") is in the author's program and not in the
    thesis, which also prints +μ for that program's −μ, without which B would run from the weights it is to resemble.
    The terms in ν are of second order in the error: the thesis sums over a batch, and under a loss that takes the mean
    over N examples they are N times smaller beside those in μ. B_n starts as dfa's.

Reference: hunsberger2018
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from plausible.core.coverage import Coverage
from plausible.core.families.broadcast import BroadcastLearner, Root
from plausible.core.registry import register
from plausible.core.rule import Claims, Inputs, Loss, held, require
from plausible.rules.broadcast.dfa import DirectFeedbackAlignment


@register
@dataclass(frozen=True, kw_only=True)
class AdaptiveDirectFeedbackAlignment(DirectFeedbackAlignment):
    """A learned projection of the error to every layer.

    Attributes:
        mu: how much B learns from error and activity, relative to the forward weights.
        nu: how much it learns from the errors at its two ends.
        beta: how much of the latter is held back, as in Oja's rule.
        decay: of B, in a step, relative to the learning rate.
    """

    name = "adaptive-dfa"
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
    learns_feedback: ClassVar[bool] = True

    mu: float = 1.0
    nu: float = 0.0
    beta: float = 1.0
    decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("mu", "nu", "beta", "decay"):
            require(getattr(self, name) >= 0, self, name, "it cannot be negative")

    @property
    def divisible(self) -> bool:
        """Oja's term is a product of two errors, which does not grow with the batch as the rest does."""
        return self.nu == 0

    @property
    def needs_optimizer(self) -> bool:
        """B is stepped by the optimiser that steps the weights."""
        return True

    def learner(self, model: nn.Module, loss: Loss, coverage: Coverage) -> "AdaptiveLearner":
        """A learner that trains B."""
        return AdaptiveLearner(model, self, loss, coverage)

    def signals(self, learner: BroadcastLearner, x: Inputs, message: Tensor, roots: list[Root]) -> list[Tensor | None]:
        """B e for each block; on the way, B's own direction is added to its ``grad``."""
        found = []
        with torch.no_grad():
            for root in roots:
                B, signal = root.site["B"], self.teach(message, root.site, root.end)
                ascent = self.ascent(B, message, root.end, signal)
                B.grad = -ascent if B.grad is None else B.grad - ascent
                found.append(signal)
        return found

    def ascent(self, B: Tensor, error: Tensor, activity: Tensor, signal: Tensor) -> Tensor:
        """ΔB / η without its decay, summed over examples or positions."""
        e, h, e_n = error.reshape(-1, B.shape[0]), activity.reshape(-1, B.shape[1]), signal.reshape(-1, B.shape[1])
        oja = e.t() @ e_n - self.beta * e_n.square().sum(0) * B
        return self.nu * oja - self.mu * (e.t() @ h)


class AdaptiveLearner(BroadcastLearner):
    """A broadcast learner whose feedback matrices are parameters."""

    rule: AdaptiveDirectFeedbackAlignment  # pyright: ignore[reportIncompatibleVariableOverride]

    def param_groups(self) -> list[dict[str, Any]]:
        """Each B, to be stepped like the weight that reads its block."""
        return [
            {
                "params": [site["B"]],
                "param_names": [f"feedback.{site.name}.B"],
                "like": self.coverage.layers[site.name].get_parameter("weight"),
            }
            for site in self.sites()
        ]

    def before_step(self) -> None:
        """Let each B decay, once per step."""
        super().before_step()
        for site in self.sites():
            B = site["B"]
            if B.grad is not None:
                B.grad.add_(B.detach(), alpha=self.rule.decay)
