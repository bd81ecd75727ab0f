"""Soft LIF units, against the published formulas, finite differences and the statistics of their noise."""

import math

import pytest
import torch
from torch import nn

import plausible
from plausible.core.errors import ConfigurationError
from plausible.functional.lif import Cell
from plausible.models import SoftLIF, build
from plausible.models.soft_lif import CELL

HIS = Cell(tau_rc=0.05, tau_ref=0.001, amplitude=0.063)
X = [-3.0, -0.4, -0.01, 0.0, 0.02, 0.5, 1.0, 4.0]


def literal(x: float, cell: Cell, gamma: float) -> float:
    """r(j) of Hunsberger & Eliasmith (2015), with j - 1 = x; e^{x/γ} does not overflow for these x."""
    rho = gamma * math.log1p(math.exp(x / gamma))
    return cell.amplitude / (cell.tau_ref + cell.tau_rc * math.log1p(1 / rho)) if rho else 0.0


def literal_slope(x: float, cell: Cell, gamma: float) -> float:
    """His derivative: a τ_rc v² / (p (p + 1) (1 + e^{−x/γ})), v = r / a."""
    p = gamma * math.log1p(math.exp(x / gamma))
    v = literal(x, cell, gamma) / cell.amplitude
    return cell.amplitude * cell.tau_rc * v**2 / (p * (p + 1) * (1 + math.exp(-x / gamma)))


@pytest.mark.parametrize(("cell", "gamma"), [(CELL, 0.02), (CELL, 0.1), (HIS, 0.03)])
def test_activities_and_derivatives_are_the_papers(cell, gamma):
    xs = [x for x in X if x > -50 * gamma]  # below, the floor that keeps float32 from overflowing
    x = torch.tensor(xs, dtype=torch.float64, requires_grad=True)
    activity = SoftLIF(cell, gamma=gamma).eval()(x)
    (slope,) = torch.autograd.grad(activity.sum(), x)
    expected = torch.tensor([literal(v, cell, gamma) for v in xs], dtype=torch.float64)
    # From y = 20 torch's softplus is y, and so off by e^-20 / 20 = 1e-10 of it.
    torch.testing.assert_close(activity.detach(), expected, rtol=1e-10, atol=0)
    steep = torch.tensor([literal_slope(v, cell, gamma) for v in xs], dtype=torch.float64)
    torch.testing.assert_close(slope, steep, rtol=1e-8, atol=0)


def test_gain_and_bias_make_the_current_and_gradients_are_those_of_differences():
    unit = SoftLIF(gain=2.0, bias=0.7).eval()
    x = torch.tensor(X, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(unit(x), SoftLIF().eval()(2 * x - 0.3), rtol=1e-12, atol=0)
    assert torch.autograd.gradcheck(unit, (x,), eps=1e-7, atol=1e-6)


def test_a_current_of_twice_the_threshold_is_an_activity_of_one():
    one = torch.ones(1, dtype=torch.float64)
    for activity in (SoftLIF().rate(one), SoftLIF().eval()(one)):
        torch.testing.assert_close(activity, one, rtol=0, atol=1e-4)  # 63.04 Hz is rounded to 10 mHz


def test_noise_is_gaussian_of_so_many_hertz_in_training_only():
    torch.manual_seed(0)
    x = torch.tensor([-1.0, 0.1, 3.0], dtype=torch.float64).expand(100_000, 3)
    unit = SoftLIF(noise=20.0)
    added = (unit(x) - unit.eval()(x)) / CELL.amplitude
    n = len(x)
    assert (added.mean(0).abs() < 5 * 20 / n**0.5).all()
    assert ((added.std(0) / 20 - 1).abs() < 5 / (2 * n) ** 0.5).all()
    fourth = (added / 20).pow(4).mean(0)  # 3 for a Gaussian, with the variance 96 / n
    assert ((fourth - 3).abs() < 5 * (96 / n) ** 0.5).all()
    assert (torch.corrcoef(added.T) - torch.eye(3).double()).abs().max() < 5 / n**0.5
    assert torch.equal(unit(x), unit(x)), "evaluation has no noise"
    quiet = SoftLIF(noise=0.0)
    assert torch.equal(quiet.train()(x), unit(x))


def test_noise_changes_no_slope_and_comes_from_the_global_random_state():
    x = torch.tensor(X, requires_grad=True)
    slopes, activities = [], []
    for unit in (SoftLIF(noise=0.0), SoftLIF(), SoftLIF()):
        torch.manual_seed(3)
        activities.append(unit(x).detach())
        slopes += torch.autograd.grad(unit(x).sum(), x)
    assert torch.equal(slopes[0], slopes[1])
    assert torch.equal(activities[1], activities[2]) and not torch.equal(activities[0], activities[1])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SoftLIF(gamma=0.0), "gamma is 0.0; it must be a number above 0"),
        (lambda: SoftLIF(gain=-1.0), "gain is -1.0"),
        (lambda: SoftLIF(noise=-1.0), "noise is -1.0; it is in Hz"),
        (lambda: SoftLIF(Cell(inc_n=0.1)), "the cell adapts.*Leave inc_n at 0"),
    ],
)
def test_what_it_cannot_be_is_refused(make, said):
    with pytest.raises(ConfigurationError, match=said):
        make()


@pytest.mark.parametrize(("name", "options", "places"), [("mlp", {"depth": 3}, 3), ("avg-conv", {"width": 4}, 3)])
@pytest.mark.parametrize("rule", ["backprop", "fa", "dfa"])
def test_any_rule_trains_models_with_it(name, options, places, rule):
    torch.manual_seed(0)
    model = build(name, shape=(1, 8, 8), classes=3, activation="soft-lif", **options)
    assert sum(isinstance(module, SoftLIF) for module in model.modules()) == places
    y = torch.arange(30) % 3
    x = torch.randn(30, 1, 8, 8) + 2 * torch.randn(3, 1, 8, 8)[y]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    learner = plausible.bind(model, rule, nn.functional.cross_entropy, example=x, optimizer=optimizer)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        losses.append(float(learner.learn(x, y).loss))
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
