"""Synapses: impulse responses in closed form, nengo's filters, and what is sent arrives when it should."""

import numpy as np
import pytest
import torch

from plausible.functional.synapses import Alpha, Delay, LowPass

DT = 1e-3


def filtered(synapse, u: torch.Tensor) -> torch.Tensor:
    state, found = synapse.rest(u[0]), []
    for each in u:
        y, state = synapse.step(state, each, DT)
        found.append(y)
    return torch.stack(found)


@pytest.mark.parametrize(("ours", "theirs"), [(LowPass, "Lowpass"), (Alpha, "Alpha")])
@pytest.mark.parametrize("tau", [3e-3, 5e-3, 0.1])
def test_it_is_nengo_s_filter(ours, theirs, tau):
    nengo = pytest.importorskip("nengo")
    u = np.random.default_rng(0).normal(size=(300, 4))
    expected = getattr(nengo, theirs)(tau).filt(u, dt=DT, y0=0)
    np.testing.assert_allclose(filtered(ours(tau), torch.from_numpy(u)).numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("tau", [3e-3, 20e-3])
def test_the_step_response_is_the_integral_of_the_kernel(tau):
    """An input of 1 from t = 0: 1 − e^{−t/τ}, and for alpha 1 − (1 + t/τ) e^{−t/τ}, exactly, at every step."""
    u = torch.ones(200, dtype=torch.float64)
    t = DT * torch.arange(1, 201, dtype=torch.float64) / tau
    torch.testing.assert_close(filtered(LowPass(tau), u), 1 - torch.exp(-t), rtol=0, atol=1e-12)
    torch.testing.assert_close(filtered(Alpha(tau), u), 1 - (1 + t) * torch.exp(-t), rtol=0, atol=1e-12)


def test_a_synapse_without_time_passes_all():
    u = torch.randn(5, 3)
    assert torch.equal(filtered(LowPass(0.0), u), u)


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_what_is_sent_arrives_so_much_later(steps):
    u, delay, found = torch.randn(20, 3), Delay(steps), []
    line = delay.rest(u[0])
    for each in u:
        arrived, line = delay.step(line, each)
        found.append(arrived)
    assert torch.equal(torch.stack(found), torch.cat([torch.zeros(steps, 3), u[: 20 - steps]]))


def test_delays_are_seconds_in_whole_steps():
    assert Delay.of(5e-3, 1e-3) == Delay(5)
    with pytest.raises(ValueError, match=r"for 5 ms give 0\.005"):
        Delay.of(5, 1e-3)
    with pytest.raises(ValueError, match="before it was sent"):
        Delay(-1)


@pytest.mark.parametrize("make", [LowPass, Alpha])
def test_milliseconds_are_refused(make):
    with pytest.raises(ValueError, match=r"for 3 ms give 0\.003"):
        make(3)
