"""Simplified difference target propagation: the label is the output's target, and an inverse net carries it down."""

import numpy as np
import pytest
import torch
from literal import Array, batch, linears, mlp, slope, softmax, weights
from test_dtp import SIZES, assert_close, bind, gradient, inverses, noise
from torch import Tensor
from torch.nn import functional as F

import plausible
from plausible.audit import Batch, LearnerSubject
from plausible.audit.criteria.weight_transport import weight_transport
from plausible.core.errors import ConfigurationError


def test_one_call_is_the_papers_equations():
    sigma = 0.3
    model, (x, y) = mlp(SIZES), batch()
    learner, _ = bind(model, "sdtp", noise=sigma)
    g = inverses(learner)
    assert {k: V.shape for k, (V, _) in g.items()} == {"2": (7, 6), "4": (6, 8), "6": (8, 4)}
    back = {1: g["2"], 2: g["4"], 3: g["6"]}  # by the place of the layer that it undoes
    W, b = weights(model)
    N = len(x)
    dW, db = [np.zeros_like(w) for w in W], [np.zeros_like(v) for v in b]
    dV, dc = {k: np.zeros_like(V) for k, (V, _) in back.items()}, {k: np.zeros_like(c) for k, (_, c) in back.items()}
    drawn = {k: noise("sdtp", str(2 * k), (N, len(W[k - 1]))) for k in back}

    def answer(k: int, h: Array) -> tuple[Array, Array]:
        a = np.einsum("ij,j->i", W[k], h) + b[k]
        return a, softmax(a) if k == 3 else np.tanh(a)

    for n in range(N):
        h, a = [x[n].numpy()], []
        for k in range(4):
            drive, activity = answer(k, h[k])
            a.append(drive)
            h.append(activity)
        t = {3: np.eye(4)[y[n]]}
        for k in (2, 1, 0):
            V, c = back[k + 1]
            t[k] = h[k + 1] + np.tanh(V @ t[k + 1] + c) - np.tanh(V @ h[k + 2] + c)
        delta = {k: 2 * (h[k + 1] - t[k]) * slope(a[k]) / N for k in (0, 1, 2)}
        delta[3] = (h[4] - t[3]) / N  # of the cross-entropy
        for k, d in delta.items():
            dW[k] += np.einsum("i,j->ij", d, h[k])
            db[k] += d
        for k, (V, c) in back.items():
            _, up = answer(k, h[k] + sigma * drawn[k][n])
            r = V @ up + c
            d = 2 * (np.tanh(r) - h[k]) * slope(r) / N
            dV[k] += np.einsum("i,j->ij", d, up)
            dc[k] += d
    learner.learn(x, y)
    for k, layer in enumerate(linears(model)):
        assert_close(gradient(layer.weight), dW[k])
        assert_close(gradient(layer.bias), db[k])
    for k in back:
        assert_close(gradient(learner.get_parameter(f"feedback.{2 * k}.V")), dV[k])
        assert_close(gradient(learner.get_parameter(f"feedback.{2 * k}.c")), dc[k])


def test_noise_is_drawn_anew_in_each_call():
    model, (x, y) = mlp(SIZES), batch()
    learner, _ = bind(model, "sdtp")
    found = []
    for _ in range(2):
        learner.zero_grad()
        learner.learn(x, y)
        found.append([gradient(p).copy() for p in (*model.parameters(), learner.get_parameter("feedback.4.V"))])
    for a, b in zip(found[0][:-1], found[1][:-1], strict=True):
        np.testing.assert_array_equal(a, b)  # the blocks' updates know no noise
    assert np.abs(found[0][-1] - found[1][-1]).max() > 1e-4


def test_where_the_output_is_right_there_is_nothing_to_learn():
    """The difference correction: targets are the activities themselves, whatever the inverse nets give."""
    model, (x, y) = mlp(SIZES), batch()
    learner, _ = bind(model, "sdtp")
    output = torch.softmax(model(x), 1).detach()
    learner.context.tap = lambda name, message, source, target: output if name == "target" else message
    learner.learn(x, y)
    assert all(np.abs(gradient(layer.weight)).max() < 1e-15 for layer in linears(model)[:-1])
    assert np.abs(gradient(linears(model)[-1].weight)).max() > 1e-3


def test_no_weight_travels():
    learner, _ = bind(mlp((12, 20, 20, 20, 4)), "sdtp")
    x, y = batch(8, 12)
    found = weight_transport(LearnerSubject(learner), Batch(x, y, 4))
    assert found.verdict == "solved" and found.layers.keys() == {"2", "4", "6"}


def test_clamped_wires_say_nothing_of_the_teacher():
    updates = []
    for shift in (0, 1):
        model, (x, y) = mlp(SIZES), batch()
        learner, _ = bind(model, "sdtp")
        learner.context.tap = lambda name, message, source, target: torch.zeros_like(message)
        learner.learn(x, (y + shift) % 4)
        updates.append([gradient(p) for p in model.parameters()])
    for a, b in zip(*updates, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_passes_the_wires():
    model, (x, y) = mlp(SIZES), batch()
    learner, _ = bind(model, "sdtp")
    passed = []

    def tap(name: str, message: Tensor, source: str, target: str) -> Tensor:
        passed.append((name, source, target))
        if name == "target":
            assert torch.equal(message, F.one_hot(y, 4).double())
        return message

    learner.context.tap = tap
    learner.learn(x, y)
    assert passed == [
        ("error", "teacher", "output"),
        ("target", "teacher", "output"),
        ("4.target", "output", "4"),
        ("2.target", "4", "2"),
        ("0.target", "2", "0"),
    ]


def test_it_needs_labels():
    model, (x, _) = mlp(SIZES), batch()
    optimizer = torch.optim.Adam(model.parameters())
    learner = plausible.bind(model, "sdtp", F.mse_loss, example=x, optimizer=optimizer)
    with pytest.raises(ConfigurationError, match="class indices"):
        learner.learn(x, torch.randn(6, 4, dtype=torch.float64))
