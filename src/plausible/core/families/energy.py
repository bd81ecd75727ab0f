"""Rules whose activity relaxes under a teacher's influence, and whose synapses learn from where it comes to rest.

The model is a chain of blocks, and each block's end is a population with an activity of its own. Populations send
messages up, through the layers, and down, through the same layers turned round: by a vector-Jacobian product of the
model's own block, hence through Wᵀ, or with ``feedback="random"`` through a fixed random B in W's place.

What is here serves them all; :mod:`plausible.core.families.predictive` has value nodes and errors between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from plausible.core import registry
from plausible.core.attach import attach, full_name, trainable_layers
from plausible.core.chain import Block, chain
from plausible.core.context import Context
from plausible.core.errors import ConfigurationError, CoverageError
from plausible.core.families.sites import TransportSite, layer_scale
from plausible.core.families.transport import TransportRule
from plausible.core.learner import Learner
from plausible.core.rule import Inputs, Loss, Rule, require

MONOTONE = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Hardsigmoid, nn.Softplus, nn.ELU)
"""Nonlinearities under which the dynamics has an energy."""

GEOMETRY = (
    nn.Flatten,
    nn.Unflatten,
    nn.Identity,
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
)
"""What pools or reshapes: done to the current, before the nonlinearity."""


@dataclass(frozen=True, kw_only=True)
class EnergyRule(Rule):
    """A rule that gives every block of a chain an activity of its own, and lets it relax.

    Attributes:
        feedback: what carries messages down: the forward weights themselves, or a fixed random B, drawn as
            feedback alignment's (see ``fa``).
        feedback_scale: multiplies a random B.
    """

    feedback: Literal["symmetric", "random"] = "symmetric"
    feedback_scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.feedback_scale > 0, self, "feedback_scale", "feedback weights need a positive scale")

    def carrier(self) -> TransportRule:
        """The rule that draws B where feedback is random."""
        rule = registry.make("fa", seed=self.seed, scale=self.feedback_scale)
        assert isinstance(rule, TransportRule)
        return rule


class EnergyLearner(Learner):
    """What relaxing learners share: the chain, its feedback, and the synapses' local learning."""

    def __init__(self, model: nn.Module, rule: EnergyRule, loss: Loss) -> None:
        super().__init__(model, rule, loss)
        self.feedback = nn.ModuleDict()
        if rule.feedback == "random":
            # A context of their own: messages are tapped where they are used, and not in the layers as well.
            carrier, own = rule.carrier(), Context()
            for block in chain(model, rule):
                weight, names = block.layer.get_parameter("weight"), (full_name(block.name, "weight"),)
                site = TransportSite(carrier, block.name, weight, layer_scale(block.layer), own, names)
                self.feedback[block.name.replace(".", "/") or "model"] = site
                attach(block.layer, site)

    def blocks(self) -> tuple[Block, ...]:
        """The chain, as the model is now."""
        return chain(self.model, self.rule)

    def tensor(self, x: Inputs) -> Tensor:
        """The stimulus, which a chain takes as one tensor."""
        if not isinstance(x, Tensor):
            raise ConfigurationError(
                f"{self.rule.name}: a chain of layers takes one tensor, and the input is a {type(x).__name__}. "
                "Pass the tensor alone."
            )
        return x

    def teach(self, responses: Sequence[Tensor], directions: Sequence[Tensor]) -> None:
        """Add to the parameters' ``grad`` the local gradient of Σ direction · response; the graph is kept."""
        pairs = [(r, d) for r, d in zip(responses, directions, strict=True) if r.requires_grad]
        taught = [p for p in self.model.parameters() if p.requires_grad]
        if pairs and taught:
            torch.autograd.backward([r for r, _ in pairs], [d for _, d in pairs], retain_graph=True, inputs=taught)

    def report(self) -> dict[str, Any]:
        """See :meth:`Learner.report`: every trainable module learns within its block."""
        return {**super().report(), "covered": [name for name, _ in trainable_layers(self.model)]}

    def feedback_weights(self) -> dict[str, tuple[Tensor, Tensor]]:
        """(W, B) of each layer through which messages have come down, if B is not W."""
        layers = {block.name: block.layer for block in self.blocks()}
        sites = [site for site in self.feedback.values() if isinstance(site, TransportSite) and site.used]
        return {s.name: (layers[s.name].get_parameter("weight").detach(), s["B"]) for s in sites}


class Population:
    """What a block is to the dynamics: a current from below, and a rate that follows from it.

    Attributes:
        name: of its weight layer.
    """

    def __init__(self, block: Block) -> None:
        self.name, self._drive = block.name, block.drive
        self._shape = [module for module in block.after if isinstance(module, GEOMETRY)]
        self._bend = [module for module in block.after if not isinstance(module, GEOMETRY)]

    @staticmethod
    def check(block: Block, rule: Rule) -> None:
        """Raise a :class:`CoverageError` if a module of the block has no place in a dynamics with an energy."""
        for module in (*block.before, *block.after):
            if not isinstance(module, (*MONOTONE, *GEOMETRY)):
                raise CoverageError(
                    f"{rule.name}: the block of {block.name!r} has a {type(module).__name__}, which has no place in a "
                    "dynamics with an energy: it knows pooling, flattening, and monotone nonlinearities that act on "
                    "each unit alone. Leave it out of the model, or take another rule, such as predictive-coding."
                )

    def current(self, h: Tensor) -> Tensor:
        """What it receives from the population below at ``h``: its layer's response, pooled and reshaped."""
        a = self._drive(h)
        for module in self._shape:
            a = module(a)
        return a

    def rate(self, u: Tensor) -> Tensor:
        """How it fires if it receives ``u`` for long: its nonlinearity, clipped to [0, 1]."""
        for module in self._bend:
            u = module(u)
        return u.clamp(0, 1)
