"""Inverse nets, which learn to give back the activity of one block of a chain from that of the next."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plausible.core.attach import plain_forward
from plausible.core.chain import Block
from plausible.core.errors import CoverageError
from plausible.core.rule import Rule
from plausible.functional.random import generator

# Elementwise nonlinearities: an inverse net ends with those of the block whose activity it gives back.
NONLINEARITIES = (
    *(nn.Tanh, nn.Sigmoid, nn.ReLU, nn.Hardtanh, nn.Hardsigmoid, nn.Softsign, nn.Softplus, nn.LeakyReLU),
    *(nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish),
)

# An inverse net is dense, however few weights its block has. Beyond this (256 MB in float32, four times that with its
# gradient and Adam's averages) it is hardly what anybody wanted.
LARGEST = 2**26


class Inverse(nn.Module):
    """g: from the activity of a block back to that of the block below, φ(V h + c), with the φ of the block below.

    As a site on the block's layer it changes nothing; it is there to be moved with the model.

    Attributes:
        V: (units below, units), by Glorot & Bengio's uniform distribution from the rule's own generator.
        c: (units below,), zeros at first.
        shape: of one example's activity below.
        called: see :class:`plausible.core.attach.Site`.
    """

    def __init__(self, rule: Rule, block: Block, below: Block, h: Tensor, target: Tensor) -> None:
        """``h`` and ``target`` show the shapes of the activities of ``block`` and of the block ``below``.

        Raises:
            CoverageError: it would have more weights than :data:`LARGEST`.
        """
        super().__init__()
        self.called = False
        self.shape = target.shape[1:]
        n, n_below = h[0].numel(), target[0].numel()
        if n * n_below > LARGEST:
            raise CoverageError(
                f"{rule.name}: the inverse net of {block.name!r}, from {n} units back to {n_below}, would have "
                f"{n * n_below:,} weights, since inverse nets are dense here. Let the layers have fewer units (fewer "
                "channels, larger strides), or take a rule whose feedback is shaped like the weights, such as fa."
            )
        V = torch.empty(n_below, n, dtype=torch.float32)
        nn.init.xavier_uniform_(V, generator=generator(rule.seed, block.name, "V"))
        self.V = nn.Parameter(V.to(h))
        self.c = nn.Parameter(torch.zeros_like(target[0]).flatten())
        self.bend = nn.Sequential(*(deepcopy(module) for module in below.after if isinstance(module, NONLINEARITIES)))

    def forward(self, h: Tensor) -> Tensor:
        """(N, …) as the block answers → (N, …) as the block below does."""
        return self.bend(F.linear(h.flatten(1), self.V, self.c)).unflatten(1, self.shape)

    def run(self, layer: nn.Module, x: Tensor) -> Tensor:
        """The layer's own response."""
        self.called = True
        return plain_forward(layer, x)
