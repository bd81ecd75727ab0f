"""Adaptive DFA: B learns from error and activity, and from the errors at its two ends (Hunsberger 2018)."""

import copy

import numpy as np
import pytest
import torch
from literal import Array, Literal, batch, linears, mlp, slope, softmax
from torch import nn
from torch.nn import functional as F

import plausible
from plausible.core import Learner, registry
from plausible.core.errors import ConfigurationError


def feedback(learner: Learner) -> list[Array]:
    return [v.numpy().copy() for k, v in learner.state_dict().items() if k.endswith(".B")]


def summed(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The thesis' cost: summed over the batch."""
    return F.cross_entropy(output, y, reduction="sum")


def changes(literal: Literal, B: list[Array], x: Array, y: Array, mu: float, nu: float, beta: float) -> list[Array]:
    """ΔB_n / η of the thesis, entry by entry and example by example, with the sign of μ that its program has."""
    found = [np.zeros_like(each) for each in B]
    for example, label in zip(x, y, strict=True):
        h = [example]
        for W, b in zip(literal.W[:-1], literal.b[:-1], strict=True):
            h.append(np.tanh(W @ h[-1] + b))
        e = softmax(literal.W[-1] @ h[-1] + literal.b[-1])
        e[label] -= 1
        for n, each in enumerate(B):
            for li, j in np.ndindex(each.shape):
                e_nj = sum(e[q] * each[q, j] for q in range(len(e)))
                found[n][li, j] += -mu * e[li] * h[n + 1][j] + nu * (e[li] * e_nj - beta * each[li, j] * e_nj**2)
    return found


@pytest.mark.parametrize(
    ("mu", "nu", "beta"),
    [(1.0, 0.0, 1.0), (0.5, 0.0, 0.0), (0.0, 0.1, 0.0), (0.0, 0.1, 1.0), (1.0, 0.1, 0.0), (1.0, 0.2, 0.7)],
    ids=["symmetric", "slower", "hebbian", "oja", "symmetric and hebbian", "symmetric and oja"],
)
def test_weights_and_feedback_step_as_in_the_thesis(mu, nu, beta):
    eta, decay = 0.05, 0.3
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), eta)
    rule = registry.make("adaptive-dfa", mu=mu, nu=nu, beta=beta, decay=decay)
    learner = plausible.bind(model, rule, summed, example=batch()[0], optimizer=optimizer)
    B = feedback(learner)
    start = copy.deepcopy(B)
    literal = Literal(model, lambda W, a, h, e: [B[0].T @ e * slope(a[0]), B[1].T @ e * slope(a[1])])
    for step in range(4):
        x, y = batch(seed=step)
        dB = changes(literal, B, x.numpy(), y.numpy(), mu, nu, beta)
        for k, (dW, db) in enumerate(literal.updates(x, y)):  # of a mean loss
            literal.W[k] -= eta * len(x) * dW
            literal.b[k] -= eta * len(x) * db
        for each, change in zip(B, dB, strict=True):
            each += eta * (change - decay * each)
        optimizer.zero_grad()
        learner.learn(x, y)
        optimizer.step()
        for layer, W, b in zip(linears(model), literal.W, literal.b, strict=True):
            np.testing.assert_allclose(layer.weight.detach().numpy(), W, rtol=1e-10, atol=1e-13)
            np.testing.assert_allclose(layer.bias.detach().numpy(), b, rtol=1e-10, atol=1e-13)
        for ours, theirs in zip(feedback(learner), B, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-13)
    assert all(np.abs(now - then).max() > 1e-3 for now, then in zip(B, start, strict=True))


def test_the_last_feedback_matrix_follows_the_readout_as_kolen_and_pollack_s_does():
    """Equal steps and equal decay: W − B shrinks by exactly (1 − η λ) a step, without momentum or with it decoupled."""
    eta, decay = 0.1, 0.5
    for make in (torch.optim.SGD, torch.optim.AdamW):
        model = mlp()
        optimizer = make(model.parameters(), eta, weight_decay=decay)
        rule = registry.make("adaptive-dfa", decay=0.0)
        learner = plausible.bind(model, rule, F.cross_entropy, example=batch()[0], optimizer=optimizer)
        for step in range(6):
            gap = model[4].weight.detach() - learner.get_parameter("feedback.4.B").detach()
            optimizer.zero_grad()
            learner.learn(*batch(seed=step))
            optimizer.step()
            after = model[4].weight.detach() - learner.get_parameter("feedback.4.B").detach()
            torch.testing.assert_close(after, (1 - eta * decay) * gap, rtol=1e-10, atol=1e-13)


def test_without_learning_it_is_dfa():
    results = []
    for rule in (registry.make("adaptive-dfa", mu=0.0, nu=0.0, decay=0.0), registry.make("dfa")):
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), 0.5)
        learner = plausible.bind(model, rule, F.cross_entropy, example=batch()[0], optimizer=optimizer)
        for step in range(5):
            optimizer.zero_grad()
            learner.learn(*batch(seed=step))
            optimizer.step()
        results.append([*model.parameters(), *feedback(learner)])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(np.asarray(ours.data), np.asarray(theirs.data))


def test_two_calls_accumulate_and_decay_once():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    rule = registry.make("adaptive-dfa", nu=0.3, decay=0.2)
    learner = plausible.bind(model, rule, summed, example=batch()[0], optimizer=optimizer)
    B, literal = feedback(learner), Literal(model, lambda W, a, h, e: [])
    expected = [each * (1 - 0.2) for each in B]
    for seed in (0, 1):
        x, y = batch(seed=seed)
        learner.learn(x, y)
        for each, change in zip(expected, changes(literal, B, x.numpy(), y.numpy(), 1.0, 0.3, 1.0), strict=True):
            each += change
    optimizer.step()
    for ours, theirs in zip(feedback(learner), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-13)


def test_each_token_teaches_the_matrix():
    """Where errors belong to positions, every position is an example."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    x, t = torch.randn(2, 4, 3, dtype=torch.float64), torch.randn(2, 4, 2, dtype=torch.float64)
    flat = copy.deepcopy(model)
    grads = []
    for each, inputs, targets in ((model, x, t), (flat, x.reshape(8, 3), t.reshape(8, 2))):
        optimizer = torch.optim.SGD(each.parameters(), 1.0)
        rule = registry.make("adaptive-dfa", nu=0.5)
        learner = plausible.bind(each, rule, lambda o, t: (o - t).square().sum(), example=inputs, optimizer=optimizer)
        learner.learn(inputs, targets)
        grads.append(learner.get_parameter("feedback.2.B").grad)
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-14)


def test_it_needs_its_optimizer_and_refuses_negative_rates():
    with pytest.raises(ConfigurationError, match="optimizer"):
        plausible.bind(mlp(), "adaptive-dfa", F.cross_entropy, example=batch()[0])
    with pytest.raises(ConfigurationError, match="nu = -0"):
        registry.make("adaptive-dfa", nu=-0.1)
