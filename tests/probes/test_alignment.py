"""The alignment probe: what it measures, and that it changes nothing."""

import contextlib
import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.core import Learner, registry
from plausible.core.errors import CoverageError
from plausible.models import build
from plausible.probes import alignment


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(16, 5),
        nn.Tanh(),
        nn.Linear(5, 3),
    ).double()


def chain() -> nn.Module:
    """For rules that need a chain without chance."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(32, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def spiking() -> nn.Module:
    """For rules that need time."""
    torch.manual_seed(0)
    return build("rsnn", shape=(2, 4, 4), classes=3, width=6).double()


def relayed() -> nn.Module:
    """For rules that teach spiking layers, one behind the other."""
    torch.manual_seed(0)
    return build("lif-mlp", shape=(2, 4, 4), classes=3, width=6, cells=4, spread=0.3).double()


def net_for(rule: str) -> Callable[[], nn.Module]:
    """The first net that the rule can be bound to."""
    for make in (net, chain, spiking, relayed):
        with contextlib.suppress(CoverageError):
            bound(rule, make())
            return make
    raise AssertionError(f"none of the nets suits {rule}")


def batch(n: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, 4, 4, generator=draw, dtype=torch.float64), torch.arange(n) % 3


def bound(rule: str, model: nn.Module, **options: object) -> tuple[Learner, torch.optim.Optimizer]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    made = registry.make(rule, **options)
    return plausible.bind(model, made, F.cross_entropy, example=batch()[0], optimizer=optimizer), optimizer


def everything(learner: Learner, optimizer: torch.optim.Optimizer) -> list[object]:
    """Weights, buffers, feedback, clock, gradients, optimiser state, random state and modes."""
    tensors: list[object] = [v for _, v in sorted(learner.state_dict().items()) if isinstance(v, Tensor)]
    tensors += [p.grad for p in learner.parameters()]
    for state in optimizer.state_dict()["state"].values():
        tensors += state.values()
    tensors += [torch.get_rng_state(), learner.context.iteration, [m.training for m in learner.modules()]]
    return copy.deepcopy(tensors)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rule", registry.names())
def test_probing_changes_nothing_bit_for_bit(rule: str, training: bool):
    make = net_for(rule)
    learner, optimizer = bound(rule, make())
    twin, its_optimizer = bound(rule, make())

    def teach(each: Learner, seed: int = 0) -> None:
        x, y = batch(seed=seed)
        each.learn(x, each.rule.teacher(y))

    for each, its in ((learner, optimizer), (twin, its_optimizer)):
        torch.manual_seed(1)
        teach(each)
        its.step()
        teach(each, seed=1)
        each.train(training)
    before = everything(learner, optimizer)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert alignment(learner, *batch(seed=2))
    assert torch.equal(state, torch.get_rng_state())
    after = everything(learner, optimizer)
    del before[-3], after[-3]  # the random state, compared above
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b
    for each, its in ((learner, optimizer), (twin, its_optimizer)):  # and it goes on as if it had not been probed
        torch.manual_seed(3)
        teach(each, seed=3)
        its.step()
    for a, b in zip(everything(learner, optimizer), everything(twin, its_optimizer), strict=True):
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b


@pytest.mark.parametrize("rule", ["backprop", "sham"])
def test_back_propagation_has_no_angle_to_itself(rule: str):
    """Also with batch normalisation and dropout: both sides meet the same forward state."""
    found = alignment(bound(rule, net())[0], *batch())
    assert list(found) == ["0", "3", "6", "8"]
    for row in found.values():
        assert row["update_angle"] < 1e-5
        if rule == "sham" and "feedback_angle" in row:
            assert row["feedback_angle"] < 1e-5
            assert row["norm_ratio"] == pytest.approx(1) and row["sign_concordance"] == 1
    assert ("feedback_angle" in found["8"]) == (rule == "sham")


def degrees(a: np.ndarray, b: np.ndarray) -> float:
    cos = (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)
    return float(np.degrees(np.arccos(np.clip(cos, -1, 1))))


def example_updates(learner: Learner, x: Tensor, y: Tensor, learn: bool) -> dict[str, list[np.ndarray]]:
    """The update of each weight from one example at a time, by name; for nets without batch statistics."""
    found: dict[str, list[np.ndarray]] = {}
    for n in range(len(x)):
        learner.zero_grad()
        if learn:
            learner.learn(x[n : n + 1], y[n : n + 1])
        else:
            F.cross_entropy(learner.model(x[n : n + 1]), y[n : n + 1]).backward()
        for name, p in learner.model.named_parameters():
            if name.endswith("weight") and p.grad is not None:
                found.setdefault(name.removesuffix(".weight"), []).append(p.grad.numpy().copy())
    return found


@pytest.mark.parametrize("rule", ["fa", "usf", "dfa", "ifa", "drtp", "frozen"])
def test_update_angles_are_the_mean_over_examples(rule: str):
    """Against an explicit loop of one-example updates; running statistics and no dropout, in evaluation mode."""
    x, y = batch(8)
    model = net().eval()
    learner, _ = bound(rule, model)
    found = alignment(learner, x, y)
    by_rule = example_updates(copy.deepcopy(learner), x, y, learn=True)
    plain = copy.deepcopy(learner)
    plain.release()
    by_gradient = example_updates(plain, x, y, learn=False)
    assert set(found) == {"0", "3", "6", "8"}
    for name, row in found.items():
        if name not in by_rule:
            assert rule == "frozen" and "update_angle" not in row
            continue
        expected = np.mean([degrees(a, b) for a, b in zip(by_rule[name], by_gradient[name], strict=True)])
        assert row["update_angle"] == pytest.approx(expected, abs=2e-5)
    assert found["8"]["update_angle"] < 1e-5, "the output layer's own update is exact"
    if rule != "frozen":
        assert found["0"]["update_angle"] > 5


def test_update_angles_with_several_positions_and_calls_per_example():
    """A shared layer on tokens: an example's update is the sum over its positions and over both calls."""

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.twice, self.leave = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(20, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.enter(x))
            h = torch.tanh(self.twice(torch.tanh(self.twice(h))))
            return self.leave(h.flatten(1))

    torch.manual_seed(0)
    x, y = torch.randn(4, 5, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    learner = plausible.bind(Tokens().double(), "fa", F.cross_entropy)
    found = alignment(learner, x, y)
    by_rule = example_updates(copy.deepcopy(learner), x, y, learn=True)
    plain = copy.deepcopy(learner)
    plain.release()
    by_gradient = example_updates(plain, x, y, learn=False)
    for name, row in found.items():
        expected = np.mean([degrees(a, b) for a, b in zip(by_rule[name], by_gradient[name], strict=True)])
        assert row["update_angle"] == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("rule", ["fa", "usf", "frsf", "brsf", "signed-init", "kolen-pollack", "weight-mirror"])
def test_feedback_is_compared_as_used(rule: str):
    """B recovered from the error it sends: δ_x = δ B, one output unit at a time; then numpy."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4)).double()
    model_before = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    learner = plausible.bind(model, rule, F.cross_entropy, optimizer=optimizer)
    x, y = torch.randn(7, 6, dtype=torch.float64), torch.arange(7) % 4
    found = alignment(learner, x, y)
    assert found["0"].keys() == {"update_angle"}, "the first layer's feedback is never used"
    h = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    model[1](h).backward(torch.eye(4, dtype=torch.float64))
    W, B = model_before[1].weight.detach().numpy(), h.grad.numpy()
    assert found["1"]["feedback_angle"] == pytest.approx(degrees(W, B), abs=1e-5)
    assert found["1"]["norm_ratio"] == pytest.approx(np.linalg.norm(B) / np.linalg.norm(W))
    assert found["1"]["sign_concordance"] == pytest.approx((np.sign(W) == np.sign(B)).mean())


def test_an_example_without_an_error_is_left_out():
    """A dead unit gives a zero update, which has no angle; a layer without any is left out of the row."""
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0], [1, 0], [1, 0]]))
        model[0].bias.zero_()
    learner = plausible.bind(model, "fa", F.cross_entropy)
    alive, dead = [1.0, 0.0], [-1.0, 0.0]
    one = alignment(learner, torch.tensor([alive, alive]).double(), torch.tensor([0, 1]))
    mixed = alignment(learner, torch.tensor([alive, dead, alive]).double(), torch.tensor([0, 0, 1]))
    none = alignment(learner, torch.tensor([dead]).double(), torch.tensor([0]))
    assert mixed["0"]["update_angle"] == pytest.approx(one["0"]["update_angle"])
    assert "update_angle" not in none["0"]


def test_errors_that_come_too_late_in_a_net_in_time_are_left_out():
    """The last steps of the lower layers reach no output, so no error comes back to them."""
    learner, _ = bound("backprop", relayed())
    found = alignment(learner, *batch(4))
    assert list(found) == ["linear1", "linear2", "readout"]
    for row in found.values():
        assert row["update_angle"] < 1e-4
