"""Weight transport: the controls, what lies between them, and what somebody might try to hide."""

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.audit import Batch, LearnerSubject
from plausible.audit.criteria.weight_transport import presynaptic, weight_transport
from plausible.core import registry
from plausible.core.families.transport import TransportSite

FeedbackAlignment = registry.get("fa")


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4))


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, groups=2, padding=1, padding_mode="circular"),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 16, 4),
    )


SHAPES = {mlp: (20,), cnn: (2, 4, 4)}


def bound(rule, net=mlp):
    torch.manual_seed(0)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)
    return plausible.bind(model, rule, F.cross_entropy, example=torch.randn(8, *SHAPES[net]), optimizer=optimizer)


def found(rule, net=mlp, n: int = 8):
    torch.manual_seed(1)
    batch = Batch(torch.randn(n, *SHAPES[net]), torch.randint(4, (n,)), 4)
    return weight_transport(LearnerSubject(bound(rule, net)), batch)


@pytest.mark.parametrize("net", SHAPES)
@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        ("backprop", "violated"),
        ("sham", "violated"),
        ("fa", "solved"),
        ("usf", "partly"),
        ("frsf", "partly"),
        ("brsf", "partly"),
        ("signed-init", "solved"),
        ("kolen-pollack", "solved"),
        ("weight-mirror", "solved"),
        ("dfa", "solved"),
        ("drtp", "solved"),
        ("frozen", "does not apply"),
    ],
)
def test_full_transport_signs_and_none_are_told_apart(net, rule, verdict):
    finding = found(rule, net)
    assert finding.verdict == verdict, finding.sentence
    if verdict == "violated":
        assert finding.value > 0.1 and finding.also["change per change, no sign flipping"] > 0.1
    if verdict == "solved":
        assert finding.value < 1e-12


def test_the_output_layer_alone_may_be_read_and_it_is_named():
    finding = found(registry.make("fa", last_layer="backprop"))
    assert finding.verdict == "violated"
    assert finding.layers["4"] > 0.1 and finding.layers["2"] < 1e-12


@dataclass(frozen=True, kw_only=True)
class Unused(FeedbackAlignment):
    """Draws feedback weights, and back-propagates."""

    name = "unused"

    def feedback(self, weight: Tensor, state: TransportSite) -> Tensor:
        return weight


@dataclass(frozen=True, kw_only=True)
class Leak(FeedbackAlignment):
    """One hundredth of the forward weight seeps into the feedback."""

    name = "leak"

    def feedback(self, weight: Tensor, state: TransportSite) -> Tensor:
        return 0.99 * state["B"] + 0.01 * weight


@pytest.mark.parametrize("net", SHAPES)
@pytest.mark.parametrize("rule", [Unused, Leak])
def test_planted_transport_is_caught(rule, net):
    finding = found(rule(), net)
    assert finding.verdict == "violated" and finding.value > 1e-3


def test_what_is_changed_answers_nothing_to_what_a_layer_meets():
    """The patches that are projected out are those of torch's own unfolding."""
    layer = nn.Conv2d(2, 6, 3, stride=2, padding=1).double()
    x = torch.randn(3, 2, 5, 5, dtype=torch.float64)
    ours = presynaptic(layer, [x])[0]
    theirs = F.unfold(x, 3, stride=2, padding=1).transpose(1, 2).reshape(-1, 18).unique(dim=0)
    assert torch.equal(ours, theirs)


class Loop(nn.Module):
    """A recurrent net: its recurrent weight lies downstream of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.again, self.leave = nn.Linear(20, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.enter(x))
        for _ in range(3):
            h = torch.tanh(self.again(h) + self.enter(x))
        return self.leave(h)


@pytest.mark.parametrize(("rule", "verdict"), [("backprop", "violated"), ("fa", "solved"), ("usf", "partly")])
def test_recurrent_weights_lie_downstream_of_themselves(rule, verdict):
    torch.manual_seed(0)
    learner = plausible.bind(Loop(), rule, F.cross_entropy)
    finding = weight_transport(LearnerSubject(learner), Batch(torch.randn(3, 20), torch.tensor([0, 1, 2]), 4))
    assert finding.verdict == verdict and {"again", "leave"} <= finding.layers.keys()
    assert finding.layers.get("enter", 0.0) < 1e-12  # called at every step, but nothing comes back to it


def test_without_a_null_space_nothing_is_claimed():
    torch.manual_seed(0)
    narrow = nn.Sequential(nn.Linear(5, 1), nn.Tanh(), nn.Linear(1, 4))
    subject = LearnerSubject(plausible.bind(narrow, "backprop", F.cross_entropy))
    finding = weight_transport(subject, Batch(torch.randn(4, 5), torch.tensor([0, 1, 2, 3]), 4))
    assert finding.verdict == "could not be measured" and "wider" in finding.sentence


def test_the_subject_stays_as_it_is():
    learner = bound("usf", cnn)
    subject = LearnerSubject(learner)
    before = copy.deepcopy(learner.state_dict())
    batch = Batch(torch.randn(4, 2, 4, 4), torch.tensor([0, 1, 2, 3]), 4)
    random_state = torch.get_rng_state()
    weight_transport(subject, batch)
    assert torch.equal(random_state, torch.get_rng_state())
    after = learner.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items() if isinstance(value, Tensor))
    assert all(p.grad is None for p in learner.parameters())
    assert learner.training
