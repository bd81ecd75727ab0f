"""LIF rates as the activation of an ordinary net, with any of several derivatives to learn by.

    h = a / (τ_ref + τ_rc ln(1 + 1/(j − 1)))  for j > 1, else 0,    j = x + bias

The true derivative grows without bound towards the threshold from above, and a spiking cell could not know it.
Hunsberger (2018) learns by a substitute, of which he asks that its sign be the true derivative's: then every small step
still lowers the loss. All substitutes have the same maximum, height · a / τ_rc, so that none wins by its size. A rule
takes φ′ from the model's activation modules, so that any rule may be given any of them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from plausible.functional import lif
from plausible.functional.lif import Cell

Slope = Callable[[Cell, Tensor], Tensor]


def flat_slope(cell: Cell, current: Tensor) -> Tensor:
    """a / τ_rc for any current: no derivative at all, but for its size. A control: below the threshold, where the true
    derivative is zero, it has another sign."""
    return torch.full_like(current, cell.amplitude / cell.tau_rc)


DERIVATIVES: dict[str, Slope] = {
    "true": lif.slope,
    "step": partial(lif.step_slope, height=1.0),
    "linearised": lif.linearised_slope,
    "clipped": lif.clipped_slope,
    "soft": lif.soft_slope,
    "none": flat_slope,
}
"""By name, ∂h/∂j of a cell under a current. Their maximum is amplitude / τ_rc, but for "true", which has none."""


class _Rate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, current: Tensor, cell: Cell, slope: Slope) -> Tensor:
        ctx.save_for_backward(current)
        ctx.save_for_forward(current)
        ctx.cell, ctx.slope = cell, slope
        return lif.rate(cell, current)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        (current,) = ctx.saved_tensors
        return grads[0] * ctx.slope(ctx.cell, current), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        (current,) = ctx.saved_tensors
        return tangents[0] * ctx.slope(ctx.cell, current)


class LIFRate(nn.Module):
    """Rates of LIF cells, times the amplitude; differentiated as if they had another slope.

    Args:
        cell: the constants. Hunsberger's nets of rates have τ_rc = 50 ms and an amplitude of 0.025 or 0.01.
        derivative: a name in :data:`DERIVATIVES`.
        height: multiplies the derivative.
        bias: a current that always flows, in units of the threshold; with 1, an input of 0 holds a cell exactly there.

    Raises:
        ValueError: no such derivative, or a height that is not positive.
    """

    def __init__(self, cell: Cell, derivative: str = "step", height: float = 1.0, bias: float = 1.0) -> None:
        super().__init__()
        if derivative not in DERIVATIVES:
            raise ValueError(f"derivative = {derivative!r}: it must be one of {', '.join(DERIVATIVES)}.")
        if not height > 0:
            raise ValueError(f"height = {height!r}: the derivative is multiplied by a number above 0.")
        self.cell, self.derivative, self.height, self.bias = cell, derivative, height, bias

    def forward(self, x: Tensor) -> Tensor:
        """The rates for inputs ``x`` of any shape, in it."""
        return _Rate.apply(x + self.bias, self.cell, self.slope)

    def slope(self, cell: Cell, current: Tensor) -> Tensor:
        """What stands for the derivative under a current, bias included; in its shape."""
        return self.height * DERIVATIVES[self.derivative](cell, current)

    def extra_repr(self) -> str:
        """For print."""
        return f"{self.cell}, derivative={self.derivative!r}, height={self.height:g}, bias={self.bias:g}"
