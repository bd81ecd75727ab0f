"""Leaky integrate-and-fire neurons between two steps in closed form, their rates, and derivatives to learn by.

    τ_rc dv/dt = J − v,    a spike at v = 1, then v = 0 for τ_ref                            (LIF)
    τ_rc dv/dt = J − 1,    the same                                           (refractory IF, "linearised")

The current J is constant over a step, so v is known at every moment of it, and so are the moment of the spike and how
much of a later step a neuron is still silent: the mean rate is that of the formula at any dt ≤ τ_ref, and not only for
dt → 0. Voltages and currents are in units of the threshold. A spike is a value of amplitude / dt for one step, whose
integral over time is the amplitude, so that filtered spikes and rates have one unit.

All times are in seconds. Sources: Eliasmith & Anderson (2003) for the rates; Bekolay et al. (2014), whose simulator
resolves spikes within a step in the same way; Hunsberger (2018) for the derivatives.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plausible.functional.neurons import Spike
from plausible.functional.units import seconds


class Membrane(NamedTuple):
    """What neurons remember from step to step; each of one shape (…, n).

    Attributes:
        v: voltage, in units of the threshold.
        silent: seconds, counted from the beginning of the last step, for which the neuron is silent.
        n: adaptation, a current that is taken from J; zeros where nothing adapts.
    """

    v: Tensor
    silent: Tensor
    n: Tensor


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The constants of a population.

    Attributes:
        tau_rc: membrane time constant, in seconds.
        tau_ref: absolute refractory period, in seconds.
        amplitude: integral of one spike over time.
        leak: whether the voltage leaks: LIF, else refractory IF.
        floor: the lowest voltage.
        tau_n: time constant of the adaptation, in seconds.
        inc_n: by how much spikes of 1 Hz raise the adaptation in equilibrium; 0: nothing adapts.

    Raises:
        ValueError: a time that cannot be one in seconds, or an amplitude that is not positive.
    """

    tau_rc: float = 0.02
    tau_ref: float = 0.002
    amplitude: float = 1.0
    leak: bool = True
    floor: float = 0.0
    tau_n: float = 1.0
    inc_n: float = 0.0

    def __post_init__(self) -> None:
        seconds("tau_rc", self.tau_rc)
        seconds("tau_ref", self.tau_ref, zero=True)
        seconds("tau_n", self.tau_n, most=100.0)
        if not self.amplitude > 0:
            raise ValueError(f"amplitude = {self.amplitude!r}: the integral of a spike is a number above 0.")

    def rest(self, *shape: int, like: Tensor, v: Tensor | float = 0.0) -> Membrane:
        """The state of neurons that have never been driven.

        ``v`` (n,) are their voltages: where neurons are driven alike, different ones keep them from firing in step.
        """
        zero = like.new_zeros(shape)
        return Membrane(zero + v, zero, zero)


def step(
    cell: Cell, state: Membrane, current: Tensor, dt: float, spike: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, Membrane]:
    """One step of ``dt`` seconds under a constant current (…, n).

    Args:
        cell: the constants.
        state: before the step.
        current: J.
        dt: in seconds.
        spike: maps v − 1 to 1 above 0 and 0 below, with a pseudo-derivative: then gradients flow through spikes, and
            none through their moments. Without it no gradient does.

    Returns:
        Spikes (…, n), 0 or amplitude / dt, and the state after the step.
    """
    drive = current - state.n if cell.inc_n else current
    awake = (2 * dt - state.silent).clamp_(0, dt)  # seconds of the step in which the neuron is not refractory
    below = 1 - drive
    if cell.leak:
        v = torch.addcmul(drive, state.v - drive, awake.mul_(-1 / cell.tau_rc).exp_())
    else:
        v = torch.addcmul(state.v, below, awake, value=-1 / cell.tau_rc)
    z = None if spike is None else spike(v - 1)
    fired = v > 1 if z is None else z > 0
    with torch.no_grad():
        # For how long from the beginning of this step a neuron that has fired is silent: up to its spike, and τ_ref.
        # Where none has fired this is no time, and not used. log1p of (v − 1) / below would be some .4 ns more
        # precise in single precision, and slower by as much as results/README.md says.
        since = (v - drive).div_(below).log_() if cell.leak else (v - 1).div_(below)
        silent = torch.where(fired, since.mul_(cell.tau_rc).add_(cell.tau_ref + dt), state.silent - dt)
    spikes = (fired.to(v) if z is None else z) * (cell.amplitude / dt)
    n = state.n + (dt / cell.tau_n) * (cell.inc_n * spikes - state.n) if cell.inc_n else state.n
    return spikes, Membrane(v.clamp(min=cell.floor).masked_fill(fired, 0.0), silent, n)


def rate(cell: Cell, current: Tensor) -> Tensor:
    """Spikes per second, times the amplitude, under a current that stays; 0 up to the threshold. Without adaptation."""
    above = (current - 1).clamp(min=0)
    wait = cell.tau_rc * torch.log1p(1 / above) if cell.leak else cell.tau_rc / above
    return cell.amplitude / (cell.tau_ref + wait)


def soft_rate(cell: Cell, current: Tensor, gamma: float = 0.02) -> Tensor:
    """The rate with its corner rounded over ``gamma``, so that it is differentiable everywhere (soft LIF).

    j − 1 becomes γ ln(1 + e^{(j−1)/γ}). Below the threshold it does not fall to 0, but as γ / (τ_rc (1 − j)): to some
    hertz with common constants. Hunsberger & Eliasmith (2015), equation 7.
    """
    above = _softened(current, gamma)
    # ln(1 + 1/ρ), whose gradient does not overflow for the smallest ρ.
    wait = cell.tau_rc * F.softplus(-above.log()) if cell.leak else cell.tau_rc / above
    return cell.amplitude / (cell.tau_ref + wait)


def _softened(current: Tensor, gamma: float) -> Tensor:
    """γ ln(1 + e^{(j−1)/γ}), bounded from below where it would vanish in float32 and its reciprocal overflow."""
    return gamma * F.softplus(((current - 1) / gamma).clamp(min=-80.0))


def slope(cell: Cell, current: Tensor) -> Tensor:
    """The true derivative of :func:`rate`; that of LIF grows without bound towards the threshold from above."""
    above = (current - 1).clamp(min=torch.finfo(current.dtype).tiny)
    if not cell.leak:
        return linearised_slope(cell, current)
    r = rate(cell, current) / cell.amplitude
    found = cell.amplitude * cell.tau_rc * r**2 / (above * (above + 1))
    return torch.where(current > 1, found, 0.0)


def step_slope(cell: Cell, current: Tensor, height: float = 0.33) -> Tensor:
    """height · amplitude / τ_rc above the threshold, 0 below: Hunsberger's choice for spikes, where only the sign of
    the true derivative has to be right."""
    return (current > 1).to(current) * (height * cell.amplitude / cell.tau_rc)


def linearised_slope(cell: Cell, current: Tensor) -> Tensor:
    """The derivative of refractory IF, bounded by amplitude / τ_rc: a τ_rc / (τ_ref (j − 1) + τ_rc)² for j > 1."""
    found = cell.amplitude * cell.tau_rc / (cell.tau_ref * (current - 1) + cell.tau_rc) ** 2
    return torch.where(current > 1, found, 0.0)


def clipped_slope(cell: Cell, current: Tensor, most: float = 1.0) -> Tensor:
    """The true derivative, but no more than ``most`` · amplitude / τ_rc."""
    return slope(cell, current).clamp(max=most * cell.amplitude / cell.tau_rc)


def soft_slope(cell: Cell, current: Tensor, gamma: float = 0.146) -> Tensor:
    """The derivative of :func:`soft_rate`; with this ``gamma`` (and τ_rc = 50, τ_ref = 2 ms) its maximum is that of the
    linearised one."""
    above = _softened(current, gamma)
    r = cell.amplitude / (cell.tau_ref + cell.tau_rc * torch.log1p(1 / above))
    rise = torch.sigmoid((current - 1) / gamma)
    return r**2 / cell.amplitude * cell.tau_rc / (above * (above + 1)) * rise


class Population(nn.Module):
    """Neurons of one kind, for models that are made of modules: :func:`step` with its constants, and a spike through
    which gradients flow.

    Args:
        cell: the constants.
        dt: length of a step, in seconds.

    Raises:
        ValueError: ``dt`` is no time in seconds, or longer than the refractory period, in which a neuron could
            fire more than once in a step.
    """

    def __init__(self, cell: Cell, dt: float = 1e-3) -> None:
        super().__init__()
        seconds("dt", dt)
        if dt > cell.tau_ref > 0:
            raise ValueError(
                f"dt = {dt:g} s is longer than the refractory period, {cell.tau_ref:g} s: a neuron could fire twice in "
                "a step, of which one spike would be lost. Take a smaller dt, or a longer tau_ref."
            )
        self.cell, self.dt, self.spike = cell, dt, Spike()

    def forward(self, current: Tensor, state: Membrane | None = None) -> tuple[Tensor, Membrane]:
        """Spikes and the new state, all (…, n); from rest if there is no state."""
        return step(self.cell, state or self.cell.rest(*current.shape, like=current), current, self.dt, self.spike)

    def extra_repr(self) -> str:
        """For print."""
        return f"{self.cell}, dt={self.dt:g}"
