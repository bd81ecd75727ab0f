"""A layer of spiking neurons over a whole sequence at once, with the gradient through time written out.

It does what :class:`~plausible.functional.neurons.Neurons` does step by step, and gives the same spikes and the same
gradient; autograd's graph of some ten nodes a step is replaced by one node, whose backward pass is

    ∂z_t = g_t − ϑ ∂v_{t+1} + ∂a_{t+1},      ∂v_t = α ∂v_{t+1} + ψ_t ∂z_t,      ∂a_t = ρ ∂a_{t+1} − β ψ_t ∂z_t

with the pseudo-derivative ψ, zero while a neuron is refractory, and ∂I_t = (1 − α) ∂v_t. What is kept is ψ, one number
for each neuron and step. This is back-propagation through time: a rule that is not to do that must not use it.
"""

from typing import Any

import torch
from torch import Tensor

from plausible.functional.neurons import Neurons, NeuronState


def scan(neurons: Neurons, current: Tensor, state: NeuronState | None = None) -> tuple[Tensor, NeuronState]:
    """Spikes (T, N, n) under currents (T, N, n), and the state after the last step, through which no gradient flows.

    Args:
        neurons: the population.
        current: of all steps.
        state: before the first; at rest by default. No gradient flows into it.
    """
    state = state or neurons.rest(current.shape[1], current)
    spikes, *last = _Scan.apply(current, neurons, *(each.detach() for each in state))  # pyright: ignore[reportGeneralTypeIssues]
    return spikes, NeuronState(*last)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, current: Tensor, neurons: Neurons, v: Tensor, a: Tensor, z: Tensor, r: Tensor) -> Any:
        alpha, threshold, silence = neurons.alpha, neurons.threshold, neurons.silence
        # Voltages and spikes are written where they are kept: to allocate a small tensor costs as much as to fill it.
        voltage, spikes = torch.empty_like(current), torch.empty_like(current)
        beta = neurons.beta.to(current) if neurons.adapts else None
        above = torch.empty_like(current) if beta is not None else voltage
        awake = torch.empty(current.shape, dtype=torch.bool, device=current.device) if silence else None
        for t, (drive, v_t, z_t, u_t) in enumerate(zip(current, voltage, spikes, above, strict=True)):
            torch.lerp(drive, v, alpha, out=v_t).sub_(z, alpha=threshold)
            if beta is not None:
                a = (a * neurons.rho).add_(z)
                torch.addcmul(v_t, beta, a, value=-1, out=u_t)
            torch.gt(u_t, threshold, out=z_t)
            if awake is not None:
                torch.le(r, 0, out=awake[t])
                z_t.mul_(awake[t])
                r = torch.where(z_t > 0, float(silence), (r - 1).clamp_(min=0))
            v, z = v_t, z_t
        if ctx.needs_input_grad[0]:
            # γ max(0, 1 − |u/ϑ − 1|) / ϑ
            psi = (above / threshold).sub_(1).abs_().neg_().add_(1).clamp_(min=0).mul_(neurons.spike.gamma / threshold)
            ctx.save_for_backward(psi.mul_(awake) if awake is not None else psi, beta)
            ctx.constants = alpha, threshold, neurons.rho
        last = v.clone(), a, z.clone(), r
        ctx.mark_non_differentiable(*last)
        return spikes, *last

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        psi, beta = ctx.saved_tensors
        alpha, threshold, rho = ctx.constants
        gradient = torch.empty_like(psi)
        v = torch.zeros_like(psi[0])
        a = torch.zeros_like(v) if beta is not None else None
        for g, psi_t, v_t in zip(grads[0].flip(0), psi.flip(0), reversed(gradient.unbind(0)), strict=True):
            z = torch.sub(g, v, alpha=threshold)
            if a is not None:
                z.add_(a)
            z.mul_(psi_t)
            torch.add(z, v, alpha=alpha, out=v_t)
            if a is not None:
                a = (a * rho).addcmul_(beta, z, value=-1)
            v = v_t
        return gradient.mul_(1 - alpha), None, None, None, None, None
