"""What carries the error through each weight: rules of which it is known, and one that forgets a layer."""

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.audit.coverage import count, coverage, through_forward_weights
from plausible.audit.trajectory import Trajectory
from plausible.core.errors import ConfigurationError
from plausible.core.families.transport import TransportLearner
from plausible.rules.feedback.fa import FeedbackAlignment


class Net(nn.Module):
    """A residual branch, attention, normalisation, a gain, and a position that is added."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.place = nn.Linear(3, 4), nn.Parameter(torch.zeros(5, 4))
        self.norm, self.attention = nn.LayerNorm(4), nn.MultiheadAttention(4, 2, batch_first=True)
        self.gain, self.branch = nn.Parameter(torch.ones(5, 4)), nn.Linear(4, 4)
        self.leave = nn.Linear(4, 3)
        nn.init.zeros_(self.leave.weight)  # a head that starts at zero must hide nothing

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.enter(x) + self.place)
        h = h + self.gain * self.attention(h, h, h, need_weights=False)[0]
        return self.leave((h + torch.tanh(self.branch(h))).mean(1))


def measured(rule: object) -> dict[str, str]:
    torch.manual_seed(0)
    model, x = Net().double(), torch.randn(3, 5, 3, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    learner = plausible.bind(model, rule, F.cross_entropy, example=x, optimizer=optimizer)
    before = {name: p.clone() for name, p in model.named_parameters()}
    found = coverage(learner, x, torch.tensor([0, 1, 2]))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters()), "weights are as they were"
    assert sum(count(found).values()) == len(found)
    return {each.name: each.by for each in found}


CARRY = ["attention.in_proj_weight", "attention.out_proj.weight", "branch.weight", "leave.weight"]


@pytest.mark.parametrize(
    ("rule", "by"),
    [("backprop", "weights"), ("sham", "weights"), ("fa", "feedback"), ("usf", "signs"), ("brsf", "signs"),
     ("frsf", "signs"), ("kolen-pollack", "feedback"), ("dfa", "nothing")],
)  # fmt: skip
def test_rules_of_which_it_is_known(rule: str, by: str):
    found = measured(rule)
    assert {found[name] for name in CARRY} == {by}
    assert found["enter.weight"] == found["place"] == "nothing", "nothing that learns lies behind, or it only adds"
    assert found["gain"] == "gain", "which is exact, also within a block of dfa"


@dataclass(frozen=True, kw_only=True)
class Forgetful(FeedbackAlignment):
    """Feedback alignment that leaves one layer to back-propagation, and does not say so."""

    def learner(self, model, loss, coverage) -> TransportLearner:
        layers = {name: layer for name, layer in coverage.layers.items() if name != "branch"}
        return super().learner(model, loss, type(coverage)(layers, [], [], coverage.recurrent, coverage.uses))


def test_a_layer_that_was_forgotten_is_found():
    torch.manual_seed(0)
    model, x = Net().double(), torch.randn(3, 5, 3, dtype=torch.float64)
    learner = plausible.bind(model, Forgetful(), F.cross_entropy, example=x)
    assert through_forward_weights(coverage(learner, x, torch.tensor([0, 1, 2]))) == ["branch.weight"]


def test_single_precision_is_refused():
    model = nn.Linear(3, 2)
    with pytest.raises(ConfigurationError, match="double"):
        coverage(plausible.bind(model, "fa", F.cross_entropy), torch.randn(2, 3), torch.tensor([0, 1]))


@pytest.mark.parametrize("rule", ["predictive-coding", "equilibrium-propagation", "ifa", "node-perturbation"])
def test_learners_whose_activity_is_not_that_of_one_forward_pass_are_refused(rule: str):
    """Their updates would follow the weights by way of the activity, or what reads the weights would be held too."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 1, 0, 1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    learner = plausible.bind(model, rule, F.cross_entropy, example=x, optimizer=optimizer)
    with pytest.raises(ConfigurationError, match=f"{rule} learns by .* forward passes.*plausible audit"):
        coverage(learner, x, learner.rule.teacher(y))


def test_a_trajectory_holds_activity_and_lets_the_way_back_change():
    """Closed form: with W₂ in the forward pass and V in its place on the way back, ∂L/∂W₁ = ((δ V) ∘ m ∘ φ′) xᵀ, where
    the mask m of the dropped cells is drawn anew in each pass, and held."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 2)).double()
    x, other = torch.randn(5, 3, dtype=torch.float64), copy.deepcopy(net)
    seen: list[Tensor] = []
    net[2].register_forward_hook(lambda module, inputs, output: seen.append(output))
    trajectory = Trajectory(x)
    with trajectory.recorded(net):
        y = net(x)
    V = torch.randn(2, 4, dtype=torch.float64)
    with torch.no_grad():
        other[3].weight.copy_(V)
    with trajectory.repeated(other):
        again = other(x)
    assert torch.equal(again, y) and trajectory.passes == 1
    delta = torch.randn_like(y)
    again.backward(delta)
    h = torch.tanh(net[0](x))
    expected = ((delta @ V) * (seen[0] / h) * (1 - h**2)).T @ x
    torch.testing.assert_close(other[0].weight.grad, expected, rtol=1e-12, atol=1e-14)


def test_what_a_layer_answers_to_a_constant_is_held_too():
    """A table of positions that goes through a layer: activity, though it does not depend on the input."""

    class Places(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.leave = nn.Linear(1, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.leave(x * self.table(torch.ones(1, 1).to(x)))

    net, x = Places().double(), torch.randn(3, 4, dtype=torch.float64)
    other, trajectory = copy.deepcopy(net), Trajectory(x)
    with trajectory.recorded(net):
        y = net(x)
    nn.init.normal_(other.table.weight)
    with trajectory.repeated(other):
        assert torch.equal(other(x), y)
