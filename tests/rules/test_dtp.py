"""Difference target propagation: ĥ_l = h_l + g(ĥ_{l+1}) − g(h_{l+1}), the first target a step down the gradient."""

import numpy as np
import pytest
import torch
from literal import Array, batch, linears, mlp, slope, softmax, weights
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.audit import Batch, LearnerSubject
from plausible.audit.criteria.weight_transport import weight_transport
from plausible.core import Learner, registry
from plausible.core.errors import ConfigurationError, CoverageError
from plausible.functional.random import generator

SIZES = (5, 7, 6, 8, 4)


def bind(model: nn.Module, rule: str = "dtp", **options: object) -> tuple[Learner, torch.optim.Optimizer]:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x, _ = batch(n_in=linears(model)[0].in_features)
    bound = plausible.bind(model, registry.make(rule, **options), F.cross_entropy, example=x, optimizer=optimizer)
    return bound, optimizer


def inverses(learner: Learner) -> dict[str, tuple[Array, Array]]:
    """V and c by the layer that they undo."""
    state = {
        k.removeprefix("feedback."): v.numpy() for k, v in learner.state_dict().items() if k.startswith("feedback.")
    }
    return {k.removesuffix(".V"): (state[k], state[k.removesuffix("V") + "c"]) for k in state if k.endswith(".V")}


def noise(rule: str, layer: str, shape: tuple[int, ...], iteration: int = 0) -> Array:
    draw = generator(registry.make(rule).seed, layer, "noise", iteration)
    return torch.randn(shape, generator=draw).double().numpy()


def gradient(p: Tensor) -> Array:
    assert p.grad is not None
    return p.grad.numpy()


def assert_close(found: Array, expected: Array) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_one_call_is_the_papers_equations():
    alpha, sigma = 0.4, 0.3
    model, (x, y) = mlp(SIZES), batch()
    learner, _ = bind(model, alpha=alpha, noise=sigma)
    g = inverses(learner)
    assert {k: V.shape for k, (V, _) in g.items()} == {"2": (7, 6), "4": (6, 8)}, "none for the first and the last"
    back = {1: g["2"], 2: g["4"]}  # by the place of the layer that it undoes
    W, b = weights(model)
    N = len(x)
    dW, db = [np.zeros_like(w) for w in W], [np.zeros_like(v) for v in b]
    dV, dc = {k: np.zeros_like(V) for k, (V, _) in back.items()}, {k: np.zeros_like(c) for k, (_, c) in back.items()}
    drawn = {k: noise("dtp", name, (N, len(W[k - 1]))) for k, name in ((1, "2"), (2, "4"))}
    for n in range(N):
        h, a = [x[n].numpy()], []
        for k in range(4):
            a.append(np.einsum("ij,j->i", W[k], h[k]) + b[k])
            h.append(np.tanh(a[k]))
        e = softmax(a[3])
        e[y[n]] -= 1
        t = {2: h[3] - alpha * W[3].T @ e}  # by place: h[k + 1] is the activity of layer k
        for k in (1, 0):
            V, c = back[k + 1]
            t[k] = h[k + 1] + np.tanh(V @ t[k + 1] + c) - np.tanh(V @ h[k + 2] + c)
        delta = {k: 2 * (h[k + 1] - t[k]) * slope(a[k]) / N for k in t} | {3: e / N}
        for k, d in delta.items():
            dW[k] += np.einsum("i,j->ij", d, h[k])
            db[k] += d
        for k, (V, c) in back.items():
            noisy = h[k] + sigma * drawn[k][n]
            up = np.tanh(W[k] @ noisy + b[k])
            r = V @ up + c
            d = 2 * (np.tanh(r) - noisy) * slope(r) / N
            dV[k] += np.einsum("i,j->ij", d, up)
            dc[k] += d
    learner.learn(x, y)
    for k, layer in enumerate(linears(model)):
        assert_close(gradient(layer.weight), dW[k])
        assert_close(gradient(layer.bias), db[k])
    for k, name in ((1, "2"), (2, "4")):
        assert_close(gradient(learner.get_parameter(f"feedback.{name}.V")), dV[k])
        assert_close(gradient(learner.get_parameter(f"feedback.{name}.c")), dc[k])


# --- perfect inverses ----------------------------------------------------------------------------------------------


def invertible(orthogonal: bool) -> tuple[nn.Sequential, Learner, Tensor, Tensor]:
    """Linear square layers, and inverse nets that are exactly their inverses."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(5, 5) for _ in range(4))).double()
    if orthogonal:
        for layer in linears(model)[:-1]:
            nn.init.orthogonal_(layer.weight)
    learner, _ = bind(model, alpha=0.3)
    with torch.no_grad():
        for name in ("1", "2"):
            layer = linears(model)[int(name)]
            V, c = learner.get_parameter(f"feedback.{name}.V"), learner.get_parameter(f"feedback.{name}.c")
            V.copy_(torch.linalg.inv(layer.weight))
            c.copy_(-V @ layer.bias)
    x, y = batch(classes=5)
    return model, learner, x, y


def listen(learner: Learner) -> dict[str, Tensor]:
    heard: dict[str, Tensor] = {}

    def tap(name: str, message: Tensor, source: str, target: str) -> Tensor:
        heard[name] = message
        return message

    learner.context.tap = tap
    return heard


def test_a_perfect_inverse_gives_targets_that_hit_the_first():
    model, learner, x, y = invertible(orthogonal=False)
    heard = listen(learner)
    learner.learn(x, y)
    layers = linears(model)
    torch.testing.assert_close(layers[1](heard["0.target"]), heard["1.target"], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(layers[2](heard["1.target"]), heard["2.target"], rtol=1e-10, atol=1e-12)
    # Gauss-Newton: the targets' steps are −α J⁻¹ ∂L/∂h_{L−1}, with the whole way down inverted at once.
    e = torch.softmax(model(x), 1) - F.one_hot(y, 5)
    J = layers[2].weight @ layers[1].weight
    step = -0.3 * torch.linalg.solve(J, (e @ layers[3].weight).T).T
    torch.testing.assert_close(heard["0.target"] - layers[0](x), step, rtol=1e-9, atol=1e-12)


def test_with_orthogonal_layers_the_update_is_the_gradient():
    """There J⁻¹ is Jᵀ, and the update of ‖h − ĥ‖² is 2α times back-propagation's; the output layer's is its own."""
    model, learner, x, y = invertible(orthogonal=True)
    learner.learn(x, y)
    found = [gradient(layer.weight).copy() for layer in linears(model)]
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    for layer, update, factor in zip(linears(model), found, (0.6, 0.6, 0.6, 1.0), strict=True):
        np.testing.assert_allclose(update, factor * gradient(layer.weight), rtol=1e-10, atol=1e-14)


# --- training of both ----------------------------------------------------------------------------------------------


def test_alternation():
    """k calls for the inverse nets alone, then k for the blocks alone; what is not taught keeps no gradient."""
    model, (x, y) = mlp(SIZES), batch()
    learner, optimizer = bind(model, alternate=2)
    seen = []
    for _ in range(6):
        optimizer.zero_grad()
        learner.learn(x, y)
        blocks = {p.grad is not None for p in model.parameters()}
        nets = {p.grad is not None for p in learner.get_submodule("feedback").parameters()}
        assert len(blocks) == len(nets) == 1
        seen.append((blocks.pop(), nets.pop()))
        before = {k: v.clone() for k, v in learner.state_dict().items() if k != "_extra_state"}
        optimizer.step()
        moved = {k.split(".")[0] for k, v in before.items() if not torch.equal(v, learner.state_dict()[k])}
        assert moved == ({"model"} if seen[-1][0] else {"feedback"})
    assert seen == [(False, True)] * 2 + [(True, False)] * 2 + [(False, True)] * 2


def test_inverse_nets_learn_to_undo_their_blocks_at_their_own_rate():
    model, (x, y) = mlp(SIZES), batch(64)
    learner, optimizer = bind(model, inverse_lr=0.02, alternate=10**6)
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.02]
    assert optimizer.param_groups[1]["weight_decay"] == 0
    g = learner.get_submodule("feedback.4")

    def missed() -> float:
        h = model[:4](x)
        return float(((g(model[4:6](h)) - h).square().sum() / h.square().sum()).detach())

    before = missed()
    for _ in range(300):
        optimizer.zero_grad()
        learner.learn(x, y)
        optimizer.step()
    assert missed() < 0.2 * before


def test_the_update_does_not_depend_on_how_a_batch_is_cut():
    """α is of each example's own loss: the update of a batch is the mean over its examples."""
    model, (x, y) = mlp(SIZES), batch()
    learner, _ = bind(model)
    learner.learn(x, y)
    whole = [gradient(p).copy() for p in model.parameters()]
    learner.zero_grad()
    for n in range(len(x)):
        learner.learn(x[n : n + 1], y[n : n + 1])
    for p, expected in zip(model.parameters(), whole, strict=True):
        np.testing.assert_allclose(gradient(p) / len(x), expected, rtol=1e-10, atol=1e-14)


def test_normalisation_and_convolutions():
    """A pass with noise leaves running averages alone, and a dense inverse net gives back the shape of a map."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(2)
    enter = nn.Sequential(nn.Conv2d(1, 2, 3), norm, nn.ReLU(), nn.MaxPool2d(2))
    model = nn.Sequential(enter, nn.Conv2d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(3, 4)).double()
    x, y = torch.randn(6, 1, 6, 6, dtype=torch.float64), torch.arange(6) % 4
    mean = enter[0](x).detach().mean((0, 2, 3))
    optimizer = torch.optim.Adam(model.parameters())
    learner = plausible.bind(model, "dtp", F.cross_entropy, example=x, optimizer=optimizer)
    assert {k: V.shape for k, (V, _) in inverses(learner).items()} == {"1": (8, 3)}
    learner.learn(x, y)
    assert norm.running_mean is not None and norm.num_batches_tracked is not None
    torch.testing.assert_close(norm.running_mean, 0.1 * mean, rtol=1e-10, atol=1e-12)
    assert int(norm.num_batches_tracked) == 1
    assert all(gradient(p).any() for p in model.parameters() if p is not enter[0].bias)
    assert learner.report()["exact"] == ["0.1"]


# --- what travels --------------------------------------------------------------------------------------------------


def test_only_the_output_layers_weights_travel():
    """The gradient hidden at the penultimate layer: every update upstream hangs on W_L, and on no other weight."""
    learner, _ = bind(mlp((12, 20, 20, 20, 4)))
    x, y = batch(8, 12)
    found = weight_transport(LearnerSubject(learner), Batch(x, y, 4))
    assert found.verdict == "violated"
    assert found.layers.keys() == {"2", "4", "6"}
    assert found.layers["6"] > 0.1 and found.layers["2"] < 1e-10 and found.layers["4"] < 1e-10


def test_clamped_wires_say_nothing_of_the_teacher():
    updates = []
    for shift in (0, 1):
        model, (x, y) = mlp(SIZES), batch()
        learner, _ = bind(model)
        learner.context.tap = lambda name, message, source, target: torch.zeros_like(message)
        learner.learn(x, (y + shift) % 4)
        updates.append([gradient(p) for p in model.parameters()])
    for a, b in zip(*updates, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_passes_the_wires():
    model, (x, y) = mlp(SIZES), batch()
    learner, _ = bind(model)
    passed = []

    def tap(name: str, message: Tensor, source: str, target: str) -> Tensor:
        passed.append((name, source, target, tuple(message.shape)))
        return message

    learner.context.tap = tap
    learner.learn(x, y)
    assert passed == [
        ("error", "teacher", "output", (6, 4)),
        ("4.target", "output", "4", (6, 8)),
        ("2.target", "4", "2", (6, 6)),
        ("0.target", "2", "0", (6, 7)),
    ]


# --- errors --------------------------------------------------------------------------------------------------------


def test_what_it_cannot_do_is_said_at_once():
    x, _ = batch()
    with pytest.raises(ConfigurationError, match="optimizer"):
        plausible.bind(mlp(SIZES), "dtp", F.cross_entropy, example=x)
    with pytest.raises(ConfigurationError, match="example"):
        registry.make("dtp").bind(mlp(SIZES), F.cross_entropy)
    wide = nn.Sequential(
        *(nn.Linear(5, 2**14), nn.Unflatten(1, (1, -1)), nn.Conv1d(1, 1, 3, padding=1), nn.Flatten()),
        nn.Linear(2**14, 4),
    )
    with pytest.raises(CoverageError, match="fewer units"):
        registry.make("dtp").bind(wide, F.cross_entropy, torch.randn(1, 5))
    for options in ({"alpha": 0.0}, {"noise": -1.0}, {"inverse_lr": 0.0}, {"alternate": -1}):
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            registry.make("dtp", **options)
