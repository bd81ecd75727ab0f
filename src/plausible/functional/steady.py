"""LIF neurons under a current that seldom changes, in closed form: what :func:`plausible.functional.lif.step` gives.

While the current J lasts, spikes are periodic, and below the threshold the voltage relaxes:

    first spike   t₁ = silent + τ_rc ln((J − v) / (J − 1)),      interval   T = τ_ref + τ_rc ln(J / (J − 1))
    phase         p(t) = 1 + (t − t₁) / T,                       a spike whenever it passes a whole number

A step so moves one number, where the general one does some fifteen things to three. Sensors are such neurons: their
stimulus stays for many steps.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from plausible.functional.lif import Cell, Membrane


class Steady(NamedTuple):
    """The state of neurons since their current last changed; each (N, n) but ``elapsed``.

    Attributes:
        membrane: at that moment.
        current: J since then.
        start: p at that moment.
        phase: p, less the spikes fired since.
        pace: by how much p grows in a step.
        elapsed: (N, 1), steps.
    """

    membrane: Membrane
    current: Tensor
    start: Tensor
    phase: Tensor
    pace: Tensor
    elapsed: Tensor


def rest(cell: Cell, N: int, n: int, *, like: Tensor) -> Steady:
    """The state of neurons that have never been driven."""
    zero = like.new_zeros(N, n)
    return Steady(cell.rest(N, n, like=like), zero, zero, zero, zero, like.new_zeros(N, 1))


def step(cell: Cell, state: Steady, current: Tensor, dt: float) -> tuple[Tensor, Steady]:
    """One step of ``dt`` seconds: spikes (N, n), 0 or amplitude / dt, and the new state.

    Args:
        cell: LIF neurons that do not adapt.
        state: before; nothing of it is changed.
        current: (N, n). The same tensor as in the step before is known not to have changed.
        dt: in seconds.
    """
    if current is not state.current:
        state = begin(cell, membrane(cell, state, dt), current, dt)
    phase = state.phase + state.pace
    spikes = (phase >= 1).to(phase)
    return spikes * (cell.amplitude / dt), state._replace(phase=phase.sub_(spikes), elapsed=state.elapsed + 1)


def begin(cell: Cell, membrane: Membrane, current: Tensor, dt: float) -> Steady:
    """The state when a new current sets in."""
    drives = current > 1
    above = torch.where(drives, current - 1, 1.0)
    silent = (membrane.silent - dt).clamp(min=0)
    interval = cell.tau_ref + cell.tau_rc * torch.log1p(1 / above)
    first = silent + cell.tau_rc * torch.log1p((1 - membrane.v) / above)
    phase = torch.where(drives, 1 - first / interval, 0.0)
    pace = torch.where(drives, dt / interval, 0.0)
    return Steady(membrane, current, phase, phase, pace, current.new_zeros(len(current), 1))


def membrane(cell: Cell, state: Steady, dt: float) -> Membrane:
    """Voltage and silence now, as :func:`plausible.functional.lif.step` would have left them."""
    start, current = state.membrane, state.current
    fired = state.start + state.elapsed * state.pace - state.phase > 0.5
    # Seconds since the voltage was last 0, or as it was at the beginning.
    since = torch.where(
        fired,
        state.phase / state.pace.clamp(min=torch.finfo(current.dtype).tiny) * dt - cell.tau_ref,
        state.elapsed * dt - (start.silent - dt).clamp(min=0),
    )
    v0 = torch.where(fired, 0.0, start.v)
    v = torch.lerp(current, v0, (-since.clamp(min=0) / cell.tau_rc).exp()).clamp(min=cell.floor)
    return Membrane(v, (dt - since).clamp(min=0), start.n)
