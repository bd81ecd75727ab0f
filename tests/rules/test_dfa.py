"""Direct feedback alignment: δ_l = (B_l e) ∘ φ′(a_l) (Nøkland 2016), by a true cut of the graph."""

import copy
from collections import Counter
from math import sqrt

import numpy as np
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
    mlp,
    slope,
    softmax,
)
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import plausible
from plausible.core import Learner, registry


def feedback(learner: Learner) -> dict[str, Array]:
    """B (n_out, n_l) by the layer that follows the block."""
    return {k.split(".")[1]: v.numpy() for k, v in learner.state_dict().items() if k.endswith(".B")}


def test_mlp_is_the_papers_equation():
    model, (x, y) = mlp(), batch()
    learner = plausible.bind(model, "dfa", F.cross_entropy, example=x)
    B = feedback(learner)
    assert {k: v.shape for k, v in B.items()} == {"2": (4, 7), "4": (4, 6)}
    expected = Literal(model, lambda W, a, h, e: [B["2"].T @ e * slope(a[0]), B["4"].T @ e * slope(a[1])])
    expected = expected.updates(x, y)
    learner.learn(x, y)
    assert_updates(model, expected)


def test_convolutional_net_is_the_papers_equation():
    """B is dense: every unit of a map has its own projection of the error."""
    model, (x, y) = convnet(), images()
    learner = plausible.bind(model, "dfa", F.cross_entropy, example=x)
    B = feedback(learner)
    W = [model[k].weight.detach().numpy() for k in (0, 2, 5)]
    b = [model[k].bias.detach().numpy() for k in (0, 2, 5)]
    sums = [np.zeros_like(w) for w in W]
    for example, label in zip(x.numpy(), y.numpy(), strict=True):
        a1 = conv(example, W[0], b[0])
        a2 = conv(np.tanh(a1), W[1], b[1])
        e = softmax(W[2] @ np.tanh(a2).ravel() + b[2])
        e[label] -= 1
        e /= len(x)
        sums[0] += conv_update((B["2"].T @ e).reshape(a1.shape) * slope(a1), example, W[0])
        sums[1] += conv_update((B["5"].T @ e).reshape(a2.shape) * slope(a2), np.tanh(a1), W[1])
        sums[2] += np.outer(e, np.tanh(a2).ravel())
    learner.learn(x, y)
    for layer, expected in zip((model[0], model[2], model[5]), sums, strict=True):
        np.testing.assert_allclose(layer.weight.grad.numpy(), expected, rtol=1e-10, atol=1e-14)


def test_each_token_is_taught_by_its_own_error():
    """Where the output has the block's positions, B_l maps the error of a position to that position."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    x, t = torch.randn(2, 4, 3, dtype=torch.float64), torch.randn(2, 4, 2, dtype=torch.float64)
    learner = plausible.bind(model, "dfa", lambda o, t: 0.5 * (o - t).square().sum(), example=x)
    B = feedback(learner)["2"]
    assert B.shape == (2, 5)
    W, b = (p.detach().numpy() for p in model[0].parameters())
    expected = np.zeros_like(W)
    e = (model(x) - t).detach().numpy()
    for n, k in np.ndindex(2, 4):
        expected += np.outer((B.T @ e[n, k]) * slope(W @ x[n, k].numpy() + b), x[n, k].numpy())
    learner.learn(x, t)
    np.testing.assert_allclose(model[0].weight.grad.numpy(), expected, rtol=1e-10)


def test_normalisation_and_pooling_in_a_block_are_exact():
    """The block's own parameters follow autograd from the signal B e at the block's end."""
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    model = nn.Sequential(block, nn.Linear(8, 4)).double()
    x, y = images()
    plain = copy.deepcopy(model)
    learner = plausible.bind(model, "dfa", F.cross_entropy, example=x)
    learner.learn(x, y)
    h = plain[0](x)
    (e,) = torch.autograd.grad(F.cross_entropy(o := plain[1](h), y), o, retain_graph=True)
    h.backward(e @ learner.state_dict()["feedback.1.B"])
    for p, q in zip(plain[0].parameters(), model[0].parameters(), strict=True):
        assert q.grad is not None
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-10, atol=1e-15)
    for key, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])


def test_the_projection_is_normalised():
    """B ~ N(0, 1/n_l), so ‖B e‖ is ‖e‖ on average, however wide the layer."""
    model = nn.Sequential(nn.Linear(5, 400), nn.Tanh(), nn.Linear(400, 50), nn.Tanh(), nn.Linear(50, 30))
    x = torch.randn(2, 5)
    for scale in (1.0, 3.0):
        learner = plausible.bind(copy.deepcopy(model), registry.make("dfa", scale=scale), F.cross_entropy, example=x)
        for name, n in (("2", 400), ("4", 50)):
            z = feedback(learner)[name] * sqrt(n) / scale
            assert abs(z.mean()) < 5 / sqrt(z.size) and abs(z.std() - 1) < 5 / sqrt(2 * z.size)


# --- the cut ---------------------------------------------------------------------------------------------------------


class Counted(TorchDispatchMode):
    """Counts matrix products, and looks at what convolution_backward is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.masks: list[list[bool]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[func.overloadpacket.__name__] += 1
        if func is torch.ops.aten.convolution_backward.default:
            self.masks.append(args[10])
        return func(*args, **(kwargs or {}))


def test_no_input_gradient_of_a_matrix_is_computed():
    """Three products for the weights' gradients and two projections; two input gradients more would be five and two."""
    model, (x, y) = mlp(), batch()
    counts = {}
    for rule in ("backprop", "dfa"):
        learner = plausible.bind(copy.deepcopy(model), rule, F.cross_entropy, example=x)
        with Counted() as counted:
            learner.learn(x, y)
        assert counted.calls["addmm"] == 3, "the forward pass"
        counts[rule] = counted.calls["mm"]
    assert counts == {"backprop": 3 + 2, "dfa": 3 + 2}
    learner = plausible.bind(copy.deepcopy(model), "frozen", F.cross_entropy)
    with Counted() as counted:
        learner.learn(x, y)
    assert counted.calls["mm"] == 1


def test_no_input_gradient_of_a_convolution_is_computed():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 3, 2, groups=1), nn.ReLU(), nn.Flatten(), nn.Linear(27, 4)
    ).double()
    x, y = images()
    for rule, input_masks in (("backprop", [True, False]), ("dfa", [False, False])):
        learner = plausible.bind(copy.deepcopy(model), rule, F.cross_entropy, example=x)
        with Counted() as counted:
            learner.learn(x, y)
        assert [mask[0] for mask in counted.masks] == input_masks
        assert all(mask[1:] == [True, True] for mask in counted.masks)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.branch, self.leave = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.enter(x))
        return self.leave(h + torch.tanh(self.branch(h)))


def test_a_skip_connection_is_cut():
    """What comes back along the skip is replaced by the block's own signal: δ_1 = (B_1 e) ∘ φ′(a_1), and no more."""
    torch.manual_seed(0)
    model = Residual().double()
    x, y = batch()
    learner = plausible.bind(model, "dfa", F.cross_entropy, example=x)
    B = {k: torch.from_numpy(v) for k, v in feedback(learner).items()}
    a1 = F.linear(x, model.enter.weight, model.enter.bias).detach()
    a2 = F.linear(torch.tanh(a1), model.branch.weight, model.branch.bias).detach()
    e = (torch.softmax(model(x).detach(), 1) - F.one_hot(y, 4)) / len(x)
    learner.learn(x, y)
    first = (e @ B["branch"]) * (1 - torch.tanh(a1) ** 2)
    second = (e @ B["leave"]) * (1 - torch.tanh(a2) ** 2)
    torch.testing.assert_close(model.enter.weight.grad, first.t() @ x, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(model.branch.weight.grad, second.t() @ torch.tanh(a1), rtol=1e-10, atol=1e-14)


def test_upstream_updates_do_not_depend_on_downstream_weights():
    """With the error held by a tap on its wire, other weights downstream change nothing upstream."""
    x, y = batch()
    error = torch.randn(6, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for rule, independent in (("dfa", True), ("fa", True), ("sham", False)):
        updates = []
        for perturbed in (False, True):
            torch.manual_seed(0)
            model = Residual().double()
            learner = plausible.bind(model, rule, F.cross_entropy, example=x)
            learner.context.tap = lambda name, message, source, target: error if name == "error" else message
            if perturbed:
                with torch.no_grad():  # the output layer's, which no hidden activity depends on
                    model.leave.weight.add_(1.0)
            learner.learn(x, y)
            updates.append(model.enter.weight.grad)
        assert torch.equal(*updates) == independent, rule
