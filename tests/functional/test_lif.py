"""LIF neurons: rates from formula and simulator, every step as nengo's, derivatives from differences."""

import numpy as np
import pytest
import torch

from plausible.functional import lif
from plausible.functional.lif import Cell, Membrane, Population

LIF, IF = Cell(), Cell(leak=False)


def simulated(cell: Cell, current: torch.Tensor, seconds: float, dt: float) -> torch.Tensor:
    """Spikes per second, over so many seconds."""
    state, total = cell.rest(len(current), like=current), torch.zeros_like(current)
    for _ in range(round(seconds / dt)):
        spikes, state = lif.step(cell, state, current, dt)
        total += spikes * dt / cell.amplitude
    return total / seconds


@pytest.mark.parametrize("dt", [1e-3, 2e-3, 0.3e-3])
@pytest.mark.parametrize("cell", [LIF, IF, Cell(tau_rc=0.05, amplitude=0.024)], ids=["lif", "if", "hunsberger"])
def test_twenty_seconds_have_the_spikes_of_the_rate_to_one(cell, dt):
    current = torch.tensor([0.5, 1.0, 1.1, 1.5, 2.0, 5.0, 10.0], dtype=torch.float64)
    expected = lif.rate(cell, current) / cell.amplitude
    assert (simulated(cell, current, 20.0, dt) - expected).abs().max() <= 1 / 20


def test_the_published_rates():
    current = torch.tensor([1.1, 1.5, 2.0, 5.0, 10.0], dtype=torch.float64)
    expected = torch.tensor([20.02, 41.71, 63.04, 154.73, 243.47], dtype=torch.float64)
    torch.testing.assert_close(lif.rate(LIF, current), expected, rtol=0, atol=0.005)


@pytest.mark.parametrize(
    ("cell", "theirs"),
    [
        (LIF, "LIF()"),
        (Cell(tau_rc=0.05, tau_ref=0.003, amplitude=0.024, floor=-1.5),
         "LIF(tau_rc=0.05, tau_ref=0.003, amplitude=0.024, min_voltage=-1.5)"),
        (Cell(inc_n=0.02, tau_n=0.1), "AdaptiveLIF(inc_n=0.02, tau_n=0.1)"),
    ],
    ids=["lif", "other constants", "adaptive"],
)  # fmt: skip
def test_every_step_is_nengo_s(cell, theirs):
    nengo = pytest.importorskip("nengo")
    neurons = eval(f"nengo.{theirs}", {"nengo": nengo})
    draw = np.random.default_rng(0)
    v = draw.uniform(0, 1, 50)
    theirs_state = {"voltage": v.copy(), "refractory_time": np.zeros(50)}
    if cell.inc_n:
        theirs_state["adaptation"] = np.zeros(50)
    zero = torch.zeros(50, dtype=torch.float64)
    state, output = Membrane(torch.from_numpy(v), zero, zero), np.zeros(50)
    count = 0
    for _ in range(1000):
        J = draw.normal(1.2, 2.0, 50)
        neurons.step(1e-3, J, output, **theirs_state)
        spikes, state = lif.step(cell, state, torch.from_numpy(J), 1e-3)
        assert np.array_equal(output > 0, spikes.numpy() > 0)
        np.testing.assert_allclose(spikes.numpy(), output, rtol=1e-12)
        np.testing.assert_allclose(state.v.numpy(), theirs_state["voltage"], rtol=0, atol=1e-12)
        if cell.inc_n:
            np.testing.assert_allclose(state.n.numpy(), theirs_state["adaptation"], rtol=1e-12)
        count += (output > 0).sum()
    assert count > 300


@pytest.mark.parametrize(
    ("of", "derivative"),
    [
        (lif.rate, lif.slope),
        (lif.soft_rate, lambda cell, j: lif.soft_slope(cell, j, gamma=0.02)),
    ],
    ids=["rate", "soft rate"],
)
def test_slopes_are_those_of_differences(of, derivative):
    j = torch.tensor([0.2, 0.9, 1.02, 1.3, 2.0, 7.0], dtype=torch.float64)
    h = 1e-6
    expected = (of(LIF, j + h) - of(LIF, j - h)) / (2 * h)
    torch.testing.assert_close(derivative(LIF, j), expected, rtol=1e-5, atol=1e-6)


def test_linearised_is_the_slope_of_refractory_integrate_and_fire():
    j = torch.tensor([0.5, 1.01, 1.5, 4.0], dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(lif.rate(IF, j).sum(), j)
    torch.testing.assert_close(lif.linearised_slope(LIF, j.detach()), expected)
    torch.testing.assert_close(lif.slope(IF, j.detach()), expected)


def test_soft_rates_are_rates_far_above_the_threshold_and_softer_near_and_below_it():
    j = torch.tensor([3.0], dtype=torch.float64)
    torch.testing.assert_close(lif.soft_rate(LIF, j), lif.rate(LIF, j), rtol=1e-9, atol=1e-9)
    # Far below, ln(1 + 1/ρ) is (1 − j)/γ − ln γ.
    below = torch.tensor([0.0], dtype=torch.float64)
    expected = 1 / (LIF.tau_ref + LIF.tau_rc * (1 / 0.02 - torch.tensor([0.02], dtype=torch.float64).log()))
    torch.testing.assert_close(lif.soft_rate(LIF, below), expected)
    assert lif.soft_rate(LIF, torch.ones(1)) > 0 == lif.rate(LIF, torch.ones(1))


def test_the_substitutes_have_their_maxima():
    """Hunsberger (2018) makes them comparable: all are a / τ_rc at most, the step by its height."""
    cell = Cell(tau_rc=0.05, tau_ref=0.002, amplitude=0.024)
    j = torch.linspace(0, 6, 6001, dtype=torch.float64)
    most = cell.amplitude / cell.tau_rc
    assert lif.linearised_slope(cell, j).max() == pytest.approx(most, rel=1e-3)
    assert lif.clipped_slope(cell, j).max() == pytest.approx(most)
    assert lif.soft_slope(cell, j).max() == pytest.approx(most, rel=0.01)
    assert lif.step_slope(cell, j).max() == pytest.approx(0.33 * most)
    for each in (lif.linearised_slope, lif.clipped_slope, lif.step_slope, lif.slope):
        assert not each(cell, j[j <= 1]).any()


def test_gradients_pass_through_soft_rates_of_any_current():
    j = torch.tensor([-50.0, 0.0, 1.0, 1.5, 80.0], requires_grad=True)
    lif.soft_rate(LIF, j).sum().backward()
    assert j.grad is not None and j.grad.isfinite().all()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Cell(tau_rc=20.0), "for 20 ms give 0.02"),
        (lambda: Cell(tau_rc=0.0), "above 0"),
        (lambda: Cell(amplitude=0.0), "amplitude"),
        (lambda: Population(LIF, dt=1.0), "longer than the refractory period"),
        (lambda: Population(LIF, dt=3.0), "for 3 ms give 0.003"),
    ],
)
def test_what_cannot_be_is_refused_with_the_way_out(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_a_population_is_its_steps():
    current, state = torch.full((3, 4), 1.7), None
    population, by_hand = Population(LIF), LIF.rest(3, 4, like=current)
    for _ in range(30):
        spikes, state = population(current, state)
        expected, by_hand = lif.step(LIF, by_hand, current, 1e-3)
        assert torch.equal(spikes, expected)
