"""Equilibrium propagation: the contrast of two equilibria (Scellier & Bengio 2017; Laborieux et al. 2021)."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from literal import Array, assert_updates, batch, linears, mlp, weights
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.audit import Batch, LearnerSubject
from plausible.audit.criteria.weight_transport import weight_transport
from plausible.core import registry
from plausible.core.errors import ConfigurationError, CoverageError

NAME = "equilibrium-propagation"


class Literal:
    """The dynamics for one example, unit by unit; tanh hidden layers, all clipped to [0, 1]."""

    def __init__(self, W: list[Array], b: list[Array], B: list[Array]) -> None:
        self.W, self.b, self.B = W, b, B

    def fire(self, k: int, u: Array) -> Array:
        return np.clip(np.tanh(u) if k < len(self.W) - 1 else u, 0, 1)

    def relax(self, x: Array, s: list[Array], steps: int, step: float, beta: float, target: Array) -> list[Array]:
        for _ in range(steps):
            before = [x, *s]
            new = []
            for k, own in enumerate(s):
                u = self.b[k].copy()
                for i, j in np.ndindex(self.W[k].shape):
                    u[i] += self.W[k][i, j] * before[k][j]
                if k + 1 < len(s):
                    for i, j in np.ndindex(self.B[k + 1].shape):
                        u[j] += self.B[k + 1][i, j] * s[k + 1][i]
                else:
                    u += beta * (target - own)
                new.append(own + step * (-own + self.fire(k, u)))
            s = new
        return s

    def free(self, x: Array, steps: int, step: float, target: Array) -> list[Array]:
        s, h = [], x
        for k, (W, b) in enumerate(zip(self.W, self.b, strict=True)):
            h = self.fire(k, W @ h + b)
            s.append(h)
        return self.relax(x, s, steps, step, 0.0, target)


@pytest.mark.parametrize("nudging", ["symmetric", "one-sided"])
@pytest.mark.parametrize("feedback", ["symmetric", "random"])
def test_mlp_is_the_papers_equations(nudging, feedback):
    model, (x, y) = mlp(), batch()
    rule = registry.make(NAME, nudging=nudging, feedback=feedback, free_steps=9, nudged_steps=4, step=0.4, beta=0.3)
    learner = plausible.bind(model, rule, F.cross_entropy)
    seen = []
    learner.context.tap = lambda name, message, source, target: seen.append((name, message)) or message
    W, b = weights(model)
    B = [v.numpy() for k, v in learner.state_dict().items() if k.endswith(".B")] or W
    net = Literal(W, b, B)
    outcome = learner.learn(x, y)
    sign = 1.0
    if nudging == "one-sided":  # which sign was drawn shows in what the output units then do
        sign = 1.0 if _went_up(seen, y) else -1.0
    expected = [(np.zeros_like(w), np.zeros_like(c)) for w, c in zip(W, b, strict=True)]
    for n, (example, label) in enumerate(zip(x.numpy(), y.numpy(), strict=True)):
        target = np.eye(4)[label]
        free = net.free(example, 9, 0.4, target)
        np.testing.assert_allclose(outcome.output[n].numpy(), W[-1] @ free[-2] + b[-1], rtol=1e-12)
        nudged = net.relax(example, free, 4, 0.4, sign * 0.3, target)
        other = net.relax(example, free, 4, 0.4, -0.3, target) if nudging == "symmetric" else free
        span = 0.6 if nudging == "symmetric" else sign * 0.3
        for k, (dW, db) in enumerate(expected):
            below = [[example, *states][k] for states in (nudged, other, free)]
            if feedback == "symmetric":
                dW -= (np.outer(nudged[k], below[0]) - np.outer(other[k], below[1])) / (span * len(x))
            else:
                dW -= np.outer(nudged[k] - other[k], below[2]) / (span * len(x))
            db -= (nudged[k] - other[k]) / (span * len(x))
    assert any(np.abs(dW).max() > 1e-3 for dW, _ in expected)
    assert_updates(model, expected)


def _went_up(seen: list[tuple[str, Tensor]], y: Tensor) -> bool:
    first = next(k for k, (name, _) in enumerate(seen) if name == "target")
    rates = [message for name, message in seen[first - 2 :] if name == "4.feedback"]
    return bool((rates[1] - rates[0])[torch.arange(len(y)), y].sum() > 0)


def test_the_sign_of_a_one_sided_nudge_is_drawn_for_each_call_and_replayed():
    x, y = batch()
    rule = registry.make(NAME, nudging="one-sided", seed=1)
    runs = []
    for _ in range(2):
        learner, signs = plausible.bind(mlp(), rule, F.cross_entropy), []
        for _ in range(12):
            seen = []
            learner.context.tap = lambda n, m, s, t, seen=seen: seen.append((n, m)) or m
            learner.learn(x, y)
            signs.append(_went_up(seen, y))
        runs.append(signs)
    assert runs[0] == runs[1] and set(runs[0]) == {True, False}


# --- the gradient ---------------------------------------------------------------------------------------------------


def smooth() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Sigmoid(), nn.Linear(8, 7), nn.Sigmoid(), nn.Linear(7, 3), nn.Sigmoid())
    for layer in linears(model):
        layer.weight.data *= 2
    return model.double()


def pooled() -> nn.Sequential:
    torch.manual_seed(0)
    first, second = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 4, 3)
    return nn.Sequential(
        *(first, nn.Sigmoid(), nn.MaxPool2d(2), second, nn.Sigmoid(), nn.Flatten(), nn.Linear(16, 3), nn.Sigmoid())
    ).double()


def examples(net) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    shape = (6, 5) if net is smooth else (6, 1, 8, 8)
    return torch.randn(shape, generator=draw, dtype=torch.float64), torch.randint(3, (6,), generator=draw)


def at_equilibrium(model: nn.Sequential, x: Tensor, y: Tensor, *, hold_down: bool = False) -> list[Tensor]:
    """∂/∂θ of the mean over examples of ½‖y − s_L‖² at the fixed point, by differentiating through its iteration."""
    cuts = [k for k, m in enumerate(model) if isinstance(m, (nn.Linear, nn.Conv2d))] + [len(model)]
    blocks = [model[a:b] for a, b in pairwise(cuts)]
    shapes = [[m for m in block if not isinstance(m, nn.Sigmoid)] for block in blocks]
    still = copy.deepcopy(shapes)

    def through(modules: list[nn.Module], h: Tensor) -> Tensor:
        for m in modules:
            h = m(h)
        return h

    states = []
    for block in blocks:
        states.append(block(states[-1] if states else x))
    for _ in range(60):
        new = []
        for k, s in enumerate(states):
            u = through(shapes[k], states[k - 1] if k else x)
            if k + 1 < len(states):
                modules = still[k + 1] if hold_down else shapes[k + 1]
                _, down = torch.autograd.functional.vjp(
                    lambda h, m=modules: through(m, h), s, states[k + 1], create_graph=True
                )
                u = u + down
            new.append(torch.sigmoid(u))
        states = new
    cost = 0.5 * (states[-1] - F.one_hot(y, 3)).square().sum() / len(x)
    return list(torch.autograd.grad(cost, list(model.parameters())))


def contrast(model: nn.Module, x: Tensor, y: Tensor, **options) -> Tensor:
    model = copy.deepcopy(model)
    rule = registry.make(NAME, free_steps=300, nudged_steps=300, **options)
    learner = plausible.bind(model, rule, F.cross_entropy)
    if rule.feedback == "random":  # a B that is W after all
        for layer, site in zip(linears(model), learner.feedback.values(), strict=True):
            site["B"].copy_(layer.weight.detach())
    learner.learn(x, y)
    return flat([p.grad for p in model.parameters()])


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.flatten() for t in tensors])


@pytest.mark.parametrize("net", [smooth, pooled])
def test_a_weak_nudge_gives_the_gradient_at_the_free_equilibrium(net):
    model, (x, y) = net(), examples(net)
    exact = flat(at_equilibrium(model, x, y))
    found = contrast(model, x, y, beta=1e-3)
    assert float((found - exact).norm() / exact.norm()) < 1e-5
    assert F.cosine_similarity(contrast(model, x, y, beta=0.1), exact, dim=0) > 0.99
    backprop = flat(list(torch.autograd.grad(F.mse_loss(model(x), F.one_hot(y, 3).double()), list(model.parameters()))))
    assert F.cosine_similarity(backprop, exact, dim=0) < 0.999, "the control: that is another gradient"


def test_symmetric_nudging_is_off_by_the_square_of_beta_and_one_sided_by_beta():
    model, (x, y) = smooth(), examples(smooth)
    exact = flat(at_equilibrium(model, x, y))
    for nudging, power in (("symmetric", 2), ("one-sided", 1)):
        off = [float((contrast(model, x, y, beta=beta, nudging=nudging) - exact).norm()) for beta in (0.08, 0.04, 0.02)]
        ratios = [a / b for a, b in pairwise(off)]
        assert all(abs(np.log2(r) - power) < 0.1 for r in ratios), (nudging, ratios)


def test_the_vector_fields_update_is_the_gradient_of_the_upward_weights_where_the_field_is_symmetric():
    """Scellier et al. 2018: exact if ∂u/∂s is symmetric, as it is for B = W; the downward weights are then held."""
    model, (x, y) = smooth(), examples(smooth)
    exact = flat(at_equilibrium(model, x, y, hold_down=True))
    assert float((contrast(model, x, y, beta=1e-3, feedback="random") - exact).norm() / exact.norm()) < 1e-5


# --- what it needs --------------------------------------------------------------------------------------------------


def wide() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(50, 48), nn.Sigmoid(), nn.Linear(48, 46), nn.ReLU(), nn.Linear(46, 4))


@pytest.mark.parametrize("nudging", ["symmetric", "one-sided"])
@pytest.mark.parametrize(("feedback", "verdict"), [("symmetric", "violated"), ("random", "solved")])
def test_weights_are_transported_unless_feedback_is_random(nudging, feedback, verdict):
    rule = registry.make(NAME, nudging=nudging, feedback=feedback, free_steps=6, nudged_steps=4)
    torch.manual_seed(1)
    few = Batch(torch.randn(4, 50), torch.randint(4, (4,)), 4)
    finding = weight_transport(LearnerSubject(plausible.bind(wide(), rule, F.cross_entropy)), few)
    assert finding.verdict == verdict, finding.sentence
    assert finding.value is not None and (finding.value > 0.01 if verdict == "violated" else finding.value < 1e-12)


class Steeper(torch.autograd.Function):
    """The identity, with a derivative of 2."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, *grads):
        return 2 * grads[0]


def test_no_derivative_is_used_at_all():
    found = []
    for steeper in (False, True):
        model, (x, y) = mlp(), batch()
        for k in (1, 3) if steeper else ():
            model[k].register_forward_hook(lambda module, inputs, output: Steeper.apply(output))
        plausible.bind(model, NAME, F.cross_entropy).learn(x, y)
        found.append(flat([p.grad for p in model.parameters()]))
    assert torch.equal(*found) and found[0].any()


def test_rates_go_down_in_every_phase_and_the_target_comes_with_the_nudge():
    model, (x, y) = mlp(), batch()
    learner = plausible.bind(model, registry.make(NAME, free_steps=5, nudged_steps=3), F.cross_entropy)
    heard = []
    learner.context.tap = lambda name, message, source, target: heard.append((name, source, target, message)) or message
    learner.learn(x, y)
    down = [("2.feedback", "2", "0"), ("4.feedback", "4", "2")]
    assert [m[:3] for m in heard] == down * 5 + [*down, ("target", "teacher", "output")] * 6
    assert all(float(m[3].min()) >= 0 and float(m[3].max()) <= 1 for m in heard)
    heard.clear()
    learner(x)
    assert [m[:3] for m in heard] == down * 5


def test_inference_is_the_free_equilibrium_and_the_input_is_met_once():
    model, (x, y) = mlp(), batch()
    learner = plausible.bind(model, NAME, F.cross_entropy)
    calls = []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    output = learner(x)
    assert len(calls) == 1 and not torch.allclose(output, model(x), rtol=1e-3)
    assert torch.equal(learner.learn(x, y).output, output)
    with torch.inference_mode():
        assert torch.equal(learner(x), output)
    W, b = weights(model)
    net = Literal(W, b, W)
    free = [net.free(example, 20, 0.5, np.zeros(4)) for example in x.numpy()]
    for n, states in enumerate(free):
        np.testing.assert_allclose(output[n].numpy(), W[-1] @ states[-2] + b[-1], rtol=1e-12)


def test_targets_may_be_given_themselves():
    x, y = batch()
    grads = []
    for target, loss in ((y, F.cross_entropy), (F.one_hot(y, 4).double(), F.mse_loss)):
        model = mlp()
        plausible.bind(model, NAME, loss).learn(x, target)
        grads.append(flat([p.grad for p in model.parameters()]))
    assert torch.equal(*grads)


def test_what_it_cannot_do_is_refused_with_a_way_out():
    for module in (nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Softmax(1)):
        with pytest.raises(CoverageError, match=rf"'0' has a {type(module).__name__}.*take another rule"):
            plausible.bind(nn.Sequential(nn.Linear(5, 4), module, nn.Linear(4, 2)), NAME, F.cross_entropy)
    learner = plausible.bind(mlp(), NAME, lambda output, y: output.sum())
    with pytest.raises(ConfigurationError, match=r"class indices of shape \(6,\)"):
        learner.learn(batch()[0], torch.zeros(6, 2))
    for option, value in (("beta", 0.0), ("step", 1.5), ("free_steps", 0)):
        with pytest.raises(ConfigurationError, match=f"{option} = {value}"):
            registry.make(NAME, **{option: value})
