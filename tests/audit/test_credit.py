"""Credit: rules that learn, hidden layers that do not, and feedback that is another one for every stimulus."""

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.audit import Batch, LearnerSubject, Unmeasurable
from plausible.audit.criteria.credit import FOLDS, credit
from plausible.core import registry
from plausible.core.families.transport import TransportSite
from plausible.data import load
from plausible.functional.random import generator
from plausible.rules.feedback.backprop import BackpropLearner

Backprop, FeedbackAlignment = registry.get("backprop"), registry.get("fa")


@dataclass(frozen=True, kw_only=True)
class Redrawn(FeedbackAlignment):
    """Feedback that is drawn anew for every stimulus."""

    def feedback(self, weight: Tensor, state: TransportSite) -> Tensor:
        draw = generator(self.seed, state.name, state.context.iteration)
        return state.scale * (2 * torch.rand(weight.shape, generator=draw, dtype=weight.dtype) - 1)


@dataclass(frozen=True, kw_only=True)
class Against(Backprop):
    """Back-propagation whose hidden layers climb instead of descending; ``only``: others than this are not taught."""

    only: str = ""

    def bind(self, model, loss, example=None) -> "AgainstLearner":
        return AgainstLearner(model, self, loss)


class AgainstLearner(BackpropLearner):
    rule: Against

    def _learn(self, x, y):
        before = {name: None if p.grad is None else p.grad.clone() for name, p in self.model.named_parameters()}
        outcome = super()._learn(x, y)
        for name, p in self.model.named_parameters():
            if name.startswith("5"):
                continue
            if self.rule.only and not name.startswith(self.rule.only):
                p.grad = before[name]
            elif not self.rule.only:
                was = before[name]
                p.grad = -p.grad if was is None else 2 * was - p.grad
        return outcome


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 10))


@pytest.fixture(scope="module")
def digits() -> Batch:
    train = load("digits").train
    return Batch((train.x[:128] - train.x.mean()) / train.x.std(), train.y[:128], 10)


def bound(rule, batch: Batch, model: nn.Module | None = None):
    model = mlp() if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-4)
    return plausible.bind(model, rule, F.cross_entropy, example=batch.x, optimizer=optimizer)


def found(rule, batch: Batch, model: nn.Module | None = None):
    return credit(LearnerSubject(bound(rule, batch, model)), batch)


def test_back_propagation_assigns_credit(digits):
    finding = found("backprop", digits)
    assert finding.verdict == "solved" and finding.value > 0.2
    assert finding.samples >= 3 and finding.spread is not None and finding.value > finding.spread
    assert max(finding.layers.values()) < 1e-3


def test_feedback_alignment_comes_to_assign_credit(digits):
    finding = found("fa", digits)
    assert finding.verdict == "solved"
    for layer in "13":
        assert finding.layers[layer] < 80 < finding.also[f"angle at the start, {layer}"]


def test_the_angles_are_those_of_the_probe(digits):
    """Which takes them from the errors that arrive at the layers, and not from updates of single examples."""
    unseen = torch.randperm(len(digits.y), generator=torch.Generator().manual_seed(0))[FOLDS - 1 :: FOLDS]
    few = Batch(digits.x[unseen], digits.y[unseen], digits.classes)
    learner = bound("fa", digits).double()
    theirs = plausible.alignment(learner, few.x.double(), few.y)
    finding = found("fa", digits)
    for layer in "13":
        ours = finding.also[f"angle at the start, {layer}"]
        assert ours == pytest.approx(theirs[layer]["update_angle"], abs=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_feedback_that_is_redrawn_for_every_stimulus_carries_no_credit(digits, seed):
    finding = found(Redrawn(seed=seed), digits)
    assert finding.verdict == "violated", finding.sentence
    assert all(80 < angle < 100 for angle in finding.layers.values())


def test_a_rule_that_descends_on_average_is_told_by_the_mean_of_its_updates(digits):
    """In so few steps node perturbation learns nothing yet, and by a single attempt it goes almost anywhere."""
    finding = found("node-perturbation", digits)
    assert finding.verdict == "partly" and "standard errors" in finding.sentence


def test_updates_that_climb_are_caught(digits):
    finding = found(Against(), digits)
    assert finding.verdict == "violated" and min(finding.layers.values()) > 179


def test_hidden_layers_that_are_not_taught_get_none(digits):
    finding = found("frozen", digits)
    assert finding.verdict == "violated" and finding.value == 0 and "No hidden layer is taught" in finding.sentence


def test_a_layer_left_out_is_named(digits):
    finding = found(Against(only="3"), digits)
    assert finding.verdict == "partly" and "Not taught: 1." in finding.sentence and finding.layers.keys() == {"3"}


def test_without_a_hidden_layer_it_does_not_apply(digits):
    assert found("backprop", digits, nn.Sequential(nn.Flatten(), nn.Linear(64, 10))).verdict == "does not apply"


def test_too_few_examples_are_refused(digits):
    with pytest.raises(Unmeasurable, match="too few"):
        found("fa", digits.first(16))


def test_where_the_model_answers_otherwise_small_steps_give_the_angle(digits):
    """As in learners whose activity relaxes: the plain model's gradient is then another function's."""

    class Elsewhere(BackpropLearner):
        def forward(self, x):
            return 3 * super().forward(x) + 1

    finding = credit(LearnerSubject(Elsewhere(mlp(), Backprop(), F.cross_entropy)), digits)
    assert "small steps" in finding.sentence
    assert max(finding.layers.values()) < 45


def test_the_subject_stays_as_it_is(digits):
    learner = bound("kolen-pollack", digits)
    before, random_state = copy.deepcopy(learner.state_dict()), torch.get_rng_state()
    credit(LearnerSubject(learner), digits)
    after = learner.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items() if isinstance(value, Tensor))
    assert torch.equal(random_state, torch.get_rng_state()) and all(p.grad is None for p in learner.parameters())
    assert all(module.training for module in learner.modules())
