"""The Neural Engineering Framework: what a population of neurons stands for, and how it is read and taught.

    encode       J_i = gain_i ⟨e_i, x⟩ + bias_i,   a_i = G[J_i]
    decode       x̂ = D a,   D = argmin Σ ‖f(x) − D a(x)‖² + m σ² ‖D‖²,   σ = reg · max a
    dynamics     dx/dt = A x + B u over a synapse τ:   A′ = τ A + I,   B′ = τ B

Rows are examples or streams, n neurons, d dimensions. Learning rules give the change of one step of ``dt`` seconds, for
streams that share their weights its mean over them. Sources: Eliasmith & Anderson (2003); MacNeil & Eliasmith (2011)
for PES; Voelker (2015) for Voja; Oja (1982); Bienenstock, Cooper & Munro (1982). Constants as in Bekolay et al. (2014).
"""

import torch
from torch import Tensor

from plausible.functional.lif import Cell


def gain_bias(cell: Cell, max_rates: Tensor, intercepts: Tensor) -> tuple[Tensor, Tensor]:
    """Gain and bias of LIF neurons that begin to fire at ⟨e, x⟩ = intercept and reach their maximum rate at 1.

    Args:
        cell: the neurons.
        max_rates: (n,), in Hz, below 1/τ_ref.
        intercepts: (n,), below 1.

    Raises:
        ValueError: a rate or an intercept that no neuron can have.
    """
    limit = 1 / cell.tau_ref if cell.tau_ref else float("inf")
    if not bool(((max_rates > 0) & (max_rates < limit)).all()):
        raise ValueError(
            f"max_rates go from {float(max_rates.min()):g} to {float(max_rates.max()):g} Hz: with a refractory period "
            f"of {cell.tau_ref:g} s no neuron fires at {limit:g} Hz (1/tau_ref) or more. Lower the rates."
        )
    if not bool((intercepts < 1).all()):
        raise ValueError(
            f"intercepts go up to {float(intercepts.max()):g}: at ⟨e, x⟩ = 1 a neuron is to fire at its maximum rate, "
            "so that it has to begin below 1."
        )
    pause = 1 / max_rates - cell.tau_ref  # seconds that the voltage takes to the threshold
    top = -1 / torch.expm1(-pause / cell.tau_rc) if cell.leak else 1 + cell.tau_rc / pause
    gain = (top - 1) / (1 - intercepts)
    return gain, 1 - gain * intercepts


def directions(n: int, d: int, draw: torch.Generator, *, ball: bool = False) -> Tensor:
    """n points (n, d), uniform on the unit sphere (encoders), or in the unit ball (points to decode at)."""
    points = torch.randn(n, d, generator=draw, dtype=torch.float64)
    points /= points.norm(dim=1, keepdim=True)
    return points * torch.rand(n, 1, generator=draw, dtype=torch.float64) ** (1 / d) if ball else points


def on_off(n: int, d: int) -> Tensor:
    """Encoders (n, d) along the axes: for each dimension as many neurons for its positive values as for its negative.

    Raises:
        ValueError: n is not a multiple of 2 d.
    """
    if n % (2 * d):
        raise ValueError(f"{n} neurons cannot be shared out to {d} dimensions, on and off: take a multiple of {2 * d}.")
    axes = torch.eye(d, dtype=torch.float64)
    return torch.cat([axes, -axes]).repeat(n // (2 * d), 1)


def decoders(activities: Tensor, targets: Tensor, reg: float = 0.1) -> Tensor:
    """Regularised least squares: D (d, n) that makes ``targets`` (m, d) of the rates ``activities`` (m, n).

    ``reg`` is the standard deviation of the noise to be robust against, as a fraction of the greatest rate. The smaller
    of the two Gram matrices is solved.
    """
    m, n = activities.shape
    noise = m * (reg * activities.abs().max()) ** 2
    if m < n:
        gram = activities @ activities.t()
        gram.diagonal().add_(noise)
        return torch.linalg.solve(gram, targets).t() @ activities
    gram = activities.t() @ activities
    gram.diagonal().add_(noise)
    return torch.linalg.solve(gram, activities.t() @ targets).t()


def dynamics(A: Tensor, B: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """(A′, B′), the transforms of the recurrent and the input connection that make dx/dt = A x + B u over a low-pass
    synapse of ``tau`` seconds. A (d, d), B (d, k)."""
    return tau * A + torch.eye(len(A), dtype=A.dtype, device=A.device), tau * B


def pes(error: Tensor, activity: Tensor, rate: float, dt: float) -> Tensor:
    """Prescribed error sensitivity: ΔD (d, n) = −(rate · dt / n) e aᵀ.

    Args:
        error: (N, d), actual minus wanted.
        activity: (N, n), filtered spikes of the neurons that are decoded.
        rate: learning rate.
        dt: in seconds.
    """
    n, streams = activity.shape[1], len(activity)
    return error.t() @ activity * (-rate * dt / n / streams)


def voja(post: Tensor, decoded: Tensor, scaled: Tensor, scale: Tensor, rate: float, dt: float) -> Tensor:
    """Vector Oja: encoders of active neurons move to what they see, ΔE (n, d) = rate · dt · a (scale x − E).

    Args:
        post: (N, n), filtered spikes.
        decoded: (N, d), the input.
        scaled: (n, d), the encoders as they act, gain included.
        scale: (n,), their length, gain included.
        rate: learning rate.
        dt: in seconds.
    """
    seen = (post * scale).t() @ decoded
    return (seen - post.sum(0).unsqueeze(1) * scaled) * (rate * dt / len(post))


def oja(pre: Tensor, post: Tensor, weights: Tensor, rate: float, dt: float, beta: float = 1.0) -> Tensor:
    """Hebb's product with a decay that bounds it: ΔW (n, m) = rate · dt · (a_post a_preᵀ − β a_post² W).

    Args:
        pre: (N, m), filtered spikes.
        post: (N, n), filtered spikes.
        weights: (n, m).
        rate: learning rate.
        dt: in seconds.
        beta: how strongly weights decay.
    """
    return (post.t() @ pre - beta * post.square().sum(0).unsqueeze(1) * weights) * (rate * dt / len(post))


def bcm(pre: Tensor, post: Tensor, theta: Tensor, rate: float, dt: float) -> Tensor:
    """Bienenstock, Cooper and Munro: ΔW (n, m) = rate · dt · a_post (a_post − θ) a_preᵀ.

    Args:
        pre: (N, m), filtered spikes.
        post: (N, n), filtered spikes.
        theta: (N, n), their slow average, the threshold between depression and potentiation.
        rate: learning rate.
        dt: in seconds.
    """
    return (post * (post - theta)).t() @ pre * (rate * dt / len(post))
