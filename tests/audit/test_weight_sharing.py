"""Weight sharing: convolutions and tokens share, locally connected layers do not, unless their updates are pooled."""

import copy
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.audit import Batch, LearnerSubject, Unmeasurable
from plausible.audit.criteria.weight_sharing import weight_sharing
from plausible.core import registry


class LocallyConnected(nn.Module):
    """3×3 patches, each with a weight (out, in × 9) of its own; all start alike, unless they are to differ."""

    def __init__(self, n_in: int, n_out: int, side: int, differ: bool = False) -> None:
        super().__init__()
        self.side = side - 2
        one = torch.randn(self.side**2 if differ else 1, n_out, n_in * 9) / 3
        self.weight = nn.Parameter(one.expand(self.side**2, -1, -1).clone())

    def used(self) -> Tensor:
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        patches = F.unfold(x, 3)
        return torch.einsum("nip,poi->nop", patches, self.used()).unflatten(2, (self.side, self.side))


class Pooled(LocallyConnected):
    """The planted fault: every position gets the mean of all updates."""

    def used(self) -> Tensor:
        mean = self.weight.mean(0, keepdim=True)
        return self.weight.detach() + (mean - mean.detach())


def with_front(front: nn.Module, units: int) -> nn.Sequential:
    return nn.Sequential(front, nn.Tanh(), nn.Flatten(), nn.Linear(units, 4))


def found(model: nn.Module, rule="backprop", shape: tuple[int, ...] = (2, 6, 6), time_axis: int | None = None):
    x, y = torch.randn(8, *shape), torch.arange(8) % 4
    learner = plausible.bind(model, rule, F.cross_entropy, example=x)
    learner.time_axis = time_axis
    return weight_sharing(LearnerSubject(learner), Batch(x, y, 4))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("rule", ["backprop", "fa", "dfa"])
@pytest.mark.parametrize(
    ("conv", "units"),
    [
        (nn.Conv2d(2, 3, 3), 48),
        (nn.Conv2d(2, 4, 3, padding=1, groups=2), 144),
        (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), 108),
        (nn.Conv2d(2, 3, 2, stride=2, bias=False), 27),
    ],
)
def test_convolutions_share(rule, conv, units):
    finding = found(with_front(copy.deepcopy(conv), units), rule)
    assert finding.verdict == "violated" and finding.value < 1e-12, finding.sentence


@pytest.mark.parametrize("rule", [registry.make("backprop"), registry.make("fa", uncovered="backprop")])
def test_synapses_of_their_own_differ_after_one_update_though_they_started_alike(rule):
    finding = found(with_front(LocallyConnected(2, 3, 6), 48), rule)
    assert finding.verdict == "solved" and finding.value > 0.1


@pytest.mark.parametrize("differ", [False, True])
def test_pooled_updates_are_caught_whatever_the_weights_were(differ):
    finding = found(with_front(Pooled(2, 3, 6, differ), 48))
    assert finding.verdict == "violated" and finding.value < 1e-12
    free = found(with_front(LocallyConnected(2, 3, 6, differ), 48))
    assert free.verdict == "solved"


def test_the_value_is_the_difference_between_the_positions_updates():
    """On a map of 3 × 3, all of which is looked at, what is read off the responses is the gradient itself."""
    model = with_front(LocallyConnected(2, 3, 5), 27)
    x, y = torch.randn(8, 2, 5, 5, dtype=torch.float64), torch.arange(8) % 4
    plain = copy.deepcopy(model).double()
    F.cross_entropy(plain(x), y).backward()
    g = plain[0].weight.grad
    expected = max((a - b).norm() for a, b in combinations(g, 2)) / max(a.norm() for a in g)
    learner = plausible.bind(model, "backprop", F.cross_entropy)
    finding = weight_sharing(LearnerSubject(learner), Batch(x, y, 4))
    assert finding.value == pytest.approx(float(expected), rel=1e-9)


def test_a_net_with_both_shares_in_part():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), LocallyConnected(3, 3, 6), nn.Flatten(), nn.Linear(48, 4))
    finding = found(model, shape=(2, 8, 8))
    assert finding.verdict == "partly" and finding.layers["0"] < 1e-12 < 0.1 < finding.layers["2"]
    assert "in 0," in finding.sentence


def test_tokens_share_but_times_do_not():
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Flatten(), nn.Linear(24, 4))
    assert found(model, shape=(4, 5)).verdict == "violated"
    fresh = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Flatten(), nn.Linear(24, 4))
    assert found(fresh, shape=(4, 5), time_axis=1).verdict == "does not apply"


@pytest.mark.parametrize(
    ("model", "rule"),
    [
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 5), nn.Tanh(), nn.Linear(5, 4)), "backprop"),
        (lambda: with_front(nn.Conv2d(2, 3, 6), 3), "backprop"),
        (lambda: with_front(nn.Conv2d(2, 3, 3), 48), "frozen"),
    ],
)
def test_without_taught_layers_with_positions_it_does_not_apply(model, rule):
    assert found(model(), rule).verdict == "does not apply"


def test_where_no_receptive_field_is_whole_twice_nothing_is_claimed():
    with pytest.raises(Unmeasurable, match="larger"):
        found(with_front(nn.Conv2d(2, 3, 3, padding=1), 12), shape=(2, 2, 2))


def test_the_subject_stays_as_it_is():
    x, y = torch.randn(8, 2, 6, 6), torch.arange(8) % 4
    learner = plausible.bind(with_front(nn.Conv2d(2, 3, 3), 48), "fa", F.cross_entropy)
    before, random_state = copy.deepcopy(learner.state_dict()), torch.get_rng_state()
    weight_sharing(LearnerSubject(learner), Batch(x, y, 4))
    after = learner.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items() if isinstance(value, Tensor))
    assert torch.equal(random_state, torch.get_rng_state()) and all(p.grad is None for p in learner.parameters())
