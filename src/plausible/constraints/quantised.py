"""Quantised weights: a few bits for each weight, and no more precise copy of it anywhere.

Equation:
    W ← Q(W + ΔW),    Q(w) = clip(⌊w/Δ⌋ + [u < w/Δ − ⌊w/Δ⌋], ±(2^{b−1} − 1)) · Δ,    u ~ U(0, 1)
                                                                          (Gupta et al. 2015)
    Δ = r · s / (2^{b−1} − 1)

What it stands for:
    Memory whose cells have 2^b − 1 levels, zero among them, evenly spaced over a range that is chosen once for each
    layer, as digital neuromorphic chips and resistive cross-point arrays have it. What is stored after each step, as at
    binding, is a level: a change that is smaller than Δ is made in full with the probability ΔW/Δ, and so is not lost
    on average. To the nearest level (``stochastic=False``) it is lost.

Departures:
    Only weights are quantised; biases, activities and messages keep their precision. Gupta et al. choose Δ as a power
    of two; here s is the root mean square of the weight at binding, and r the option ``range``.

Reference: gupta2015

@inproceedings{gupta2015,
  author    = {Gupta, Suyog and Agrawal, Ankur and Gopalakrishnan, Kailash and Narayanan, Pritish},
  title     = {Deep learning with limited numerical precision},
  booktitle = {International Conference on Machine Learning},
  pages     = {1737--1746},
  year      = {2015}
}
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from plausible.core.constraint import Access, Constraint, scale_of
from plausible.core.registry import constraints
from plausible.core.rule import require
from plausible.functional.quantise import quantise


@constraints.register
@dataclass(frozen=True, kw_only=True)
class Quantised(Constraint):
    """What is stored is one of 2^b − 1 levels.

    Attributes:
        bits: b of each weight, 2 (three levels) to 24.
        range: r, the largest weight there is, in units of the weight's root mean square at binding; what would become
            larger stays there.
        stochastic: round up or down by chance, right on average, rather than to the nearest level.
    """

    name = "quantised"

    bits: int = 8
    range: float = 3.0
    stochastic: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        # float32 has 24 bits of its own, and one bit would leave zero alone.
        require(2 <= self.bits <= 24, self, "bits", "a weight has 2 to 24 bits")
        require(self.range > 0, self, "range", "weights need room")

    @property
    def most(self) -> int:
        """The number of levels above zero."""
        return 2 ** (self.bits - 1) - 1

    def keep(self, name: str, weight: Tensor) -> dict[str, Tensor]:
        """The distance Δ from level to level."""
        return {"step": scale_of(self, name, weight) * self.range / self.most}

    def store(self, before: Tensor, after: Tensor, access: Access) -> Tensor:
        """A level."""
        return self.rounded(after, access)

    def rounded(self, weight: Tensor, access: Access) -> Tensor:
        """Q of a weight."""
        draw, uniform = access.generator(device=weight.device), None
        if self.stochastic:
            uniform = torch.rand(weight.shape, generator=draw, device=weight.device, dtype=torch.float32)
        return quantise(weight, access.kept["step"], self.most, uniform)
