"""LIF rates as an activation: values from the formula, gradients by each derivative, in both modes."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn import functional as F

import plausible
from plausible.functional.lif import Cell
from plausible.functional.lif_rate import DERIVATIVES, LIFRate

CELL = Cell(tau_rc=0.05, tau_ref=0.002, amplitude=0.025)
INPUTS = torch.tensor([-3.0, -0.1, 0.0, 0.001, 0.2, 1.0, 8.0], dtype=torch.float64)


def transcribed(name: str, x: np.ndarray) -> np.ndarray:
    """Section "Neuron derivatives" of the thesis, one current after another; j = x + 1."""
    a, rc, ref, gamma = 0.025, 0.05, 0.002, 0.146
    found = []
    for j in x + 1:
        on, top = j > 1, a / rc
        r = 1 / (ref + rc * np.log(1 + 1 / (j - 1))) if on else 0.0
        true = a * rc * r**2 / (j * (j - 1)) if on else 0.0
        rho = gamma * np.log1p(np.exp((j - 1) / gamma))
        soft = 1 / (ref + rc * np.log(1 + 1 / rho))
        found.append(
            {
                "true": true,
                "step": top * on,
                "linearised": a * rc / (ref * (j - 1) + rc) ** 2 * on,
                "clipped": min(true, top),
                "soft": a * rc * soft**2 / (rho * (rho + 1) * (1 + np.exp(-(j - 1) / gamma))),
                "none": top,
            }[name]
        )
    return np.array(found)


@pytest.mark.parametrize("height", [1.0, 2.0])
@pytest.mark.parametrize("derivative", DERIVATIVES)
def test_rates_are_the_formula_s_and_gradients_the_derivative_s(derivative, height):
    x = INPUTS.clone().requires_grad_()
    h = LIFRate(CELL, derivative, height)(x)
    j = INPUTS.numpy() + 1
    with np.errstate(divide="ignore"):
        expected = 0.025 / (0.002 + 0.05 * np.log(1 + 1 / np.maximum(j - 1, 0)))
    np.testing.assert_allclose(h.detach().numpy(), expected, rtol=1e-12)
    (found,) = torch.autograd.grad(h.sum(), x)
    np.testing.assert_allclose(found.numpy(), height * transcribed(derivative, INPUTS.numpy()), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("derivative", DERIVATIVES)
def test_tangents_are_the_same_derivative(derivative):
    module = LIFRate(CELL, derivative)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(module(forward_ad.make_dual(INPUTS, torch.ones_like(INPUTS)))).tangent
    np.testing.assert_allclose(found.numpy(), transcribed(derivative, INPUTS.numpy()), rtol=1e-9, atol=1e-14)


def test_true_is_the_slope_of_differences():
    x, h = torch.tensor([-1.0, 0.05, 0.4, 3.0], dtype=torch.float64), 1e-6
    module = LIFRate(CELL, "true")
    expected = (module(x + h) - module(x - h)) / (2 * h)
    (found,) = torch.autograd.grad(module(x.requires_grad_()).sum(), x)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-8)


def test_only_no_derivative_has_another_sign_than_the_true_one():
    """The thesis' condition for a substitute; soft LIF's is positive below the threshold as well, and fades there."""
    below = torch.linspace(-3, 0, 31, dtype=torch.float64)
    at = {}
    for derivative in DERIVATIVES:
        x = below.clone().requires_grad_()
        (at[derivative],) = torch.autograd.grad(LIFRate(CELL, derivative)(x).sum(), x)
    for derivative in ("true", "step", "linearised", "clipped"):
        assert not at[derivative].any()
    assert (at["none"] == CELL.amplitude / CELL.tau_rc).all()
    assert (at["soft"] > 0).all() and at["soft"][0] < 0.02 * at["none"][0]


@pytest.mark.parametrize("rule", ["backprop", "fa", "dfa", "ifa", "kolen-pollack"])
def test_any_rule_learns_by_it(rule):
    """Twice the height, twice the update of the last hidden layer."""
    updates = []
    for height in (1.0, 2.0):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 9), LIFRate(CELL, "step", height), nn.Linear(9, 3)).double()
        x, y = torch.randn(7, 5, dtype=torch.float64), torch.arange(7) % 3
        optimizer = torch.optim.SGD(model.parameters(), 0.1, weight_decay=0.1)
        learner = plausible.bind(model, rule, F.cross_entropy, example=x, optimizer=optimizer)
        learner.learn(x, y)
        updates.append([p.grad for p in model.parameters()])
    assert updates[0][0].any()
    torch.testing.assert_close(updates[1][0], 2 * updates[0][0], rtol=1e-12, atol=0)
    torch.testing.assert_close(updates[1][2], updates[0][2], rtol=0, atol=0)


def test_it_can_be_copied_pickled_and_printed():
    module = LIFRate(CELL, "soft", height=0.5)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(INPUTS), module(INPUTS))
    assert "derivative='soft', height=0.5" in repr(module)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LIFRate(CELL, "linear"), "true, step, linearised"),
        (lambda: LIFRate(CELL, height=0.0), "above 0"),
    ],
)
def test_what_cannot_be_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
