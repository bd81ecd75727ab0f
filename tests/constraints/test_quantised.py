"""Quantised weights: unbiased, kept through the step, and after all that the rule does."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import plausible
from plausible.constraints.quantised import Quantised
from plausible.constraints.quantised_use import QuantisedUse
from plausible.core import registry
from plausible.core.errors import ConfigurationError


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()


BATCH = torch.randn(8, 5, generator=torch.Generator().manual_seed(1)).double(), torch.arange(8) % 3


def bind(model: nn.Module, *constraints, rule="backprop", lr: float = 0.1, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, **options)
    learner = plausible.bind(model, rule, F.cross_entropy, optimizer=optimizer, constraints=constraints)
    return learner, optimizer


def step_of(plain: nn.Module, bits: int, name: str = "0.weight") -> float:
    """Δ by its definition."""
    W = plain.get_parameter(name).detach()
    return float(3 * W.pow(2).mean().sqrt() / (2 ** (bits - 1) - 1))


def test_small_updates_are_not_lost_on_average_and_are_lost_to_the_nearest_level():
    """An update of a hundredth of Δ, a thousand times from the same level: P(up) = 0.01."""
    constant = torch.full((200, 500), 0.25)
    model = nn.Linear(500, 200, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(constant)
    found = {}
    for stochastic in (True, False):
        each = copy.deepcopy(model)
        # bits=8, range=127: Δ is the root mean square itself, 0.25, so that all weights lie on level 1.
        learner, optimizer = bind(each, Quantised(bits=8, range=127.0, stochastic=stochastic), lr=1.0)
        assert torch.equal(each.weight, model.weight)
        each.weight.grad = torch.full_like(each.weight, -0.0025)
        optimizer.step()
        found[stochastic] = each.weight.detach()
        del learner
    assert torch.equal(found[False], model.weight.detach())
    assert set(found[True].unique().tolist()) == {0.25, 0.5}
    error = 0.25 * (0.01 * 0.99 / 1e5) ** 0.5
    assert abs(float(found[True].mean()) - 0.2525) < 4 * error


def test_the_step_is_the_optimizers_and_then_rounded():
    """W ← Q(W + ΔW) with the deterministic Q, by hand."""
    model, plain = net(), net()
    _, optimizer = (learner, _) = bind(model, Quantised(bits=4, stochastic=False))
    steps = {name: step_of(plain, 4, name) for name in ("0.weight", "2.weight")}

    def rounded() -> None:
        with torch.no_grad():
            for name, step in steps.items():
                p = plain.get_parameter(name)
                p.copy_((p / step).round().clamp(-7, 7) * step)

    rounded()
    its = torch.optim.SGD(plain.parameters(), lr=0.1)
    for _ in range(5):
        for each in (optimizer, its):
            each.zero_grad()
        learner.learn(*BATCH)
        F.cross_entropy(plain(BATCH[0]), BATCH[1]).backward()
        optimizer.step()
        its.step()
        rounded()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p, plain.get_parameter(name), rtol=1e-12, atol=1e-14)


def test_it_comes_after_what_the_rule_does_to_the_weights():
    """No sign change leaves ±1e-10, which is no level."""
    model = net()
    rule = registry.make("backprop", no_sign_change=True)
    learner, optimizer = bind(model, Quantised(bits=6), rule=rule, lr=3.0)
    for _ in range(3):
        optimizer.zero_grad()
        learner.learn(*BATCH)
        optimizer.step()
    assert len(model[0].weight.unique()) > 3
    assert not ((model[0].weight != 0) & (model[0].weight.abs() < 1e-9)).any()


@pytest.mark.parametrize(("rule", "options"), [("kolen-pollack", {"weight_decay": 0.1}), ("weight-mirror", {})])
def test_feedback_that_learns_is_stored_on_its_own_grid(rule: str, options: dict[str, float]):
    model = net()
    learner, optimizer = bind(model, Quantised(bits=4, on="feedback"), rule=rule, **options)
    B = dict(learner.weights())["feedback.2.B"]
    start = B.detach().clone()
    seen = set(start.unique().tolist())
    for _ in range(20):
        optimizer.zero_grad()
        learner.learn(*BATCH)
        optimizer.step()
        seen |= set(B.unique().tolist())
    assert not torch.equal(B, start) and len(seen) <= 15
    assert len(model[0].weight.unique()) == model[0].weight.numel()


def test_forward_and_feedback_may_have_bits_of_their_own():
    model = net()
    learner, _ = bind(model, Quantised(bits=2, on="feedback"), Quantised(bits=3, on="forward"), rule="fa")
    sizes = {name: len(weight.unique()) for name, weight in learner.weights()}
    assert max(sizes["model.0.weight"], sizes["model.2.weight"]) in (5, 6, 7)
    assert sizes["feedback.2.B"] == 3


def test_gradients_are_taken_at_the_levels_and_the_precise_weight_moves():
    """Courbariaux et al. (2015), algorithm 1, by autograd on a copy that holds Q(W)."""
    model, plain, levels = net(), net(), net()
    learner, optimizer = bind(model, QuantisedUse(bits=3))
    for _ in range(5):
        with torch.no_grad():
            for name, p in levels.named_parameters():
                W = plain.get_parameter(name)
                step = step_of(net(), 3, name) if W.dim() > 1 else 0.0
                p.copy_((W / step).round().clamp(-3, 3) * step if step else W)
        optimizer.zero_grad()
        levels.zero_grad()
        F.cross_entropy(levels(BATCH[0]), BATCH[1]).backward()
        learner.learn(*BATCH)
        optimizer.step()
        with torch.no_grad():
            for name, p in plain.named_parameters():
                p -= 0.1 * levels.get_parameter(name).grad
                if p.dim() > 1:
                    p.clamp_(-3 * step_of(net(), 3, name), 3 * step_of(net(), 3, name))
    for name, p in model.named_parameters():
        torch.testing.assert_close(p, plain.get_parameter(name), rtol=1e-11, atol=1e-13)
    assert len(model[0].weight.unique()) > 7


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bits": 1}, "bits = 1: a weight has 2 to 24 bits"),
        ({"bits": 25}, "bits = 25"),
        ({"bits": 4.0}, "bits = 4.0: it must be a whole number"),
        ({"range": 0.0}, "range = 0.0: weights need room"),
        ({"on": "all"}, "on = 'all': it must be 'both' or 'forward' or 'feedback'"),
        ({"stochastic": 1}, "stochastic = 1: it must be true or false"),
        ({"bit": 4}, "no option 'bit'. Did you mean 'bits'"),
    ],
)
def test_bad_options(options: dict[str, object], says: str):
    with pytest.raises(ConfigurationError, match=f"quantised.*{says}"):
        registry.constraints.make("quantised", **options)
