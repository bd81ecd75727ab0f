"""Linear feedback: signed or not, bounded or not, whether credit survives, and messages that bypass their wires."""

from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from toys import SHAPES, Broadcast, BroadcastLearner, Hebb, LearnerSubject, Reward, examples, subject, unwired

from plausible.audit import Unmeasurable
from plausible.audit.criteria.linear_feedback import linear_feedback
from plausible.audit.criterion import Batch
from plausible.core import registry


@pytest.mark.parametrize("net", SHAPES)
@pytest.mark.parametrize(
    ("rule", "wires"),
    [
        ("backprop", 1),
        ("fa", 2),
        ("usf", 2),
        ("kolen-pollack", 2),
        ("weight-mirror", 2),
        ("dfa", 2),
        ("ifa", 2),
    ],
)
def test_signed_errors_without_bound(rule, wires, net):
    batch = examples(*SHAPES[net])
    found = linear_feedback(subject(rule, net(), batch.x), batch)
    assert found.verdict == "violated" and found.samples == len(found.layers) == wires
    assert found.value == pytest.approx(1.0) and found.also["lowest message of largest"] < -0.1
    linear = {name: value for name, value in found.also.items() if name.endswith("error")}
    assert set(linear) == ({"homogeneity error", "oddness error", "additivity error"} if rule != "backprop" else set())
    assert all(value < 1e-12 for value in linear.values())


def test_batch_manhattan_is_no_nonlinear_feedback():
    """Its nonlinearity is in the update, not in what carries the error."""
    found = linear_feedback(subject(registry.make("fa", batch_manhattan=True)), examples(10))
    assert found.verdict == "violated" and found.also["homogeneity error"] < 1e-12


@pytest.mark.parametrize(
    ("carrier", "verdict", "growth"),
    [
        ("linear", "violated", 1.0),
        ("root", "violated", 0.5),
        ("relu", "partly", 1.0),
        ("tanh", "partly", 0.0),
        ("sigmoid", "solved", 0.0),
    ],
)
def test_what_carries_the_feedback(carrier, verdict, growth):
    found = linear_feedback(subject(Broadcast(carrier=carrier)), examples(10))
    assert found.verdict == verdict and found.value == pytest.approx(growth, abs=1e-6)
    assert (found.also["lowest message of largest"] < 0) == (carrier not in ("relu", "sigmoid"))
    assert list(found.layers) == ["0.teach", "2.teach"]
    assert found.also["change with the label"] > 0.1, "credit survives"
    # Known functions: √4 = 2 is half of what a homogeneous one would give; rectification is not odd.
    known = {
        "linear": (0.0, 0.0),
        "root": (0.5, 0.0),
        "relu": (0.0, None),
        "tanh": (None, 0.0),
        "sigmoid": (None, None),
    }
    for name, value in zip(("homogeneity error", "oddness error"), known[carrier], strict=True):
        assert found.also[name] == pytest.approx(value, abs=1e-9) if value is not None else found.also[name] > 1e-3
    assert (found.also["additivity error"] < 1e-12) == (carrier == "linear")


class Apart(BroadcastLearner):
    """The output's error is summed up and sent to every cell alike."""

    def wire(self, name: str, message: Tensor, source: str, target: str) -> Tensor:
        if source != "teacher":
            message = message.sum(1, keepdim=True) - message.shape[1] / 2
            return super().wire(name, message, source, target) + message.shape[1] / 2
        return super().wire(name, message, source, target)


class Summed(Broadcast):
    learner: ClassVar[type[Apart]] = Apart


def test_a_scalar_has_no_path_that_could_be_linear():
    found = linear_feedback(subject(Reward()), examples(10))
    assert (found.verdict, found.value, found.unit) == ("solved", 1.0, "numbers for an example")
    assert "A scalar is all that is fed back" in found.sentence and not found.layers


def test_a_reward_that_two_labellings_miss_is_found_by_a_third(monkeypatch):
    """All act 3; of the labels 1, and of the next ones, all are wrong."""
    monkeypatch.setattr(torch, "multinomial", lambda p, n, generator: torch.full((len(p), n), 3))
    batch = examples(10)
    found = linear_feedback(subject(Reward()), Batch(batch.x, torch.ones_like(batch.y), batch.classes))
    assert found.verdict == "solved" and "A scalar is all that is fed back" in found.sentence


def test_a_scalar_made_of_the_error_is_a_scalar_too():
    found = linear_feedback(subject(Summed(carrier="linear")), examples(10))
    assert found.verdict == "solved" and "scalar" in found.sentence


def test_one_output_does_not_make_an_error_a_scalar():
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean(1)

    net = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 6), Mean())
    rule = registry.make("backprop")
    learner = rule.bind(net, lambda o, y: (o - y).square().mean())
    with pytest.raises(Unmeasurable, match="one output"):
        linear_feedback(LearnerSubject(learner), examples(10))


@pytest.mark.parametrize("rule", ["frozen", Hebb()])
def test_without_a_teaching_message_to_hidden_layers_it_does_not_apply(rule):
    assert linear_feedback(subject(rule), examples(10)).verdict == "does not apply"


# --- messages that bypass their wires -----------------------------------------------------------------------------


@pytest.mark.parametrize("around", [1.0, 1e-3])
def test_credit_that_goes_around_the_wires_is_noticed(around):
    """The rates that are on show could be sent; what teaches is something else, and nobody has seen it."""
    with pytest.raises(Unmeasurable, match=r"between populations .* bypasses"):
        linear_feedback(subject(Broadcast(carrier="sigmoid", around=around)), examples(10))


def test_a_teacher_that_enters_by_no_wire_is_noticed():
    with pytest.raises(Unmeasurable, match=r"where the teacher enters .* bypasses"):
        linear_feedback(subject(Broadcast(carrier="sigmoid", past_the_teacher=True)), examples(10))


def test_what_the_wires_show_is_enough_to_convict():
    found = linear_feedback(subject(Broadcast(carrier="linear", around=1.0)), examples(10))
    assert found.verdict == "violated"


class Decoy(BroadcastLearner):
    """Shows rates that teach nothing between populations, and lets the error in at the hidden layer itself."""

    def wire(self, name: str, message: Tensor, source: str, target: str) -> Tensor:
        if source == "teacher":
            return super().wire(name, message, source, target)
        super().wire(f"{name}.decoy", torch.sigmoid(message), source, target)
        return super().wire(name, message, "teacher", target)


class WithDecoy(Broadcast):
    learner: ClassVar[type[Decoy]] = Decoy


def test_an_entrance_at_a_hidden_layer_is_a_feedback_path():
    found = linear_feedback(subject(WithDecoy()), examples(10))
    # The gain is met twice: where the error enters, and where it enters again.
    assert found.verdict == "violated" and found.layers["0.teach"] == pytest.approx(2.0)
    assert found.layers["0.teach.decoy"] == pytest.approx(0.0, abs=1e-6)


def test_without_wires_it_cannot_be_measured():
    with pytest.raises(Unmeasurable, match="no wires"):
        linear_feedback(unwired("fa"), examples(10))


def test_the_subject_is_left_as_it_was():
    net = nn.Sequential(nn.Linear(10, 8), nn.Dropout(), nn.ReLU(inplace=True), nn.Linear(8, 4))
    learner = subject("fa", net).copy().learner
    before = {k: v.clone() for k, v in learner.state_dict().items() if isinstance(v, Tensor)}
    random_state = torch.get_rng_state()
    assert linear_feedback(LearnerSubject(learner), examples(10)).verdict == "violated"
    assert all(torch.equal(v, learner.state_dict()[k]) for k, v in before.items())
    assert torch.equal(random_state, torch.get_rng_state()) and learner.context.tap is None
    assert all(p.grad is None for p in learner.parameters()) and learner.training
