"""Weight mirror: between learning steps each layer is fed noise, and its feedback weights learn the response.

Equation:
    ΔB_l = η_B x y_lᵀ,    y_l = W_l x + b_l,    x zero-mean noise        (Akrout et al. 2019, eqs. 8–9)
    E[x yᵀ] = σ² W_lᵀ, so the direction of B tends to Wᵀ.

What travels:
    δ_{l+1} goes down through B. In the mirror phase each layer's own noise x (batch, n_{l−1}) and its response y
    (batch, n_l) meet at the feedback synapse; no weight travels.

Departures:
    y is the layer's own response, before normalisation and nonlinearity, which a layer of any model can show; the
    paper's passes them. A convolution is shown inputs of the size of its kernel, so that each response is of one
    patch and padding plays no part. A step has a fixed fraction of B's norm, and ‖B‖ is held at the norm it was
    drawn with (the norm control in the authors' code rebinds a loop variable and does nothing).

Reference: akrout2019
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from plausible.core.coverage import Coverage
from plausible.core.errors import ConfigurationError, CoverageError
from plausible.core.families.transport import TransportLearner, TransportRule, TransportSite
from plausible.core.ranks import sharded
from plausible.core.registry import register
from plausible.core.rule import Claims, Loss, held, require, tunable
from plausible.functional.random import generator
from plausible.rules.feedback.fa import random_feedback


def correlate(x: Tensor, y: Tensor) -> Tensor:
    """The mirror's Hebbian product, averaged over a batch, in the shape of the weight between x and y.

    Args:
        x: (N, groups, in), what the inputs of each group of outputs were given.
        y: (N, groups, out), what the outputs answered.

    Returns:
        (groups, out, in).
    """
    return torch.einsum("ngo,ngi->goi", y, x) / x.shape[0]


@register
@dataclass(frozen=True, kw_only=True)
class WeightMirror(TransportRule):
    """B learns from the layer's response to noise.

    Attributes:
        noise: standard deviation of the noise.
        mirror_rate: the norm of one mirror step, as a fraction of ‖B‖; its inverse is the number of mirror steps
            over which B averages.
        mirror_batch: number of noise patterns in a mirror step.
        mirror_every: optimiser steps from one mirror phase to the next.
        mirror_steps: mirror steps in one phase.
        warmup: mirror steps before the first learning step.
    """

    name = "weight-mirror"
    claims = Claims(
        reads="error",
        forward_weights="none",
        derivatives_travel=True,
        phases=3,
        online=False,
        additive=True,
        paper="akrout2019",
    )
    literature = held("Y N N N N N ~ Y N")
    noise: float = 0.1
    mirror_rate: float = tunable(0.05, 0.005, 0.5, log=True)
    mirror_batch: int = 128
    mirror_every: int = 1
    mirror_steps: int = 1
    warmup: int = 100

    @property
    def needs_optimizer(self) -> bool:
        """The mirror phase comes after the optimiser's step."""
        return True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("noise", "mirror_rate", "mirror_batch", "mirror_every", "mirror_steps"):
            require(getattr(self, name) > 0, self, name, "it must be positive")
        require(self.warmup >= 0, self, "warmup", "it cannot be negative")

    def init(self, weight: Tensor, draw: Callable[[str], torch.Generator], scale: float) -> dict[str, Tensor]:
        """Draw the B to start from, and note its norm."""
        B = random_feedback(weight, draw("B"), scale)
        return {"B": B, "norm": B.norm()}

    def feedback(self, weight: Tensor, state: TransportSite) -> Tensor:
        """B, as mirrored so far."""
        return state["B"]

    def learner(self, model: nn.Module, loss: Loss, coverage: Coverage) -> TransportLearner:
        """See :meth:`TransportRule.learner`; it has mirrored for ``warmup`` steps.

        Raises:
            CoverageError: a weight is in no layer that could be shown noise.
            ConfigurationError: the model is sharded.
        """
        elsewhere = [name for name in coverage.covered if name not in coverage.layers]
        if elsewhere:
            raise CoverageError(
                f"weight-mirror shows noise to linear and convolutional layers, and {elsewhere[0]!r} is in none. Use "
                "kolen-pollack, which learns feedback for any weight, or fa."
            )
        if sharded(model):
            raise ConfigurationError(
                "weight-mirror shows noise to whole layers, and this model is sharded. Use distribute, which keeps the "
                "model whole on each rank, or another rule."
            )
        learner = super().learner(model, loss, coverage)
        with torch.no_grad():
            for site in learner.sites():
                draw = generator(self.seed, site.name, "warmup")
                for _ in range(self.warmup):
                    self.mirror(coverage.layers[site.name], site, draw)
        return learner

    def adapt(self, layer: nn.Module, state: TransportSite) -> None:
        """The mirror phase, when it is due."""
        if state.context.step % self.mirror_every == 0:
            draw = state.generator(torch.device("cpu"))
            for _ in range(self.mirror_steps):
                self.mirror(layer, state, draw)

    def mirror(self, layer: nn.Module, state: TransportSite, draw: torch.Generator) -> None:
        """One mirror step: noise in, response out, Hebbian change of B, norm restored."""
        B, norm, weight = state["B"], state["norm"], layer.get_parameter("weight")
        groups = layer.groups if isinstance(layer, nn.modules.conv._ConvNd) else 1
        W = weight.reshape(groups, weight.shape[0] // groups, -1)
        x = torch.randn(self.mirror_batch, groups, W.shape[2], generator=draw).to(weight) * self.noise
        y = torch.einsum("goi,ngi->ngo", W, x)
        if isinstance(layer.bias, Tensor):
            y += layer.bias.reshape(groups, -1)
        change = correlate(x, y).reshape(B.shape)
        # The change is measured in units of B, so that the rate needs no retuning from layer to layer
        # (Kunin et al. 2020 found that the absolute rate does).
        B += self.mirror_rate * norm * change / change.norm()
        B *= norm / B.norm()
