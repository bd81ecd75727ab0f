"""Dale's law: whose sign, what is stored at binding, and the nearest weight that keeps it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import plausible
from plausible.audit import Batch, LearnerSubject
from plausible.audit.criteria.dales_law import dales_law
from plausible.constraints.dale import Dale
from plausible.core import registry
from plausible.core.errors import ConfigurationError


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 4)
    return nn.Sequential(*layers).double()


BATCH = torch.randn(16, 8, generator=torch.Generator().manual_seed(1)).double(), torch.arange(16) % 4


def bind(model: nn.Module, *constraints, rule="backprop", lr: float = 0.1, x=BATCH[0], **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, **options)
    learner = plausible.bind(model, rule, F.cross_entropy, example=x, optimizer=optimizer, constraints=constraints)
    return learner, optimizer


def signs(weight: torch.Tensor, dimension: int = 1) -> list[float]:
    """The one sign of each cell's weights, by looking at all of them."""
    found = []
    for cell in weight.detach().movedim(dimension, 0):
        mine = set(cell.sign().flatten().tolist()) - {0.0}
        assert len(mine) == 1
        found.append(mine.pop())
    return found


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 1.0])
def test_at_binding_magnitudes_stay_in_proportion_and_the_norm_is_what_it_was(fraction: float):
    """One entry after the other, and c by its definition. Rows of equal magnitudes then sum to zero exactly."""
    plain = nn.Linear(40, 30).double().weight.detach()
    for start in (plain, torch.full_like(plain, 0.5)):
        model = nn.Linear(40, 30).double()
        model.weight.data.copy_(start)
        bind(model, Dale(inhibitory=fraction))
        s = signs(model.weight)
        assert s.count(-1.0) == fraction * 40
        expected = torch.empty_like(plain)
        for i in range(30):
            for j in range(40):
                gain = (1 - fraction) / fraction if s[j] < 0 and fraction < 1 else 1.0
                expected[i, j] = s[j] * gain * abs(start[i, j])
        expected *= start.square().sum().sqrt() / expected.square().sum().sqrt()
        torch.testing.assert_close(model.weight.detach(), expected, rtol=1e-13, atol=0)
    if 0 < fraction < 1:
        assert model.weight.sum(1).abs().max() < 1e-13 * model.weight.norm()


def test_a_step_is_the_optimizers_and_then_the_nearest_weight_that_keeps_the_law():
    """Projected descent by hand: what would cross zero is zero, and may come back."""
    model, plain = net(), net()
    learner, optimizer = bind(model, Dale(), lr=0.3)
    plain.load_state_dict(model.state_dict())
    its = torch.optim.SGD(plain.parameters(), lr=0.3)
    law = {k: signs(model[k].weight) for k in (0, 2, 4)}
    silent, back = set(), set()
    for _ in range(20):
        for each in (optimizer, its):
            each.zero_grad()
        learner.learn(*BATCH)
        F.cross_entropy(plain(BATCH[0]), BATCH[1]).backward()
        optimizer.step()
        its.step()
        with torch.no_grad():
            for k, s in law.items():
                for j, sign in enumerate(s):
                    for i, w in enumerate(plain[k].weight[:, j].tolist()):
                        if w * sign <= 0:
                            plain[k].weight[i, j] = 0.0
                            silent.add((k, i, j))
                        elif (k, i, j) in silent:
                            back.add((k, i, j))
        for name, p in model.named_parameters():
            torch.testing.assert_close(p, plain.get_parameter(name), rtol=1e-10, atol=1e-13)
    assert len(silent) > 10 and back


def test_what_is_stored_is_nearest_and_storing_it_again_changes_no_bit():
    """Distances to other weights that keep the law; an orthant's nearest point is unique, for it is convex."""
    model = nn.Linear(20, 10).double()
    _, optimizer = bind(model, Dale(), lr=1.0)
    s = torch.tensor(signs(model.weight))
    draw = torch.Generator().manual_seed(2)
    wanted = torch.randn(10, 20, generator=draw, dtype=torch.float64)
    model.weight.grad = model.weight.detach() - wanted
    asked = model.weight.detach() - model.weight.grad
    optimizer.step()
    stored = model.weight.detach().clone()
    for size in (1e-3, 0.1, 1.0):
        for _ in range(20):
            other = stored + size * torch.randn(10, 20, generator=draw, dtype=torch.float64)
            other = torch.where(other * s > 0, other, 0.0)
            assert (other - asked).norm() > (stored - asked).norm()
    zero = stored == 0
    assert zero.any() and torch.equal(torch.signbit(stored), (s < 0).expand(10, 20)), "zeros have their cell's sign"
    model.weight.grad = torch.zeros_like(stored)
    optimizer.step()
    assert torch.equal(model.weight, stored) and torch.equal(torch.signbit(model.weight), torch.signbit(stored))


def test_cells_that_send_through_several_weights_have_one_sign_in_all():
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.loop, self.out = nn.Linear(5, 9), nn.Linear(9, 9), nn.Linear(9, 4)
            self.maps = nn.Conv2d(9, 3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = torch.relu(self.enter(x))
            return self.out(torch.relu(self.loop(h))) + self.out(h)

    model = Branches().double()
    bind(model, Dale(), x=torch.randn(2, 5).double())
    assert signs(model.loop.weight) == signs(model.out.weight) == signs(model.maps.weight)
    other = Branches().double()
    bind(other, Dale(seed=3), x=torch.randn(2, 5).double())
    assert signs(model.loop.weight) != signs(other.loop.weight)


@pytest.mark.parametrize("rule", ["fa", "kolen-pollack", "signed-init", "sdtp", "dendritic-microcircuit"])
def test_whoever_sends_the_feedback_keeps_one_sign_too(rule: str):
    """In W's shape, in which the learner shows it, what answers to W sends."""
    model = net()
    learner, optimizer = bind(model, Dale(on="both"), rule=rule, weight_decay=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        learner.learn(*BATCH)
        optimizer.step()
    assert learner.feedback_weights()
    for name, (_, B) in learner.feedback_weights().items():
        signs(B, 0), signs(model.get_submodule(name).weight)


def test_direct_feedback_comes_from_the_same_cells_to_all_layers():
    learner, _ = bind(net(), Dale(on="feedback"), rule="dfa")
    stored = [signs(B, 0) for name, B in learner.weights() if name.startswith("feedback")]
    assert len(stored) == 2 and stored[0] == stored[1] and -1.0 in stored[0]


def test_levels_come_after_the_law_and_break_it_nowhere():
    """Zero is among the levels, and so rounding takes nothing across it: both constraints hold of what is stored."""
    model = net()
    learner, optimizer = bind(model, Dale(), registry.constraints.make("quantised", bits=4))
    law = signs(model[2].weight)
    for _ in range(5):
        optimizer.zero_grad()
        learner.learn(*BATCH)
        optimizer.step()
        assert len(model[2].weight.abs().unique()) <= 8
        assert not (model[2].weight * torch.tensor(law) < 0).any()


def test_a_weight_that_something_else_took_across_zero_is_projected_and_not_balanced_anew():
    model = net()
    _, optimizer = bind(model, Dale())
    before = model[2].weight.detach().clone()
    with torch.no_grad():
        model[2].weight[3, 4] *= -1
    model[2].weight.grad = torch.zeros_like(before)
    optimizer.step()
    before[3, 4] = 0.0
    assert torch.equal(model[2].weight, before)


@pytest.mark.parametrize(
    ("rule", "on", "verdict", "feedback"),
    [
        ("dfa", "forward", "solved", {}),  # who sends the error straight to a layer is in no weight's place
        ("fa", "forward", "partly", {"2": False, "4": False}),
        ("fa", "both", "solved", {"2": True, "4": True}),
    ],
)
def test_the_audit_finds_the_law_kept(rule: str, on: str, verdict: str, feedback: dict[str, bool]):
    learner, _ = bind(net(), Dale(on=on), rule=rule)
    finding = dales_law(LearnerSubject(learner), Batch(*BATCH, 4))
    assert (finding.verdict, finding.value, finding.samples) == (verdict, 1.0, 12 + 10)
    assert finding.also["one-signed, fed from outside: 0"] == 1
    assert all(finding.also[f"weights that changed their sign, {name}"] == 0 for name in ("2", "4"))
    found = {name.split()[-1]: value == 1 for name, value in finding.also.items() if "one-signed, feedback" in name}
    found.pop("0", None)  # feedback to the sensors is stored, and reaches nothing
    assert found == feedback
    plain, _ = bind(net(), rule=rule)
    assert dales_law(LearnerSubject(plain), Batch(*BATCH, 4)).verdict == "violated"


@pytest.mark.parametrize("fraction", [-0.1, 1.1])
def test_bad_options(fraction: float):
    says = f"dale: inhibitory = {fraction}: a fraction lies between 0 and 1"
    with pytest.raises(ConfigurationError, match=says):
        registry.constraints.make("dale", inhibitory=fraction)
