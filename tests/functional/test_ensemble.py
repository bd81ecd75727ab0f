"""An ensemble spikes as nengo's does, and can be read."""

import numpy as np
import pytest
import torch

from plausible.functional.ensemble import Ensemble
from plausible.functional.lif import Cell, Membrane
from plausible.functional.nef import on_off
from plausible.functional.synapses import LowPass


def test_its_spikes_and_decoders_are_nengo_s_for_the_same_tuning():
    nengo = pytest.importorskip("nengo")
    with nengo.Network(seed=5) as network:
        stimulus = nengo.Node(lambda t: [np.sin(9 * t), np.cos(5 * t)])
        theirs = nengo.Ensemble(80, 2, radius=1.5)
        nengo.Connection(stimulus, theirs, synapse=None)
        reader = nengo.Connection(theirs, nengo.Node(size_in=1), function=lambda x: x[0] * x[1])
        spikes, inputs = nengo.Probe(theirs.neurons), nengo.Probe(stimulus)
    with nengo.Simulator(network, progress_bar=False, optimize=False) as simulator:
        voltage = torch.from_numpy(simulator.signals[simulator.model.sig[theirs.neurons]["voltage"]].copy())
        simulator.run_steps(500)
        built = simulator.data[theirs]
    ours = Ensemble(80, 2, radius=1.5).double()
    for name in ("encoders", "gain", "bias"):
        setattr(ours, name, torch.from_numpy(np.array(getattr(built, name), float)))
    ours.points = torch.from_numpy(np.array(built.eval_points, float))
    zero = torch.zeros(1, 80, dtype=torch.float64)
    state, fired = Membrane(voltage.unsqueeze(0), zero, zero), []
    for x in torch.from_numpy(simulator.data[inputs].copy()):
        each, state = ours(x.unsqueeze(0), state)
        fired.append(each[0] > 0)
    assert np.array_equal(torch.stack(fired).numpy(), simulator.data[spikes] > 0)
    expected = simulator.data[reader].weights
    found = ours.decoders(lambda x: x[:, :1] * x[:, 1:]).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("d", [1, 3])
def test_a_channel_passes_on_what_it_is_given(d):
    ensemble, synapse = Ensemble(100 * d, d, seed=1), LowPass(0.05)
    x = (2 * torch.rand(8, d, generator=torch.Generator().manual_seed(0)) - 1) / d**0.5  # within the radius
    D, state, read, seen = ensemble.decoders(), None, torch.zeros(8, d), []
    for _ in range(600):
        spikes, state = ensemble(x, state)
        read, _ = synapse.step(read, spikes @ D.t(), 1e-3)
        seen.append(read)
    assert (torch.stack(seen[300:]).mean(0) - x).square().mean().sqrt() < 0.03


def test_error_populations_are_silent_at_zero_and_answer_on_either_side():
    error = Ensemble(40, 2, encoders=on_off(40, 2), intercepts=(0.0, 0.8), max_rates=(100.0, 120.0))
    assert not error.rates(torch.zeros(1, 2)).any()
    on = error.rates(torch.tensor([[0.9, 0.0], [-0.9, 0.0]])) > 0
    assert on.any(1).all() and not (on[0] & on[1]).any()
    read = error.rates(torch.tensor([[0.9, 0.0]])) @ error.decoders().t()
    torch.testing.assert_close(read, torch.tensor([[0.9, 0.0]]), rtol=0, atol=0.1)


def test_the_seed_decides_all_that_is_drawn():
    one, same, other = Ensemble(20, 2, seed=3), Ensemble(20, 2, seed=3), Ensemble(20, 2, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), same.buffers(), strict=True))
    assert not torch.equal(one.gain, other.gain)


def test_rates_above_what_the_refractory_period_allows_are_refused():
    with pytest.raises(ValueError, match="Lower the rates"):
        Ensemble(10, 1, cell=Cell(tau_ref=0.005))
