"""Synapses as linear filters, and conduction delays, one step of dt seconds at a time.

    low-pass     h(t) = e^{−t/τ} / τ             τ dy/dt = u − y
    alpha        h(t) = t e^{−t/τ} / τ²          two of them, one behind the other

Both are solved for an input that is constant over a step (zero-order hold), so that nothing depends on dt but the
moments at which one looks. Their integral is 1: what is constant passes unchanged. All times are in seconds.
"""

from dataclasses import dataclass
from math import exp
from typing import NamedTuple

import torch
from torch import Tensor

from plausible.functional.units import seconds


@dataclass(frozen=True)
class LowPass:
    """A low-pass filter with the time constant ``tau``; ``tau`` = 0 passes everything at once.

    Raises:
        ValueError: ``tau`` is no time in seconds.
    """

    tau: float

    def __post_init__(self) -> None:
        seconds("tau", self.tau, zero=True)

    def rest(self, like: Tensor) -> Tensor:
        """The state of a filter that has seen nothing."""
        return torch.zeros_like(like)

    def step(self, y: Tensor, u: Tensor, dt: float) -> tuple[Tensor, Tensor]:
        """(output, new state), in the shape of the input ``u``."""
        y = torch.lerp(u, y, exp(-dt / self.tau)) if self.tau else u
        return y, y


class AlphaState(NamedTuple):
    """The two filters of an alpha synapse, the second of which is its output."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Alpha:
    """An alpha synapse, whose response to a spike is greatest ``tau`` after it.

    Raises:
        ValueError: ``tau`` is no time in seconds.
    """

    tau: float

    def __post_init__(self) -> None:
        seconds("tau", self.tau)

    def rest(self, like: Tensor) -> AlphaState:
        """The state of a filter that has seen nothing."""
        return AlphaState(torch.zeros_like(like), torch.zeros_like(like))

    def step(self, state: AlphaState, u: Tensor, dt: float) -> tuple[Tensor, AlphaState]:
        """(output, new state), in the shape of the input ``u``."""
        left, r = exp(-dt / self.tau), dt / self.tau
        # y(t) = u + e^{−t/τ} (y₀ − u) + (t/τ) e^{−t/τ} (x₀ − u)
        y = torch.lerp(u, state.y, left) + r * left * (state.x - u)
        return y, AlphaState(torch.lerp(u, state.x, left), y)


@dataclass(frozen=True)
class Delay:
    """A conduction delay of ``steps`` steps: what arrives is what was sent so long ago, and before that nothing."""

    steps: int

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"steps = {self.steps}: nothing arrives before it was sent; a delay is 0 steps or more.")

    @classmethod
    def of(cls, delay: float, dt: float) -> "Delay":
        """The delay of ``delay`` seconds, in whole steps.

        Raises:
            ValueError: a time that cannot be one in seconds.
        """
        return cls(round(seconds("delay", delay, zero=True) / seconds("dt", dt)))

    def rest(self, like: Tensor) -> tuple[Tensor, ...]:
        """A line on which nothing is under way."""
        return (torch.zeros_like(like),) * self.steps

    def step(self, line: tuple[Tensor, ...], u: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(what arrives, what is under way then)."""
        return (line[0], (*line[1:], u)) if line else (u, line)
