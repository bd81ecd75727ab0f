"""Timing: learners in time, learners of phases, and what a late teacher does to either."""

import copy
from dataclasses import dataclass

import pytest
import torch
from learners_in_time import Contrastive, InTime, Online, Spike, Spiking, add, rule
from learners_of_sequences import RealTime, Recurrent, Traces, Truncated
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.audit import Batch, LearnerSubject, Unmeasurable
from plausible.audit.criteria.timing import timing
from plausible.core import registry
from plausible.core.learner import Learner
from plausible.core.rule import Inputs, Outcome, Teacher
from plausible.functional.random import generator


def net(activation: type[nn.Module] = nn.Tanh, hidden: int = 2) -> nn.Sequential:
    torch.manual_seed(0)
    layers, width = [], 20
    for _ in range(hidden):
        layers += [nn.Linear(width, 12), activation()]
        width = 12
    return nn.Sequential(*layers, nn.Linear(width, 4))


def batch(n: int = 24, *shape: int) -> Batch:
    draw = torch.Generator().manual_seed(1)
    return Batch(torch.rand(n, *(shape or (20,)), generator=draw), torch.randint(4, (n,), generator=draw), 4)


def found(how, model=None, data=None):
    model, data = model or net(), data or batch()
    return timing(LearnerSubject(plausible.bind(model, how, F.cross_entropy, example=data.x)), data)


@pytest.mark.parametrize("name", ["backprop", "fa", "dfa"])
def test_static_rules_stop_and_wait(name):
    finding = found(name)
    assert finding.verdict == "violated"
    assert "2 regimes: free, frozen" in finding.sentence
    assert "a whole stimulus late" in finding.sentence
    assert finding.value is not None and abs(finding.value) < 0.5


def test_indirect_feedback_goes_forward_again():
    assert "3 regimes: free, taught, frozen" in found("ifa").sentence


@pytest.mark.parametrize(("learner", "activation"), [(Online, nn.Tanh), (Spiking, Spike)])
def test_a_learner_in_time(learner, activation):
    finding = found(rule(learner), net(activation))
    assert finding.verdict == "solved"
    assert "1 of 20 ticks late" in finding.sentence and "1 regime: taught" in finding.sentence
    assert finding.value is not None and finding.value > 0.95
    assert finding.also["cosine, a whole stimulus late"] < 0.5
    assert finding.layers.keys() == {"0", "2"}


def test_what_is_only_reported_is_no_phase():
    assert "1 regime: taught" in found(rule(Online, reports=True)).sentence


def test_a_contrast_of_phases():
    finding = found(rule(Contrastive))
    assert finding.verdict == "partly"
    assert "2 regimes: free, taught" in finding.sentence
    assert finding.value is not None and finding.value > 0.9


def test_a_single_hidden_layer():
    assert found(rule(Online), net(hidden=1)).verdict == "solved"
    assert found("backprop", net(hidden=1)).verdict == "violated"


def test_only_the_output_layer_is_taught():
    """Nobody has to wait there, but the error must not be late."""
    for finding in (found("frozen"), found("backprop", net(hidden=0))):
        assert finding.verdict == "partly"
        assert "the output layer, all that is taught" in finding.sentence
        assert finding.also["regimes"] == 1
        assert finding.value is not None and finding.value < 0.5


def test_the_cosine_by_hand():
    """A linear classifier: the update is e xᵀ, and a late one e' xᵀ with the error of the presentation before."""
    model, data = net(hidden=0), batch()
    learner = LearnerSubject(plausible.bind(model, "backprop", F.cross_entropy)).copy()
    turn = sorted(range(len(data.y)), key=lambda i: (sum(data.y[j] == data.y[i] for j in range(i)), data.y[i]))
    calls = torch.randint(1, 4, (30,), generator=torch.Generator().manual_seed(0)).tolist()
    assert max(calls) == 3
    rows = [[turn[(24 * p // 8 + s) % 24] for p in range(8)] for s in range(30)]

    def error(s: int, labels: int) -> Tensor:
        x, y = data.x[rows[s]].double(), data.y[rows[labels % 30]]
        return (learner.respond(x).softmax(1) - F.one_hot(y, 4)) / 8

    def update(e: Tensor, s: int) -> Tensor:
        return torch.cat([(e.T @ data.x[rows[s]].double()).flatten(), e.sum(0)])

    own, late = [], []
    for s in range(30):
        own.append(update(error(s, s) - (error(s, s - 1) + error(s, s - 2)) / 2, s))
        before = error(s - 1, s - 1) - (error(s - 1, s - 2) + error(s - 1, s - 3)) / 2
        late.append(update(before if s else torch.zeros_like(before), s))
    expected = F.cosine_similarity(torch.cat(own), torch.cat(late), dim=0)
    assert found("backprop", net(hidden=0)).value == pytest.approx(float(expected), abs=1e-9)


def test_sequences():
    torch.manual_seed(0)
    data = batch(16, 10, 3)
    for learner, verdict, regimes in (
        (RealTime, "solved", "1 regime: taught"),
        (Traces, "solved", "1 regime: taught"),
        (Truncated, "violated", "2 regimes: free, frozen"),
    ):
        finding = found(rule(learner), Recurrent(3, 6, 4), data)
        assert finding.verdict == verdict
        assert regimes in finding.sentence
    # Heard at the end alone, even what runs forward in time has to wait.
    assert found(rule(RealTime, at_end=True), Recurrent(3, 6, 4), data).verdict == "violated"


class _Rewarded(Learner):
    """Node perturbation with a raw reward, mostly constant: ΔW = −loss · noise · inputᵀ."""

    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
        assert isinstance(x, Tensor) and callable(y)
        h, steps = x, []
        for i, module in enumerate(self.model.children()):
            if isinstance(module, nn.Linear):
                a = module(h)
                noise = 0.1 * torch.randn(a.shape, generator=generator(0, i, self.context.iteration), dtype=a.dtype)
                steps.append((module, noise, h))
                h = a + noise
            else:
                h = module(h)
        loss = self.wire("loss", y(h.detach()), "teacher", "all")
        for layer, noise, inputs in steps:
            add(layer.weight, (loss[:, None] * noise).T @ inputs)
        return Outcome(loss.mean(), h.detach())


@dataclass(frozen=True, kw_only=True)
class _Reward(InTime):
    learner = _Rewarded

    def teacher(self, y: Tensor) -> Teacher:
        return lambda action: F.cross_entropy(action, y, reduction="none") + 5


@dataclass(frozen=True, kw_only=True)
class _Bit(_Reward):
    def teacher(self, y: Tensor) -> Teacher:
        return lambda action: (action.argmax(1) != y).to(action)


def test_a_reward_of_one_bit_has_to_be_waited_for():
    """Noise in the activity often leaves a bit as it was; the update waits for it nevertheless."""
    finding = found(_Bit())
    assert finding.also["regimes"] == 2
    assert finding.value is not None and finding.value < 0.7


def test_a_reward_that_is_mostly_constant_is_no_credit():
    """Its late update is nearly parallel to the one in time, all of it noise."""
    finding = found(_Reward())
    assert finding.verdict == "violated"
    assert finding.value is not None and finding.value < 0.6


class _Leaking(Online):
    """Planted: besides its wire, the label comes in by the back door."""

    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
        outcome = super()._learn(x, y)
        assert isinstance(y, Tensor)
        first = self.blocks[0].layer.get_parameter("weight")
        assert first.grad is not None
        first.grad += 1e-4 * y.to(first).mean()
        return outcome


def test_a_message_that_bypasses_its_wire():
    with pytest.raises(Unmeasurable, match="no wire of its own"):
        found(rule(_Leaking))


def test_untaught_and_unwired():
    class Hebbian(Online):
        def wire(self, name: str, message: Tensor, source: str, target: str) -> Tensor:
            return torch.ones_like(message)

    assert found(rule(Hebbian)).verdict == "solved"  # there is no teacher to be late

    class Unwired(LearnerSubject):
        wired = False

    with pytest.raises(Unmeasurable, match="wires"):
        timing(Unwired(plausible.bind(net(), "backprop", F.cross_entropy)), batch())
    with pytest.raises(Unmeasurable, match="two labels"):
        found("backprop", data=Batch(batch().x, torch.zeros(24, dtype=torch.int64), 4))


def test_batch_normalisation():
    model = nn.Sequential(nn.Linear(20, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 4))
    assert found("fa", model).verdict == "violated"


@pytest.mark.parametrize("how", [rule(Online), registry.make("fa")])
def test_the_subject_is_left_as_it_was(how):
    bound = plausible.bind(net(), how, F.cross_entropy)
    before, random = copy.deepcopy(bound.state_dict()), torch.get_rng_state()
    timing(LearnerSubject(bound), batch())
    assert all(torch.equal(before[k], v) for k, v in bound.state_dict().items() if isinstance(v, Tensor))
    assert torch.equal(random, torch.get_rng_state())
    assert all(p.grad is None for p in bound.model.parameters())
