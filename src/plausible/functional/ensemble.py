"""A population that stands for a vector: encoders, tuning curves, spikes, and decoders for what is wanted of it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from plausible.functional import lif, nef
from plausible.functional.lif import Cell, Membrane


class Ensemble(nn.Module):
    """n LIF neurons for d dimensions, as in the Neural Engineering Framework (Eliasmith & Anderson 2003).

    Everything random comes from ``seed``. All is a buffer: nothing here is taught unless somebody teaches it.

    Args:
        n: neurons.
        d: dimensions.
        cell: their constants.
        dt: length of a step, in seconds.
        radius: the length up to which vectors are represented.
        max_rates: least and greatest rate at x = radius · encoder, in Hz; drawn uniformly between them.
        intercepts: the same for where a neuron begins to fire, in −1 … 1. From 0 upwards, all are silent at x = 0.
        encoders: (n, d), of any length above 0; by default uniform on the sphere.
        seed: of all that is drawn.

    Attributes:
        encoders: (n, d), of length 1.
        gain, bias: (n,).
        points: (m, d), vectors in the ball of the radius, at which decoders are solved.

    Raises:
        ValueError: a rate, an intercept or a time that cannot be.
    """

    encoders: Tensor
    gain: Tensor
    bias: Tensor
    points: Tensor

    def __init__(
        self,
        n: int,
        d: int,
        *,
        cell: Cell | None = None,
        dt: float = 1e-3,
        radius: float = 1.0,
        max_rates: tuple[float, float] = (200.0, 400.0),
        intercepts: tuple[float, float] = (-1.0, 0.9),
        encoders: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.n, self.d, self.radius = n, d, radius
        self.neurons = lif.Population(cell or Cell(), dt)
        draw = torch.Generator().manual_seed(seed)
        encoders = nef.directions(n, d, draw) if encoders is None else encoders.double()
        rates, starts = (low + (high - low) * torch.rand(n, generator=draw, dtype=torch.float64)
                         for low, high in (max_rates, intercepts))  # fmt: skip
        gain, bias = nef.gain_bias(self.cell, rates, starts)
        # As many points as nengo takes.
        points = radius * nef.directions(max(min(max(500 * d, 750), 2500), 2 * n), d, draw, ball=True)
        self.register_buffer("encoders", (encoders / encoders.norm(dim=1, keepdim=True)).float())
        self.register_buffer("gain", gain.float())
        self.register_buffer("bias", bias.float())
        self.register_buffer("points", points.float(), persistent=False)

    @property
    def cell(self) -> Cell:
        """The constants of the neurons."""
        return self.neurons.cell

    def current(self, x: Tensor) -> Tensor:
        """J (N, n) that a vector (N, d) makes."""
        return torch.addcmul(self.bias.to(x), x @ self.encoders.to(x).t(), self.gain.to(x) / self.radius)

    def rates(self, x: Tensor) -> Tensor:
        """The rates (N, n) at constant vectors (N, d), times the amplitude."""
        return lif.rate(self.cell, self.current(x))

    def decoders(self, function: Callable[[Tensor], Tensor] | None = None, reg: float = 0.1) -> Tensor:
        """D (k, n) for a function of the vector, by default the vector: it maps (m, d) to (m, k)."""
        points = self.points.double()  # in single precision the normal equations lose what little they resolve
        solved = nef.decoders(self.rates(points), function(points) if function else points, reg)
        return solved.to(self.encoders)

    def paired(self) -> Tensor:
        """Decoders (d, n) that no one has to solve for: the encoders, times the number that reads a vector of the
        length of the radius, along an axis, at that length on average."""
        axes = self.radius * torch.eye(self.d).to(self.encoders)
        read = (self.rates(axes) - self.rates(-axes)) @ self.encoders
        return self.encoders.t() * (2 * self.radius / read.diagonal().mean())

    def forward(self, x: Tensor, state: Membrane | None = None) -> tuple[Tensor, Membrane]:
        """One step under the vector (N, d): spikes (N, n), and the new state."""
        return self.neurons(self.current(x), state)

    def extra_repr(self) -> str:
        """For print."""
        return f"n={self.n}, d={self.d}, radius={self.radius:g}"
