"""Noisy weights: each use of a weight finds it a little off, and each writing misses its mark.

Equation:
    use:    W̃ = W + σ_read · s · ξ,    ξ ~ N(0, 1)                        (Joshi et al. 2020)
    write:  W ← W + ΔW · (1 + σ_write · ξ)                                (Gokmen & Vlasov 2016)

What it stands for:
    Read noise is that of a memory cell's current, in units of the layer's scale s and whatever the weight. Write noise
    is that from pulse to pulse: it grows with what is written, and a weight that is not written keeps its value.

Departures:
    s is the root mean square of the weight at binding, since a conductance range is chosen once; Joshi et al. take the
    largest weight. ξ is drawn once for each call of ``learn`` and shared by its examples, phases and time steps: noise
    that is slow beside a presentation. Evaluations between two calls share a draw too, and so are repeatable. Gokmen &
    Vlasov count pulses, whose noise grows with the root of their number; here a step is one writing.

References: joshi2020, gokmen2016

@article{joshi2020,
  author  = {Joshi, Vinay and Le Gallo, Manuel and Haefeli, Simon and Boybat, Irem and Nandakumar, S. R. and
             Piveteau, Christophe and Dazzi, Martino and Rajendran, Bipin and Sebastian, Abu and
             Eleftheriou, Evangelos},
  title   = {Accurate deep neural network inference using computational phase-change memory},
  journal = {Nature Communications},
  volume  = {11},
  pages   = {2473},
  year    = {2020}
}

@article{gokmen2016,
  author  = {Gokmen, Tayfun and Vlasov, Yurii},
  title   = {Acceleration of deep neural network training with resistive cross-point devices: Design considerations},
  journal = {Frontiers in Neuroscience},
  volume  = {10},
  pages   = {333},
  year    = {2016}
}
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from plausible.core.constraint import Access, Constraint, scale_of
from plausible.core.registry import constraints
from plausible.core.rule import require


@constraints.register
@dataclass(frozen=True, kw_only=True)
class Noisy(Constraint):
    """Gaussian noise on what is read and on what is written.

    Attributes:
        read: σ_read, standard deviation of the read noise, in units of the weight's root mean square at binding.
        write: σ_write, standard deviation of the write noise, as a fraction of the change that is written.
    """

    name = "noisy"

    read: float = 0.1
    write: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("read", "write"):
            require(getattr(self, name) >= 0, self, name, "a standard deviation cannot be negative")

    @property
    def needs_optimizer(self) -> bool:
        """Read noise alone does nothing around a step."""
        return self.write > 0

    def keep(self, name: str, weight: Tensor) -> dict[str, Tensor]:
        """The scale s of the read noise."""
        return {"scale": scale_of(self, name, weight)} if self.read else {}

    def store(self, before: Tensor, after: Tensor, access: Access) -> Tensor:
        """The change, by a factor that is 1 on average."""
        return after + self.write * _xi(after, access) * (after - before) if self.write else after

    def use(self, stored: Tensor, access: Access) -> Tensor:
        """The weight, a little off."""
        return stored + self.read * access.kept["scale"] * _xi(stored, access) if self.read else stored


def _xi(like: Tensor, access: Access) -> Tensor:
    draw = access.generator(device=like.device)
    return torch.randn(like.shape, generator=draw, device=like.device, dtype=torch.float32).to(like)
