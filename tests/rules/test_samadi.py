"""Broadcast alignment in spiking nets: its updates from the spikes that were sent, and the curve it takes for the
cells' own. The spikes are held against nengo's in tests/models/test_lif_mlp.py."""

import math

import pytest
import torch
from literal_nef import CLASSES, DT, Observed, alpha, examples, filtered, net
from torch import nn
from torch.nn import functional as F

import plausible
from plausible.core import registry
from plausible.core.errors import ConfigurationError, CoverageError
from plausible.functional import lif
from plausible.functional.lif import Cell
from plausible.models import build
from plausible.rules.spiking.samadi import fitted


def bound(model, **options):
    return plausible.bind(model, registry.make("samadi", **options), F.cross_entropy)


@pytest.mark.parametrize("depth", [1, 2])
def test_updates_are_those_of_the_header_from_the_spikes_that_were_sent(depth):
    model, (x, y) = net(depth, bias=True), examples()
    learner = bound(model, scale=2.0, most=4.0)
    seen, kept = Observed(learner, x, y), learner.state_dict()
    c1, c2 = fitted(model.neurons.cell, 4.0)
    T, N = len(seen.sent["readout"]), len(x)
    # The error, from the readout that the output's spikes make of themselves.
    error = seen.wires["readout.error"]
    for name in (*model.hidden, "readout"):
        sent, current = seen.sent[name], filtered(seen.currents[name], alpha(T))
        expected = torch.zeros_like(seen.grads[f"{name}.weight"])
        bias = torch.zeros_like(seen.grads[f"{name}.bias"])
        for t in range(T):
            for n in range(N):
                for i in range(len(expected)):
                    if name == "readout":
                        post = float(error[t, n, i])
                    else:
                        heard = sum(float(kept[f"feedback.B_{name}"][k, i] * error[t, n, k]) for k in range(CLASSES))
                        rise = float(current[t, n, i])
                        post = heard * (c1 * c2 / math.cosh(c2 * rise) ** 2 if rise > 0 else 0.0)
                    step = post * DT / sent.shape[2] / N
                    expected[i] += step * sent[t, n]
                    bias[i] += step
        assert expected.norm() > 0 and bias.norm() > 0
        torch.testing.assert_close(seen.grads[f"{name}.weight"], expected, rtol=1e-9, atol=1e-16)
        torch.testing.assert_close(seen.grads[f"{name}.bias"], bias, rtol=1e-9, atol=1e-16)


def test_all_layers_hear_the_readout_less_the_target_at_once_and_from_the_first_step_on():
    model, (x, y) = net(2), examples()
    seen = Observed(bound(model), x, y)
    heard = [seen.wires[f"{name}.error"] for name in ("linear1", "linear2", "readout")]
    assert all(torch.equal(each, heard[0]) for each in heard)
    told = F.one_hot(y, CLASSES).double()
    assert torch.equal(seen.wires["target"][0], told)
    torch.testing.assert_close((heard[0] + told)[model.hold // 2 :].mean(0), seen.outcome.output)
    assert torch.equal(heard[0][0], -told), "before any spike has arrived, the readout is 0"


def test_the_curve_is_the_best_of_its_kind():
    """At the least squares, the sum of squares has no slope in c₁ and c₂, and grows in all directions."""
    cell = Cell(tau_rc=0.02, tau_ref=0.002, amplitude=0.01)
    current = torch.linspace(0, 5, 1001, dtype=torch.float64)
    rate = lif.rate(cell, 1 + current)
    best = torch.tensor(fitted(cell, 5.0), dtype=torch.float64)

    def squares(c):
        return (c[0] * torch.tanh(c[1] * current) - rate).square().sum()

    # The steps to the minimum by Newton's method are nothing.
    gradient, curvature = (
        torch.autograd.functional.jacobian(squares, best),
        torch.autograd.functional.hessian(squares, best),
    )
    assert (torch.linalg.solve(curvature, gradient) / best).abs().max() < 1e-6
    assert torch.linalg.eigvalsh(curvature).min() > 0


def test_the_slope_is_the_derivative_of_the_curve_and_none_below_the_threshold():
    feedback = bound(net()).feedback
    current = torch.tensor([-3.0, -0.1, 0.01, 0.5, 2.0, 20.0], dtype=torch.float64, requires_grad=True)
    curve = (feedback.c1 * torch.tanh(feedback.c2 * current)).clamp(min=0)
    (expected,) = torch.autograd.grad(curve.sum(), current)
    torch.testing.assert_close(feedback.slope(current.detach()), expected, rtol=1e-12, atol=1e-15)


def test_feedback_norms_are_as_asked_and_do_not_depend_on_weights():
    one, other = bound(net(2), scale=3.0), bound(net(2, spread=3.0), scale=3.0)
    B = one.state_dict()["feedback.B_linear1"]
    torch.testing.assert_close(B.norm(dim=0).mean(), torch.tensor(3.0).double())
    assert torch.equal(B, other.state_dict()["feedback.B_linear1"])
    assert not torch.equal(B, one.state_dict()["feedback.B_linear2"])


def test_a_call_for_each_step_teaches_what_one_call_teaches():
    (x, y), whole, steps = examples(), bound(net()), bound(net(shown=DT))
    whole.learn(x, y)
    for _ in range(whole.model.hold):
        steps.learn(x, y)
    for a, b in zip(whole.model.parameters(), steps.model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-18)


def test_other_models_are_refused():
    for model in (nn.Sequential(nn.Linear(3, 2)), build("rsnn", shape=(3,), classes=2)):
        with pytest.raises(CoverageError, match=r"samadi teaches layers of LIF neurons.*lif-mlp"):
            bound(model)


@pytest.mark.parametrize("options", [{"scale": 0.0}, {"most": 0.0}])
def test_what_cannot_be_is_refused(options):
    with pytest.raises(ConfigurationError, match="samadi"):
        registry.make("samadi", **options)
