"""Quantised use: a precise weight is kept and taught, and whatever uses it finds it with a few bits.

Equation:
    use:    W̃ = Q(W)
    write:  W ← clip(W + ΔW, ±r · s),    ΔW learned with W̃ in use         (Courbariaux, Bengio & David 2015, alg. 1)

What it stands for:
    Training beside the hardware, on a machine that keeps a full-precision copy of each weight, adds up small changes
    there, and sends the hardware levels. The straight-through estimator: what is learned at W̃ is applied to W.

Departures:
    Courbariaux et al. have one bit, ±1; here are the levels of ``quantised``, from two bits on.

Reference: courbariaux2015

@inproceedings{courbariaux2015,
  author    = {Courbariaux, Matthieu and Bengio, Yoshua and David, Jean-Pierre},
  title     = {{BinaryConnect}: Training deep neural networks with binary weights during propagations},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {28},
  year      = {2015}
}
"""

from dataclasses import dataclass

from torch import Tensor

from plausible.constraints.quantised import Quantised
from plausible.core.constraint import Access
from plausible.core.registry import constraints


@constraints.register
@dataclass(frozen=True, kw_only=True)
class QuantisedUse(Quantised):
    """What is used is one of 2^b − 1 levels; what is stored is precise, within their range."""

    name = "quantised-use"

    stochastic: bool = False

    def store(self, before: Tensor, after: Tensor, access: Access) -> Tensor:
        """The weight, within the range."""
        end = float(access.kept["step"]) * self.most
        return after.clamp(-end, end)

    def use(self, stored: Tensor, access: Access) -> Tensor:
        """A level."""
        return self.rounded(stored, access)
