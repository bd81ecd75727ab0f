"""Predictive coding: x_l moves along −ε_l + W_{l+1}ᵀ(φ′ ∘ ε_{l+1}), then weights learn (Whittington & Bogacz 2017)."""

import numpy as np
import pytest
import torch
from literal import Array, assert_updates, batch, convnet, images, linears, mlp, slope, softmax, weights
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.audit import Batch, LearnerSubject
from plausible.audit.criteria.weight_transport import weight_transport
from plausible.core import registry
from plausible.core.errors import ConfigurationError, CoverageError


def literal(model: nn.Module, B: list[Array], x: Tensor, y: Tensor, steps: int, rate: float):
    """One example after another, one layer after another; tanh hidden layers, softmax and cross-entropy."""
    W, b = weights(model)
    depth, total = len(W), [(np.zeros_like(w), np.zeros_like(c)) for w, c in zip(W, b, strict=True)]
    for example, label in zip(x.numpy(), y.numpy(), strict=True):
        values = [example]
        for w, c in zip(W[:-1], b[:-1], strict=True):
            values.append(np.tanh(w @ values[-1] + c))
        for step in range(steps + 1):
            a = [w @ v + c for w, v, c in zip(W, values, b, strict=True)]
            errors = [values[k + 1] - np.tanh(a[k]) for k in range(depth - 1)]
            errors.append(np.eye(len(a[-1]))[label] - softmax(a[-1]))
            inner = [errors[k] * slope(a[k]) for k in range(depth - 1)] + [errors[-1]]
            if step == steps:
                break
            for k in range(depth - 1):
                values[k + 1] = values[k + 1] + rate * (-errors[k] + B[k + 1].T @ inner[k + 1])
        for (dW, db), delta, below in zip(total, inner, values, strict=True):
            dW -= np.outer(delta, below) / len(x)
            db -= delta / len(x)
    return total


@pytest.mark.parametrize("steps", [1, 2, 7, 40])
@pytest.mark.parametrize("feedback", ["symmetric", "random"])
def test_mlp_is_the_papers_equations(feedback, steps):
    model, (x, y) = mlp(), batch()
    learner = plausible.bind(
        model, registry.make("predictive-coding", feedback=feedback, steps=steps, rate=0.2), F.cross_entropy
    )
    B = [v.numpy() for k, v in learner.state_dict().items() if k.endswith(".B")] or weights(model)[0]
    expected = literal(model, B, x, y, steps, 0.2)
    learner.learn(x, y)
    assert_updates(model, expected)


def linear_net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 4), nn.Linear(4, 3)).double()


def half_squared(output: Tensor, y: Tensor) -> Tensor:
    return 0.5 * (output - y).square().sum(1).mean()


def test_equilibrium_of_a_linear_net_solves_the_least_squares_problem():
    """F = ½‖x₁ − W₁x₀‖² + ½‖x₂ − W₂x₁‖² + ½‖y − W₃x₂‖² is least where its normal equations hold."""
    model = linear_net()
    x, y = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    W, b = weights(model)
    expected = [(np.zeros_like(w), np.zeros_like(c)) for w, c in zip(W, b, strict=True)]
    for x0, target in zip(x.numpy(), y.numpy(), strict=True):
        system = np.block([[np.eye(6), np.zeros((6, 4))], [-W[1], np.eye(4)], [np.zeros((3, 6)), W[2]]])
        right = np.concatenate([W[0] @ x0 + b[0], b[1], target - b[2]])
        rest = np.linalg.lstsq(system, right, rcond=None)[0]
        values = [x0, rest[:6], rest[6:]]
        for k, (dW, db) in enumerate(expected):
            error = (values[k + 1] if k < 2 else target) - W[k] @ values[k] - b[k]
            dW -= np.outer(error, values[k]) / 4
            db -= error / 4
    rule = registry.make("predictive-coding", steps=2000, rate=0.3)
    plausible.bind(model, rule, half_squared).learn(x, y)
    assert_updates(model, expected)


def updates(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def gradient(model: nn.Module, loss, x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss(model(x), y), list(model.parameters()))])


def test_small_errors_teach_as_back_propagation_and_large_ones_do_not():
    """What strict predictive coding does otherwise is of second order in the error."""
    model, (x, y) = mlp(), batch()
    off = []
    for size in (1.0, 1e-3, 1e-4):

        def loss(output: Tensor, y: Tensor, size: float = size) -> Tensor:
            return size * F.cross_entropy(output, y)

        exact = gradient(model, loss, x, y)
        model.zero_grad()
        rule = registry.make("predictive-coding", steps=400, rate=0.2)
        learner = plausible.bind(model, rule, loss)
        learner.learn(x, y)
        off.append(float((updates(model) - exact).norm() / exact.norm()))
        plausible.release(learner)
    assert off[0] > 0.05, "the control: strict predictive coding is not back-propagation"
    assert off[1] < 1e-3 and 8 < off[1] / off[2] < 12


# --- what it needs --------------------------------------------------------------------------------------------------


def wide() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(30, 28), nn.Tanh(), nn.Linear(28, 26), nn.Sigmoid(), nn.Linear(26, 4))


def test_weights_are_transported_unless_feedback_is_random():
    for feedback, verdict in (("symmetric", "violated"), ("random", "solved")):
        rule = registry.make("predictive-coding", feedback=feedback, steps=8)
        torch.manual_seed(1)
        examples = Batch(torch.randn(4, 30), torch.randint(4, (4,)), 4)
        finding = weight_transport(LearnerSubject(plausible.bind(wide(), rule, F.cross_entropy)), examples)
        assert finding.verdict == verdict, finding.sentence
        assert finding.value is not None and (finding.value > 0.1 if verdict == "violated" else finding.value < 1e-12)


class Steeper(torch.autograd.Function):
    """The identity, with a derivative of 2."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, *grads):
        return 2 * grads[0]


def test_a_derivative_travels_to_the_layers_upstream_of_its_own():
    found = []
    for steeper in (False, True):
        model, (x, y) = mlp(), batch()
        if steeper:
            model[3].register_forward_hook(lambda module, inputs, output: Steeper.apply(output))
        plausible.bind(model, registry.make("predictive-coding", steps=3), F.cross_entropy).learn(x, y)
        found.append([layer.weight.grad for layer in linears(model)])
    assert all(not torch.allclose(a, b, rtol=1e-3) for a, b in zip(found[0][:2], found[1][:2], strict=True))


@pytest.mark.parametrize("feedback", ["symmetric", "random"])
def test_every_message_passes_its_wire_at_every_step(feedback):
    model, (x, y) = mlp(), batch()
    learner = plausible.bind(model, registry.make("predictive-coding", feedback=feedback, steps=5), F.cross_entropy)
    heard = []
    learner.context.tap = lambda name, message, source, target: heard.append((name, source, target)) or message
    learner.learn(x, y)
    error, second, third = ("error", "teacher", "output"), ("2.feedback", "2", "0"), ("4.feedback", "4", "2")
    assert heard == [error, second, third] * 5 + [error]


def test_convolutional_chain_is_autograd_on_the_energy():
    """Literal descent on the energy, differentiated as a whole, instead of messages between blocks."""
    model, (x, y) = convnet(), images()
    blocks = [model[:2], model[2:4], model[4:]]
    values = [blocks[0](x).detach(), blocks[1](blocks[0](x)).detach()]

    def energy(values: list[Tensor]) -> Tensor:
        h = [x, *values]
        hidden = sum(
            0.5 * (v - block(below)).square().sum() for v, block, below in zip(values, blocks, h, strict=False)
        )
        return hidden + F.cross_entropy(blocks[2](h[2]), y, reduction="sum")

    for _ in range(6):
        leaves = [v.requires_grad_() for v in values]
        slopes = torch.autograd.grad(energy(leaves), leaves)
        values = [(v - 0.1 * g).detach() for v, g in zip(leaves, slopes, strict=True)]
    expected = torch.autograd.grad(energy(values) / len(x), list(model.parameters()))
    plausible.bind(model, registry.make("predictive-coding", steps=6, rate=0.1), F.cross_entropy).learn(x, y)
    for p, e in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, e, rtol=1e-11, atol=1e-14)


# --- what it cannot do ----------------------------------------------------------------------------------------------


def test_running_statistics_see_a_batch_once():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4))
    (x, y), norm = batch(), model.double()[3]
    a = model[:3](x).detach()
    plausible.bind(model, "predictive-coding", F.cross_entropy).learn(x, y)
    torch.testing.assert_close(norm.running_mean, 0.1 * a.mean(0), rtol=1e-12, atol=1e-14)
    assert int(norm.num_batches_tracked) == 1


def test_what_it_cannot_teach_is_refused_with_a_way_out():
    with pytest.raises(CoverageError, match=r"'0' has a Dropout.*leave it out"):
        plausible.bind(
            nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.5), nn.Linear(4, 2)), "predictive-coding", F.cross_entropy
        )
    with pytest.raises(ConfigurationError, match="rate = 2"):
        registry.make("predictive-coding", rate=2.0)
    with pytest.raises(ConfigurationError, match="steps = 0"):
        registry.make("predictive-coding", steps=0)
    learner = plausible.bind(mlp(), "predictive-coding", F.cross_entropy)
    with pytest.raises(ConfigurationError, match="one tensor"):
        learner.learn({"input": batch()[0]}, batch()[1])
