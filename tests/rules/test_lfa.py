"""Local-derivative feedback alignment: e_n = B_{n+1} e_{n+1}, and a slope only at a cell's own synapses."""

import copy
from math import sqrt

import numpy as np
import pytest
import torch
from literal import (
    Array,
    Literal,
    assert_updates,
    batch,
    conv,
    conv_update,
    convnet,
    images,
    linears,
    mlp,
    slope,
    softmax,
    transported,
)
from torch import nn
from torch.nn import functional as F

import plausible
from plausible.core import Learner, registry
from plausible.core.errors import CoverageError
from plausible.models import build

SIZES = (5, 9, 7, 6, 4)


def feedback(learner: Learner) -> dict[str, Array]:
    """B (numbers above, n_l) by the layer that follows the block."""
    return {k.split(".")[1]: v.numpy() for k, v in learner.state_dict().items() if k.endswith(".B")}


def test_mlp_is_the_thesis_equation():
    """The chain of e has no slopes; each δ has its own."""
    model, (x, y) = mlp(SIZES), batch()
    learner = plausible.bind(model, registry.make("lfa", scale=2.0), F.cross_entropy, example=x)
    B = feedback(learner)
    assert {k: v.shape for k, v in B.items()} == {"2": (7, 9), "4": (6, 7), "6": (4, 6)}

    def hidden(W, a, h, e):
        e3 = np.array([sum(2 * e[q] * B["6"][q, j] for q in range(4)) for j in range(6)])
        e2 = np.array([sum(e3[q] * B["4"][q, j] for q in range(6)) for j in range(7)])
        e1 = np.array([sum(e2[q] * B["2"][q, j] for q in range(7)) for j in range(9)])
        return [e1 * slope(a[0]), e2 * slope(a[1]), e3 * slope(a[2])]

    expected = Literal(model, hidden).updates(x, y)
    learner.learn(x, y)
    assert_updates(model, expected)


def test_it_is_dfa_with_the_products_of_its_matrices():
    model, (x, y) = mlp(SIZES), batch()
    twin = copy.deepcopy(model)
    lfa = plausible.bind(model, "lfa", F.cross_entropy, example=x)
    dfa = plausible.bind(twin, "dfa", F.cross_entropy, example=x)
    B = {name: torch.from_numpy(each) for name, each in feedback(lfa).items()}
    direct = {"6": B["6"], "4": B["6"] @ B["4"], "2": B["6"] @ B["4"] @ B["2"]}
    dfa.load_state_dict({f"feedback.{name}.B": each for name, each in direct.items()}, strict=False)
    for learner in (lfa, dfa):
        learner.learn(x, y)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-16)


def test_it_is_fa_only_where_no_slope_lies_between():
    """With the same B, the last hidden layer learns as in feedback alignment, and those below do not."""
    model, (x, y) = mlp(), batch()
    learner = plausible.bind(model, "lfa", F.cross_entropy, example=x)
    B = feedback(learner)
    first, last, _ = Literal(model, transported([B["2"], B["2"], B["4"]])).updates(x, y)
    learner.learn(x, y)
    for layer, (dW, _), same in zip(linears(model), (first, last), (False, True), strict=False):
        assert layer.weight.grad is not None
        assert np.allclose(layer.weight.grad.numpy(), dW, rtol=1e-10, atol=1e-14) == same


def test_convolutional_net():
    """The chain goes densely from the end of a block to that of the block before."""
    model, (x, y) = convnet(), images()
    learner = plausible.bind(model, "lfa", F.cross_entropy, example=x)
    B = feedback(learner)
    assert {k: v.shape for k, v in B.items()} == {"2": (27, 32), "5": (4, 27)}
    W = [model[k].weight.detach().numpy() for k in (0, 2, 5)]
    b = [model[k].bias.detach().numpy() for k in (0, 2, 5)]
    sums = [np.zeros_like(w) for w in W]
    for example, label in zip(x.numpy(), y.numpy(), strict=True):
        a1 = conv(example, W[0], b[0])
        a2 = conv(np.tanh(a1), W[1], b[1])
        e = softmax(W[2] @ np.tanh(a2).ravel() + b[2])
        e[label] -= 1
        e /= len(x)
        e2 = B["5"].T @ e
        e1 = B["2"].T @ e2
        sums[0] += conv_update(e1.reshape(a1.shape) * slope(a1), example, W[0])
        sums[1] += conv_update(e2.reshape(a2.shape) * slope(a2), np.tanh(a1), W[1])
        sums[2] += np.outer(e, np.tanh(a2).ravel())
    learner.learn(x, y)
    for layer, expected in zip((model[0], model[2], model[5]), sums, strict=True):
        np.testing.assert_allclose(layer.weight.grad.numpy(), expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_error_keeps_its_norm_however_long_the_chain(scale):
    """B ~ N(0, 1/n): on average ‖e_n‖² is (scale ‖e‖)² at every layer, and the scale counts once."""
    model = nn.Sequential(*(each for _ in range(4) for each in (nn.Linear(60, 60), nn.Tanh())), nn.Linear(60, 60))
    ratios = []
    for seed in range(100):
        rule = registry.make("lfa", scale=scale, seed=seed)
        learner = plausible.bind(copy.deepcopy(model), rule, F.mse_loss, example=torch.randn(2, 60))
        heard = {}
        learner.context.tap = lambda name, message, source, target, heard=heard: heard.setdefault(name, message)
        learner.learn(torch.randn(1, 60), torch.randn(1, 60))
        ratios.append([float(heard[f"{k}.teach"].norm() / heard["error"].norm() / scale) ** 2 for k in (8, 6, 4, 2)])
    # ‖Be‖²/‖e‖² is χ²/n with relative variance 2/n a hop.
    means = np.mean(ratios, axis=0)
    for hops, mean in enumerate(means, start=1):
        assert abs(mean - 1) < 5 * sqrt(((1 + 2 / 60) ** hops - 1) / 100)


def test_a_layer_that_answers_twice_is_refused_and_the_model_left_free():
    for model, x in (
        (nn.Sequential(nn.Linear(4, 4), *[nn.Sequential(nn.Linear(4, 4), nn.Tanh())] * 2), torch.randn(2, 4)),
        (build("rsnn", shape=(1, 4, 3), classes=2, width=5), torch.randn(2, 1, 4, 3)),
    ):
        with pytest.raises(CoverageError, match="times in a pass"):
            plausible.bind(model, "lfa", F.cross_entropy, example=x)
        plausible.bind(model, "dfa", F.cross_entropy, example=x)
