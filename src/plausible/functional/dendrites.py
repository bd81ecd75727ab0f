"""Cells of several compartments joined by conductances: where a soma's potential rests, and how it gets there.

    du/dt = −g_lk u + Σ_i g_i (v_i − u)

Units: time in ms; conductances per membrane capacitance, in 1/ms; potentials relative to the resting potential, in a
unit of the user's choice. A soma without input rests at 0.
"""

from math import exp

from torch import Tensor


def attenuation(leak: float, conductance: float, *others: float) -> float:
    """The share of a dendrite's potential that reaches the soma at rest: g / (g_lk + g + Σ others).

    Args:
        leak: g_lk.
        conductance: g, that joins the dendrite to the soma.
        others: all other conductances of the soma.
    """
    return conductance / (leak + conductance + sum(others))


def rest(leak: float, *inputs: tuple[float, Tensor]) -> Tensor:
    """The potential at which the soma stays while its inputs do: Σ g_i v_i / (g_lk + Σ g_i).

    Args:
        leak: g_lk.
        inputs: (g_i, v_i) of each input; all v_i of one shape, which is the result's.
    """
    total = leak + sum(g for g, _ in inputs)
    (g, v), *others = inputs
    u = v * (g / total)
    for g, v in others:
        u = u.add(v, alpha=g / total)
    return u


def step(u: Tensor, dt: float, leak: float, *inputs: tuple[float, Tensor]) -> Tensor:
    """The soma's potential after ``dt``, exact if the inputs do not change meanwhile (exponential Euler).

    Args:
        u: the potential now.
        dt: in ms.
        leak, inputs: as for :func:`rest`.
    """
    rate = leak + sum(g for g, _ in inputs)
    return follow(u, rest(leak, *inputs), dt, 1 / rate)


def follow(x: Tensor, goal: Tensor, dt: float, tau: float) -> Tensor:
    """x after ``dt`` of τ dx/dt = goal − x: a low-pass filter with the time constant ``tau`` (both in ms)."""
    return x.lerp(goal, 1 - exp(-dt / tau))
