"""Eligibility traces of spiking neurons: what a synapse remembers of its own part in what its neuron did.

In the notation of Bellec et al. (2020), for synapse i → j with the filtered presynaptic activity ε_i = LP_α[x_i], whose
filter is that of the membrane:

    LIF     e_ji = ψ_j ε_i
    ALIF    e_ji = ψ_j (ε_i − β_j ε^a_ji),    ε^a_ji ← ψ_j ε_i + (ρ − ψ_j β_j) ε^a_ji    (ψ and ε of the step before)

with ψ_j = ∂z_j/∂v_j. Where errors are taken of a readout that itself forgets by κ a step, LP_κ[e_ji] meets them.
"""

from typing import NamedTuple

from torch import Tensor

from plausible.functional.neurons import Neurons, low_pass


class Trace(NamedTuple):
    """What the synapses from m cells onto n neurons remember.

    Attributes:
        pre: (N, m), ε.
        adapting: (N, n, m), ε^a; (N, 0) where no neuron adapts.
        eligible: (N, n, m), LP_κ[e].
    """

    pre: Tensor
    adapting: Tensor
    eligible: Tensor


def blank(neurons: Neurons, rows: int, m: int, like: Tensor) -> Trace:
    """Traces of ``rows`` streams that have seen nothing."""
    adapting = (rows, neurons.n, m) if neurons.adapts else (rows, 0)
    return Trace(like.new_zeros(rows, m), like.new_zeros(adapting), like.new_zeros(rows, neurons.n, m))


def taught(signal: Tensor, trace: Trace) -> Tensor:
    """The update (n, m) that learning signals (N, n) make of what is eligible, summed over the streams."""
    return (signal.unsqueeze(2) * trace.eligible).sum(0)


def advance(neurons: Neurons, trace: Trace, pre: Tensor, psi: Tensor, late: Tensor, kappa: float) -> Trace:
    """The traces after a step; ``adapting`` and ``eligible`` are changed in place.

    Args:
        neurons: the postsynaptic population.
        trace: before the step.
        pre: (N, m), what arrived in this step.
        psi: (N, n), ψ in this step.
        late: (N, n), ψ in the step before.
        kappa: what is left of the readout after one step.
    """
    filtered, adapting = low_pass(trace.pre, pre, neurons.alpha), trace.adapting
    reach = filtered.unsqueeze(1)
    # In place: these are the largest tensors there are, and to allocate them costs more than to compute them.
    if neurons.adapts:
        beta, slope = neurons.beta.unsqueeze(1), late.unsqueeze(2)
        adapting.mul_(neurons.rho - slope * beta).addcmul_(slope, trace.pre.unsqueeze(1))
        reach = reach - beta * adapting
    eligible = trace.eligible.mul_(kappa).addcmul_(psi.unsqueeze(2), reach, value=1 - kappa)
    return Trace(filtered, adapting, eligible)
