"""Spiking neurons in discrete time: leaky integrate-and-fire (LIF), and with a threshold that adapts (ALIF).

The discrete form is e-prop's (Bellec et al. 2020, Methods, and their code):

    v ← α v + (1 − α) I − ϑ z        α = exp(−dt / τ)
    a ← ρ a + z                      ρ = exp(−dt / τ_a)
    z ← H(v − ϑ − β a)               0 while refractory

where z on the right is the spike of the step before. Times are in seconds. Voltage v, current I, threshold ϑ and β
share one unit, which is the modeller's; a counts spikes.
"""

from math import exp
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


def decay(dt: float, tau: float) -> float:
    """What is left after ``dt`` seconds of what decays with the time constant ``tau`` (seconds): exp(−dt / τ)."""
    return exp(-dt / tau)


def low_pass(trace: Tensor, x: Tensor, factor: float) -> Tensor:
    """One step of a low-pass filter: factor · trace + (1 − factor) · x, of the broadcast shape."""
    return torch.lerp(x, trace, factor)


def membrane(v: Tensor, z: Tensor, current: Tensor, alpha: float, threshold: float) -> Tensor:
    """One step of the leaky voltage, which a spike ``z`` of the step before lowers by the threshold."""
    return low_pass(v, current, alpha) - threshold * z


def adaptation(a: Tensor, z: Tensor, rho: float) -> Tensor:
    """One step of the leaky count of spikes that raises an ALIF neuron's threshold."""
    return rho * a + z


def refractory(r: Tensor, z: Tensor, steps: int) -> Tensor:
    """How many steps each neuron stays silent from now: ``steps`` after a spike, one fewer after each step."""
    return torch.where(z > 0, float(steps), (r - 1).clamp(min=0))


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, gamma: float) -> Tensor:
        ctx.save_for_backward(u)
        ctx.save_for_forward(u)
        ctx.gamma = gamma
        return (u > 0).to(u)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        (u,) = ctx.saved_tensors
        return tangents[0] * ctx.gamma * (1 - u.abs()).clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (u,) = ctx.saved_tensors
        return grads[0] * ctx.gamma * (1 - u.abs()).clamp(min=0), None


class Spike(nn.Module):
    """Where u > 0 a spike (1), elsewhere none (0); its pseudo-derivative is γ max(0, 1 − |u|).

    u, of any shape, is the distance of the voltage from the threshold, in units of the threshold at rest.
    """

    def __init__(self, gamma: float = 0.3) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, u: Tensor) -> Tensor:
        """H(u), in the shape and type of u."""
        return _Spike.apply(u, self.gamma)  # pyright: ignore[reportReturnType]

    def extra_repr(self) -> str:
        """For print."""
        return f"gamma={self.gamma}"


class NeuronState(NamedTuple):
    """What a population remembers from step to step; each (N, n).

    Attributes:
        v: voltage.
        a: leaky count of the neuron's own spikes.
        z: spikes of this step, 0 or 1.
        r: how many of the steps to come the neuron stays silent.
    """

    v: Tensor
    a: Tensor
    z: Tensor
    r: Tensor


class Neurons(nn.Module):
    """A population of n neurons: LIF, and the last ``adaptive`` of them ALIF.

    Args:
        n: how many.
        adaptive: how many of them adapt.
        dt: length of a step, in seconds.
        tau: time constant of the voltage, in seconds.
        tau_a: time constant of the adaptation, in seconds.
        threshold: ϑ, in the unit of the voltage.
        beta: by how much each spike raises the threshold of an ALIF neuron, in the unit of the voltage.
        gamma: height of the pseudo-derivative.
        refractory: for how long a neuron is silent after a spike, in seconds; whole steps.
    """

    adapting: Tensor

    def __init__(
        self,
        n: int,
        *,
        adaptive: int = 0,
        dt: float = 1e-3,
        tau: float = 20e-3,
        tau_a: float = 200e-3,
        threshold: float = 1.0,
        beta: float = 0.0,
        gamma: float = 0.3,
        refractory: float = 0.0,
    ) -> None:
        super().__init__()
        self.n, self.dt, self.threshold, self.rise = n, dt, threshold, beta
        self.alpha, self.rho = decay(dt, tau), decay(dt, tau_a)
        self.silence = round(refractory / dt)
        self.adapts = bool(adaptive) and beta != 0
        # 0 or 1, so that β is exact in every precision that the model is moved to.
        self.register_buffer("adapting", (torch.arange(n) >= n - adaptive).float(), persistent=False)
        self.spike = Spike(gamma)

    @property
    def beta(self) -> Tensor:
        """β of each neuron, (n,): zero of LIF neurons."""
        return self.rise * self.adapting

    def rest(self, rows: int, like: Tensor) -> NeuronState:
        """The state (rows, n) of a population that has never been driven."""
        zero = like.new_zeros(rows, self.n)
        return NeuronState(zero, zero, zero, zero)

    def fire(self, v: Tensor, a: Tensor, r: Tensor) -> Tensor:
        """Spikes at voltage ``v`` and adaptation ``a``, of neurons that are silent where ``r`` > 0; all (N, n)."""
        above = v - self.threshold - self.beta * a if self.adapts else v - self.threshold
        z = self.spike(above / self.threshold)
        return torch.where(r > 0, 0.0, z) if self.silence else z

    def slope(self, v: Tensor, a: Tensor, r: Tensor) -> Tensor:
        """ψ = ∂z/∂v of :meth:`fire`, the pseudo-derivative (N, n): each neuron's own, as z_j depends on v_j alone."""
        with torch.enable_grad():
            v = v.detach().requires_grad_()
            z = self.fire(v, a, r)
            return torch.autograd.grad(z, v, torch.ones_like(z))[0]

    def forward(self, state: NeuronState, current: Tensor) -> NeuronState:
        """One step under the input current (N, n)."""
        v = membrane(state.v, state.z, current, self.alpha, self.threshold)
        a = adaptation(state.a, state.z, self.rho) if self.adapts else state.a
        z = self.fire(v, a, state.r)
        return NeuronState(v, a, z, refractory(state.r, z.detach(), self.silence) if self.silence else state.r)

    def extra_repr(self) -> str:
        """For print."""
        return f"n={self.n}, alpha={self.alpha:.4g}, threshold={self.threshold:g}, adapts={self.adapts}"


class Leak(nn.Module):
    """A leaky readout: y ← κ y + (1 − κ) x, with κ = exp(−dt / τ).

    Args:
        dt: length of a step, in seconds.
        tau: time constant, in seconds.
    """

    def __init__(self, dt: float = 1e-3, tau: float = 20e-3) -> None:
        super().__init__()
        self.kappa = decay(dt, tau)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """The readout after a step in which ``x`` arrived."""
        return low_pass(y, x, self.kappa)

    def extra_repr(self) -> str:
        """For print."""
        return f"kappa={self.kappa:.4g}"
