"""Indirect feedback alignment (IFA): the error goes to the first hidden layer, and on through the forward weights.

Equation:
    δ_1 = (B_1 e) ∘ φ′(a_1),    δ_l = (W_l δ_{l−1}) ∘ φ′(a_l)        (Nøkland 2016, eq. 9)

What travels:
    e (N, n_out) goes to the first layer through B_1 (n_out, n_1); its δ goes up through the forward weights, along the
    forward path, as a small change of its activity would.

Departures:
    W_l δ_{l−1} is the tangent of a_l (forward-mode differentiation from B_1 e at a_1), which says what the rule means
    on nets with branches and normalisation too. Where a block pools, the tangent is averaged to the size of the block's
    end; the paper has no such layers. B_1 as in dfa. The tangent costs one more forward pass.

Reference: nokland2016
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

from plausible.core.errors import ConfigurationError, CoverageError
from plausible.core.families.broadcast import BroadcastLearner, BroadcastRule, CutSite, Root
from plausible.core.registry import register
from plausible.core.rule import Claims, Inputs, Loss, held


@register
@dataclass(frozen=True, kw_only=True)
class IndirectFeedbackAlignment(BroadcastRule):
    """A fixed random projection of the error to the first layer, pushed on through the forward weights."""

    name = "ifa"
    claims = Claims(
        reads="error",
        forward_weights="none",
        derivatives_travel=True,
        phases=3,
        online=False,
        additive=True,
        paper="nokland2016",
    )
    literature = held("Y N N ~ ~ N Y Y N")
    because: ClassVar[Mapping[str, str]] = {
        "spiking": "The literature's half mark is for spiking versions of the rule; on a net of rates nothing spikes.",
        "timing": "The push has to meet the activity of its own stimulus: a stimulus late, the update is unrelated to "
        "the one in time.",
        "weight transport": "The push travels up through the forward weights, not down.",
    }
    retraces: ClassVar[bool] = True

    def bind(self, model: nn.Module, loss: Loss, example: Inputs | None = None) -> BroadcastLearner:
        """Bind to ``model`` in place; see :meth:`BroadcastRule.bind`.

        Raises:
            CoverageError: also if the first layer answers more than once in a pass.
        """
        learner = super().bind(model, loss, example)
        calls: list[str] = []
        assert example is not None  # or there would be no learner

        def note(name: str, response: Tensor) -> Tensor:
            calls.append(name)
            return response

        learner.retrace(example, note)
        if calls.count(calls[0]) > 1:
            learner.release()
            raise CoverageError(
                f"ifa sends the error to the first layer, and follows it up from there; {calls[0]!r} answers "
                f"{calls.count(calls[0])} times in a pass: the model is recurrent. Use fa or dfa, or eprop for an rsnn."
            )
        return learner

    def init(self, state: CutSite, draw: Callable[[str], torch.Generator]) -> dict[str, Tensor]:
        """Draw B_1."""
        if state.index > 0:
            return {}
        n_out, _, n = state.sizes
        return {"B": torch.randn(n_out, n, generator=draw("B")) * self.scale / n**0.5}

    def teach(self, error: Tensor, state: CutSite, like: Tensor) -> Tensor:
        """The tangent of the layer before, averaged to the size of the block's end."""
        return _fit(error, like.shape, state.name)

    def signals(self, learner: BroadcastLearner, x: Inputs, message: Tensor, roots: list[Root]) -> list[Tensor | None]:
        """Push B_1 e through the net, and teach each block by the tangent of its layer's response."""
        if not roots:
            return []
        first = roots[0]
        if not first.before:
            raise ConfigurationError(
                f"ifa: the first block, in front of {first.site.name!r}, has no linear or convolutional layer to send "
                "the error to. Freeze what it has (an embedding?) with requires_grad_(False), or use dfa."
            )
        pushed = first.site.project(message, first.site["B"], first.response)
        tangents = {first.before: pushed}

        def trace(name: str, response: Tensor) -> Tensor:
            if name == first.before:
                return forward_ad.make_dual(response, pushed)
            tangent = forward_ad.unpack_dual(response).tangent
            tangents[name] = torch.zeros_like(response) if tangent is None else tangent
            return response

        learner.retrace(x, trace)
        return [self.teach(tangents[root.before], root.site, root.end) for root in roots]


def _fit(tangent: Tensor, shape: torch.Size, name: str) -> Tensor:
    if tangent.numel() == shape.numel():
        return tangent.reshape(shape)
    channels, spatial = tangent.shape[1], tangent.shape[2:]
    positions = shape[1:].numel() // channels
    if spatial and positions and channels * positions == shape[1:].numel():
        # A block that ends flattened does not show its height and width: take the same shrinkage along each.
        shrink = (spatial.numel() / positions) ** (1 / len(spatial))
        size = list(shape[2:]) or [round(s / shrink) for s in spatial]
        if torch.Size(size).numel() == positions:
            pool = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[len(spatial) - 1]
            return pool(tangent, size).reshape(shape)  # pyright: ignore[reportArgumentType]
    raise ConfigurationError(
        f"ifa: the block in front of {name!r} turns a response of shape {tuple(tangent.shape)} into {tuple(shape)}, "
        "and the rule does not say how a teaching signal follows it there. Use dfa for this model."
    )
