"""What happens around an optimiser step: batch Manhattan, no sign change, Kolen-Pollack's feedback."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, Optimizer

import plausible
from plausible.core import Learner, registry
from plausible.core.errors import ConfigurationError, PlausibleWarning


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def batches(n: int) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    return [
        (torch.randn(8, 4, generator=draw, dtype=torch.float64), torch.randint(3, (8,), generator=draw))
        for _ in range(n)
    ]


# --- Batch Manhattan and no sign change (Xiao et al. 2018, --bm and --nsc) ---------------------------------------


def test_batch_manhattan_is_the_papers_step():
    """g ← sign(g_batch), then + wd·w, then momentum; w ← w − lr·buf."""
    lr, wd, momentum = 0.01, 0.1, 0.9
    model = net()
    optimizer = SGD(model.parameters(), lr, momentum=momentum, weight_decay=wd)
    rule = registry.make("backprop", batch_manhattan=True)
    learner = plausible.bind(model, rule, F.cross_entropy, optimizer=optimizer)
    w = [p.detach().clone() for p in model.parameters()]
    buffers = [torch.zeros_like(p) for p in w]
    for x, y in batches(4):
        plain = net()
        for p, value in zip(plain.parameters(), w, strict=True):
            p.data.copy_(value)
        grads = torch.autograd.grad(F.cross_entropy(plain(x), y), list(plain.parameters()))
        for k, g in enumerate(grads):
            buffers[k] = momentum * buffers[k] + (torch.sign(g) + wd * w[k])
            w[k] = w[k] - lr * buffers[k]
        optimizer.zero_grad()
        learner.learn(x, y)
        optimizer.step()
    for p, expected in zip(model.parameters(), w, strict=True):
        torch.testing.assert_close(p.detach(), expected, rtol=1e-12, atol=1e-14)


def test_batch_manhattan_takes_the_sign_of_the_accumulated_update():
    """Once per step, not once per call of learn."""
    model = net()
    plain = copy.deepcopy(model)
    optimizer = SGD(model.parameters(), 0.5)
    rule = registry.make("backprop", batch_manhattan=True)
    learner = plausible.bind(model, rule, F.cross_entropy, optimizer=optimizer)
    for x, y in batches(3):
        learner.learn(x, y)
        F.cross_entropy(plain(x), y).backward()
    optimizer.step()
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.detach(), q.detach() - 0.5 * q.grad.sign(), rtol=0, atol=1e-15)


def test_no_sign_change_is_the_papers_projection():
    """After the step, a weight whose sign flipped is ±1e-10, with its old sign; biases go where they like."""
    model = net()
    optimizer = SGD(model.parameters(), 2.0)
    rule = registry.make("backprop", no_sign_change=True)
    learner = plausible.bind(model, rule, F.cross_entropy, optimizer=optimizer)
    w = [p.detach().clone() for p in model.parameters()]
    caught = 0
    for x, y in batches(4):
        plain = net()
        for p, value in zip(plain.parameters(), w, strict=True):
            p.data.copy_(value)
        grads = torch.autograd.grad(F.cross_entropy(plain(x), y), list(plain.parameters()))
        for k, g in enumerate(grads):
            new = w[k] - 2.0 * g
            if new.dim() > 1:
                for index in range(new.numel()):
                    old, now = float(w[k].view(-1)[index]), float(new.view(-1)[index])
                    if (old > 0) != (now > 0):
                        new.view(-1)[index] = 1e-10 if old > 0 else -1e-10
                        caught += 1
            w[k] = new
        optimizer.zero_grad()
        learner.learn(x, y)
        optimizer.step()
    for p, expected in zip(model.parameters(), w, strict=True):
        torch.testing.assert_close(p.detach(), expected, rtol=1e-9, atol=1e-14)
    assert caught > 10


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("fa", {"batch_manhattan": True}),
        ("backprop", {"no_sign_change": True}),
        ("kolen-pollack", {}),
        ("weight-mirror", {}),
    ],
)
def test_missing_hooks_are_an_error_at_bind(rule: str, options: dict[str, object]):
    model = net()
    with pytest.raises(ConfigurationError, match=f"{rule}.*optimizer=optimizer"):
        plausible.bind(model, registry.make(rule, **options), F.cross_entropy)
    assert [type(m) for m in model] == [type(m) for m in net()], "the model is left as it was"


# --- Kolen-Pollack -------------------------------------------------------------------------------------------------


def kolen_pollack(make: Callable[[nn.Module], Optimizer]) -> tuple[Learner, Optimizer]:
    model = net()
    optimizer = make(model)
    return plausible.bind(model, "kolen-pollack", F.cross_entropy, optimizer=optimizer), optimizer


def differences(learner: Learner, optimizer: Optimizer, steps: int = 20) -> Tensor:
    """W − B after each step, (steps + 1, number of weights in the layers above the first)."""
    state = learner.state_dict(keep_vars=True)
    pairs = [(state[f"model.{k}.weight"], state[f"feedback.{k}.B"]) for k in (2, 4)]

    def now() -> Tensor:
        return torch.cat([(W - B).detach().flatten() for W, B in pairs])

    found = [now()]
    for x, y in batches(steps):
        optimizer.zero_grad()
        learner.learn(x, y)
        nn.utils.clip_grad_norm_(learner.model.parameters(), 0.1)
        optimizer.step()
        found.append(now())
    return torch.stack(found)


@pytest.mark.parametrize(
    "make",
    [lambda m: SGD(m.parameters(), 0.3, weight_decay=0.2), lambda m: AdamW(m.parameters(), 0.03, weight_decay=2.0)],
    ids=["SGD", "AdamW"],
)
def test_the_difference_shrinks_by_exactly_the_decay(make: Callable[[nn.Module], Optimizer]):
    """Entry by entry: W − B becomes (1 − lr·wd)(W − B), whatever the gradient and its clipping."""
    d = differences(*kolen_pollack(make))
    factor = 1 - 0.06
    for step in range(len(d)):
        torch.testing.assert_close(d[step], factor**step * d[0], rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("make", [SGD, Adam], ids=["SGD", "Adam"])
def test_without_decay_the_difference_stays_and_a_warning_says_so(make: Callable[..., Optimizer]):
    with pytest.warns(PlausibleWarning, match="never shrinks"):
        learner, optimizer = kolen_pollack(lambda m: make(m.parameters(), 0.03))
    before = copy.deepcopy(learner.model.state_dict())
    d = differences(learner, optimizer)
    torch.testing.assert_close(d, d[:1].expand_as(d), rtol=0, atol=1e-14)
    assert not torch.allclose(before["2.weight"], learner.model.state_dict()["2.weight"])


def test_with_momentum_and_coupled_decay_the_factor_wanders():
    """The decay goes through the momentum: d ← d − lr·v, with v ← m·v + wd·d, a damped oscillator."""
    lr, wd, m = 0.3, 0.2, 0.9
    learner, optimizer = kolen_pollack(lambda model: SGD(model.parameters(), lr, momentum=m, weight_decay=wd))
    d = differences(learner, optimizer)
    expected, v = d[0], torch.zeros_like(d[0])
    for step in range(1, len(d)):
        v = m * v + wd * expected
        expected = expected - lr * v
        torch.testing.assert_close(d[step], expected, rtol=1e-9, atol=1e-12)
    ratio = d[1:].norm(dim=1) / d[:-1].norm(dim=1)
    assert ratio.max() - ratio.min() > 0.1


def test_feedback_is_stepped_in_the_group_of_its_weight():
    """Its learning rate, decay and schedule are the weight's own, also after a scheduler has moved them."""
    model = net()
    groups = [
        {"params": list(model[:4].parameters()), "lr": 0.1, "weight_decay": 0.5},
        {"params": list(model[4].parameters()), "lr": 0.2, "weight_decay": 0.25},
    ]
    optimizer = SGD(groups, lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    learner = plausible.bind(model, "kolen-pollack", F.cross_entropy, optimizer=optimizer)
    state = learner.state_dict(keep_vars=True)
    factor = {2: 1.0, 4: 1.0}
    start = {k: (state[f"model.{k}.weight"] - state[f"feedback.{k}.B"]).detach() for k in factor}
    for t, (x, y) in enumerate(batches(5)):
        optimizer.zero_grad()
        learner.learn(x, y)
        optimizer.step()
        schedule.step()
        for k in factor:
            factor[k] *= 1 - 0.05 * 0.5**t  # lr·wd is .1·.5 in one group and .2·.25 in the other
            d = (state[f"model.{k}.weight"] - state[f"feedback.{k}.B"]).detach()
            torch.testing.assert_close(d, factor[k] * start[k], rtol=1e-11, atol=1e-14)


def test_accumulation_and_clipping_reach_the_feedback():
    """One SGD step moves B by what moved W: the clipped sum of both calls."""
    learner, optimizer = kolen_pollack(lambda m: SGD(m.parameters(), 0.5, weight_decay=1e-6))
    before = {k: v.clone() for k, v in learner.state_dict().items() if isinstance(v, Tensor)}
    for x, y in batches(2):
        learner.learn(x, y)
    norm = nn.utils.clip_grad_norm_(learner.model.parameters(), 0.01)
    assert norm > 0.01
    optimizer.step()
    after = learner.state_dict()
    for k in (2, 4):
        moved = {name: after[name] - before[name] for name in (f"model.{k}.weight", f"feedback.{k}.B")}
        torch.testing.assert_close(*moved.values(), rtol=0, atol=1e-6)
        assert 0 < moved[f"feedback.{k}.B"].norm() <= 0.5 * 0.01 * 1.001


def test_batch_manhattan_comes_before_the_feedbacks_copy():
    model = net()
    optimizer = SGD(model.parameters(), 0.1, weight_decay=1e-9)
    rule = registry.make("kolen-pollack", batch_manhattan=True)
    learner = plausible.bind(model, rule, F.cross_entropy, optimizer=optimizer)
    B = learner.state_dict()["feedback.2.B"].clone()
    learner.learn(*batches(1)[0])
    optimizer.step()
    moved = learner.state_dict()["feedback.2.B"] - B
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 0.1), rtol=0, atol=1e-8)


def test_a_released_learner_refuses_to_learn_and_leaves_the_optimizer_as_it_found_it():
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    optimizer = torch.optim.AdamW(model.named_parameters(), lr=0.1, weight_decay=0.1)
    before = [list(map(id, group["params"])) for group in optimizer.param_groups]
    names = [list(group["param_names"]) for group in optimizer.param_groups]
    learner = plausible.bind(model, "kolen-pollack", nn.MSELoss(), optimizer=optimizer)
    joined = optimizer.param_groups[0]
    assert len(joined["params"]) == len(joined["param_names"]) == len(before[0]) + 2
    plausible.release(learner)
    assert [list(map(id, group["params"])) for group in optimizer.param_groups] == before
    assert [list(group["param_names"]) for group in optimizer.param_groups] == names
    with pytest.raises(plausible.PlausibleError, match="released"):
        learner.learn(torch.randn(2, 5), torch.randn(2, 3))


def test_the_mirror_phase_is_counted_in_optimizer_steps_not_in_calls_of_learn():
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rule = registry.make("weight-mirror", mirror_every=2, warmup=0)
    learner = plausible.bind(model, rule, nn.MSELoss(), optimizer=optimizer)
    B = learner.feedback["2"].get_buffer("B")
    changed = []
    for _ in range(4):
        was = B.clone()
        for _ in range(2):  # accumulation
            learner.learn(torch.randn(2, 5), torch.randn(2, 3))
        optimizer.step()
        changed.append(not torch.equal(B, was))
    assert changed == [False, True, False, True]
