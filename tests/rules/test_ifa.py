"""Indirect feedback alignment: δ_1 = (B_1 e) ∘ φ′(a_1), δ_l = (W_l δ_{l−1}) ∘ φ′(a_l) (Nøkland 2016)."""

import copy

import numpy as np
import pytest
import torch
from literal import Array, Literal, assert_updates, batch, conv, conv_update, convnet, images, mlp, slope, softmax
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.core.errors import ConfigurationError


def test_mlp_is_the_papers_equations():
    model, (x, y) = mlp((5, 8, 7, 6, 4)), batch()
    learner = plausible.bind(model, "ifa", F.cross_entropy, example=x)
    assert [k for k in learner.state_dict() if k.endswith(".B")] == ["feedback.2.B"], "one B, to the first layer"
    B = learner.state_dict()["feedback.2.B"].numpy()
    assert B.shape == (4, 8)

    def hidden(W: list[Array], a: list[Array], h: list[Array], e: Array) -> list[Array]:
        deltas = [B.T @ e * slope(a[0])]
        for layer in (1, 2):
            deltas.append(W[layer] @ deltas[-1] * slope(a[layer]))
        return deltas

    expected = Literal(model, hidden).updates(x, y)
    learner.learn(x, y)
    assert_updates(model, expected)


def test_convolutional_net_is_the_papers_equations():
    """W_l δ is the convolution of δ, without the bias."""
    model, (x, y) = convnet(), images()
    learner = plausible.bind(model, "ifa", F.cross_entropy, example=x)
    B = learner.state_dict()["feedback.2.B"].numpy()
    W = [model[k].weight.detach().numpy() for k in (0, 2, 5)]
    b = [model[k].bias.detach().numpy() for k in (0, 2, 5)]
    sums = [np.zeros_like(w) for w in W]
    for example, label in zip(x.numpy(), y.numpy(), strict=True):
        a1 = conv(example, W[0], b[0])
        a2 = conv(np.tanh(a1), W[1], b[1])
        e = softmax(W[2] @ np.tanh(a2).ravel() + b[2])
        e[label] -= 1
        e /= len(x)
        delta1 = (B.T @ e).reshape(a1.shape) * slope(a1)
        delta2 = conv(delta1, W[1], np.zeros(3)) * slope(a2)
        sums[0] += conv_update(delta1, example, W[0])
        sums[1] += conv_update(delta2, np.tanh(a1), W[1])
        sums[2] += np.outer(e, np.tanh(a2).ravel())
    learner.learn(x, y)
    for layer, expected in zip((model[0], model[2], model[5]), sums, strict=True):
        np.testing.assert_allclose(layer.weight.grad.numpy(), expected, rtol=1e-10, atol=1e-14)


def test_dropout_is_replayed():
    """The second pass meets the masks of the first: the literal equations with those masks."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 7), nn.Tanh(), nn.Dropout(0.5), nn.Linear(7, 4)
    ).double()
    x, y = batch()
    learner = plausible.bind(model, "ifa", F.cross_entropy, example=x)
    masks: dict[int, list[Tensor]] = {2: [], 5: []}
    for k, seen in masks.items():
        # Unscaled, a dropped unit is a zero: tanh itself never is.
        model[k].register_forward_hook(lambda m, args, out, seen=seen: seen.append((out != 0).double() * 2))
    learner.learn(x, y)
    for passes in masks.values():
        assert len(passes) == 2 and torch.equal(*passes)
    m1, m2 = masks[2][0], masks[5][0]
    (W1, b1), (W2, b2), (W3, b3) = ((model[k].weight.detach(), model[k].bias.detach()) for k in (0, 3, 6))
    a1 = x @ W1.t() + b1
    h1 = torch.tanh(a1) * m1
    a2 = h1 @ W2.t() + b2
    h2 = torch.tanh(a2) * m2
    e = (torch.softmax(h2 @ W3.t() + b3, 1) - F.one_hot(y, 4)) / len(x)
    # A dropped unit passes nothing on and learns nothing: its mask belongs to φ′.
    delta1 = (e @ learner.state_dict()["feedback.3.B"]) * m1 * (1 - torch.tanh(a1) ** 2)
    delta2 = (delta1 @ W2.t()) * m2 * (1 - torch.tanh(a2) ** 2)
    torch.testing.assert_close(model[0].weight.grad, delta1.t() @ x, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(model[3].weight.grad, delta2.t() @ h1, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(model[6].weight.grad, e.t() @ h2, rtol=1e-10, atol=1e-14)


def test_the_second_pass_leaves_no_trace():
    """Running statistics take one step per call, and the random state is where one pass leaves it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 4)).double()
    x, y = batch()
    learner = plausible.bind(model, "ifa", F.cross_entropy, example=x)
    torch.manual_seed(1)
    learner.learn(x, y)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    F.dropout(torch.ones(6, 8, dtype=torch.float64), 0.5)
    assert torch.equal(state, torch.get_rng_state())
    a = x @ model[0].weight.detach().t() + model[0].bias.detach()
    assert model[1].num_batches_tracked == 1
    torch.testing.assert_close(model[1].running_mean, 0.1 * a.mean(0), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(model[1].running_var, 0.9 + 0.1 * a.var(0), rtol=1e-12, atol=1e-15)


def test_where_a_block_pools_the_tangent_is_averaged():
    """B_1 e lives at a_1, before pooling; the signal at the block's end is its mean over each window."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.AvgPool2d(3), nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(3, 4)
    ).double()
    x, y = images()
    plain = copy.deepcopy(model)
    learner = plausible.bind(model, "ifa", F.cross_entropy, example=x)
    learner.learn(x, y)
    a1 = plain[0](x)
    pushed_from = (torch.softmax(plain(x).detach(), 1) - F.one_hot(y, 4)) / len(x)
    pushed = (pushed_from @ learner.state_dict()["feedback.3.B"]).reshape(a1.shape)
    signal = pushed.reshape(3, 2, 2, 3, 2, 3).mean((3, 5))
    (expected,) = torch.autograd.grad(plain[2](torch.tanh(a1)), plain[0].weight, signal)
    torch.testing.assert_close(model[0].weight.grad, expected, rtol=1e-10, atol=1e-14)
    tangent = F.avg_pool2d(pushed * (1 - torch.tanh(a1.detach()) ** 2), 3)
    h1 = plain[2](torch.tanh(a1)).detach()
    (expected,) = torch.autograd.grad(plain[3](h1), plain[3].weight, F.conv2d(tangent, plain[3].weight.detach()))
    torch.testing.assert_close(model[3].weight.grad, expected, rtol=1e-10, atol=1e-14)


def test_what_the_rule_does_not_say_is_an_error():
    y = torch.tensor([0, 1])
    model = nn.Sequential(nn.Embedding(9, 6), nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 4))
    words = torch.tensor([[1, 2], [3, 4]])
    learner = plausible.bind(model, "ifa", F.cross_entropy, example=words)
    with pytest.raises(ConfigurationError, match="first block, in front of '2'"):
        learner.learn(words, y)
    model = nn.Sequential(nn.Linear(6, 6), nn.GLU(), nn.Linear(3, 4))  # halves its width by multiplying
    learner = plausible.bind(model, "ifa", F.cross_entropy, example=torch.randn(2, 6))
    with pytest.raises(ConfigurationError, match=r"in front of '2'.*Use dfa"):
        learner.learn(torch.randn(2, 6), y)
