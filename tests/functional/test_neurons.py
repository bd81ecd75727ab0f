"""Spiking neurons and their traces, against loops over single neurons in plain Python."""

from math import exp

import pytest
import torch
from torch import Tensor

from plausible.functional.eligibility import advance, blank
from plausible.functional.neurons import Leak, Neurons, Spike, decay


def test_decay_is_in_seconds():
    assert decay(1e-3, 20e-3) == pytest.approx(exp(-0.05), rel=1e-12)
    leak = Leak(dt=2e-3, tau=10e-3)
    y = torch.zeros((), dtype=torch.float64)
    for _ in range(5):  # one time constant of a constant input: 1 − 1/e
        y = leak(y, torch.ones((), dtype=torch.float64))
    assert float(y) == pytest.approx(1 - exp(-1), rel=1e-12)


def test_a_spike_is_a_step_with_a_triangle_for_its_slope():
    u = torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.25, 1.0, 3.0], dtype=torch.float64, requires_grad=True)
    z = Spike(gamma=0.4)(u)
    assert z.tolist() == [0, 0, 0, 0, 1, 1, 1]
    (slope,) = torch.autograd.grad(z.sum(), u)
    torch.testing.assert_close(slope, torch.tensor([0, 0, 0.2, 0.4, 0.3, 0, 0], dtype=torch.float64))


@pytest.mark.parametrize(("adaptive", "silence"), [(0, 0), (0, 3), (1, 0), (2, 2)])
def test_neurons_are_the_papers_equations(adaptive, silence):
    """v' = α v + (1 − α) I − ϑ z, a' = ρ a + z, z' = H(v' − ϑ − β a'), no spike within ``silence`` steps of another."""
    N, n, T = 3, 2, 60
    draw = torch.Generator().manual_seed(0)
    current = 1.5 * torch.rand(T, N, n, generator=draw, dtype=torch.float64)
    options = {"dt": 1e-3, "tau": 4e-3, "tau_a": 30e-3, "threshold": 0.5, "beta": 0.2, "refractory": silence * 1e-3}
    neurons = Neurons(n, adaptive=adaptive, **options).double()
    state = neurons.rest(N, current)
    states = []
    for t in range(T):
        state = neurons(state, current[t])
        states.append(state)
    spikes = 0
    for i in range(N):
        for j in range(n):
            v = a = z = 0.0
            beta, last = (0.2 if j >= n - adaptive else 0.0), -1000
            for t in range(T):
                a = exp(-1 / 30) * a + z
                v = exp(-1 / 4) * v + (1 - exp(-1 / 4)) * float(current[t, i, j]) - 0.5 * z
                z = float(v > 0.5 + beta * a and t - last > silence)
                last, spikes = (t if z else last), spikes + int(z)
                assert float(states[t].v[i, j]) == pytest.approx(v, rel=1e-10, abs=1e-14)
                assert float(states[t].z[i, j]) == z
                if adaptive:
                    assert float(states[t].a[i, j]) == pytest.approx(a, rel=1e-10, abs=1e-14)
    assert 20 < spikes < N * n * T / 1.5


def test_a_driven_neuron_fires_at_the_rate_of_its_current():
    """Reset is by subtraction, so charge is conserved: over T steps, (1 − α)(Σ I − Σ v) is ϑ for each spike."""
    neurons = Neurons(1, tau=20e-3, threshold=0.2).double()
    current = torch.full((1, 1), 0.9, dtype=torch.float64)
    state, spikes, voltage = neurons.rest(1, current), 0.0, 0.0
    for _ in range(2000):
        before = state
        state = neurons(state, current)
        spikes += float(before.z)
        voltage += float(before.v)
    charge = (1 - neurons.alpha) * (0.9 * 2000 - voltage)
    assert spikes * 0.2 == pytest.approx(charge - float(state.v), rel=1e-9)
    assert spikes > 100


@pytest.mark.parametrize("adaptive", [0, 2, 3])
def test_traces_are_the_papers_equations(adaptive):
    """e = ψ (ε − β ε^a), in loops over the synapses."""
    N, n, m, T, kappa = 2, 3, 4, 9, 0.7
    draw = torch.Generator().manual_seed(1)
    neurons = Neurons(n, adaptive=adaptive, tau=4e-3, tau_a=30e-3, beta=0.3).double()
    pre = torch.rand(T, N, m, generator=draw, dtype=torch.float64)
    psi = torch.rand(T + 1, N, n, generator=draw, dtype=torch.float64)
    psi[0] = 0
    trace = blank(neurons, N, m, pre)
    for t in range(T):
        trace = advance(neurons, trace, pre[t], psi[t + 1], psi[t], kappa)
    expected: Tensor = torch.zeros(N, n, m, dtype=torch.float64)
    for b in range(N):
        for j in range(n):
            beta = 0.3 if j >= n - adaptive else 0.0
            for i in range(m):
                eps = eps_a = bar = 0.0
                for t in range(T):
                    eps_a = float(psi[t, b, j]) * eps + (exp(-1 / 30) - float(psi[t, b, j]) * beta) * eps_a
                    eps = exp(-1 / 4) * eps + (1 - exp(-1 / 4)) * float(pre[t, b, i])
                    bar = kappa * bar + (1 - kappa) * float(psi[t + 1, b, j]) * (eps - beta * eps_a)
                expected[b, j, i] = bar
    torch.testing.assert_close(trace.eligible, expected, rtol=1e-12, atol=1e-15)
