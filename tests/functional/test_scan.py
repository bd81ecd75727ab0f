"""The scan gives the spikes of the steps, and autograd's gradient through all of them."""

import pytest
import torch

from plausible.functional.neurons import Neurons
from plausible.functional.scan import scan

KINDS = {
    "lif": {},
    "refractory": {"refractory": 3e-3},
    "adaptive": {"adaptive": 5, "beta": 0.3, "tau_a": 0.05},
    "adaptive and refractory": {"adaptive": 7, "beta": 0.3, "refractory": 2e-3},
}


def stepped(neurons, current, state=None):
    state, found = state or neurons.rest(current.shape[1], current), []
    for drive in current:
        state = neurons(state, drive)
        found.append(state.z)
    return torch.stack(found), state


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gamma", [0.3, 1.0])
def test_spikes_states_and_gradients_are_those_of_the_steps(kind, gamma):
    torch.manual_seed(0)
    neurons = Neurons(9, threshold=0.6, gamma=gamma, **KINDS[kind]).double()
    current = (1.5 * torch.randn(60, 4, 9, dtype=torch.float64) + 0.8).requires_grad_()
    read = torch.randn(60, 4, 9, dtype=torch.float64)
    expected, last = stepped(neurons, current)
    (gradient,) = torch.autograd.grad((expected * read).sum(), current)
    spikes, state = scan(neurons, current)
    (ours,) = torch.autograd.grad((spikes * read).sum(), current)
    assert torch.equal(spikes, expected) and spikes.mean() > 0.02
    assert all(torch.equal(a, b) for a, b in zip(state, last, strict=True))
    torch.testing.assert_close(ours, gradient, rtol=0, atol=1e-12)
    assert ours.abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_in_two_parts_is_the_sequence(kind):
    neurons = Neurons(9, threshold=0.6, **KINDS[kind])
    current = 1.5 * torch.randn(40, 4, 9) + 0.8
    whole, last = scan(neurons, current)
    one, state = scan(neurons, current[:17])
    other, end = scan(neurons, current[17:], state)
    assert torch.equal(torch.cat([one, other]), whole)
    assert all(torch.equal(a, b) for a, b in zip(end, last, strict=True))


def test_no_gradient_flows_through_the_state():
    spikes, state = scan(Neurons(3), torch.randn(5, 2, 3, requires_grad=True))
    assert spikes.requires_grad and not any(each.requires_grad for each in state)
