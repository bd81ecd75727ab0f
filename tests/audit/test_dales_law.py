"""Dale's law: mixed signs, kept signs, feedback of mixed signs, and a sign that flips for one step."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.audit import Batch, LearnerSubject
from plausible.audit.criteria.dales_law import dales_law
from plausible.audit.synapses import outgoing
from plausible.core import registry
from plausible.core.families.transport import TransportSite
from plausible.rules.feedback.backprop import BackpropLearner

Backprop, FeedbackAlignment = registry.get("backprop"), registry.get("fa")
HIDDEN = 12 + 10


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 6))


def one_signed() -> nn.Sequential:
    """Every hidden neuron excites, or inhibits, all that it reaches."""
    model = mlp()
    with torch.no_grad():
        for layer in (model[2], model[4]):
            layer.weight.abs_().mul_(torch.where(torch.arange(layer.in_features) % 3 == 0, -1.0, 1.0))
    return model


class Constrained(BackpropLearner):
    """Projects each weight back to the sign it had at first, after every step."""

    def after_step(self) -> None:
        super().after_step()
        with torch.no_grad():
            for layer in (self.model[2], self.model[4]):
                sign = torch.where(torch.arange(layer.in_features) % 3 == 0, -1.0, 1.0)
                layer.weight.copy_((layer.weight * sign).clamp(min=0) * sign)


class Slip(Constrained):
    """The planted fault: one weight has the wrong sign after the third step, and the right one after the fourth."""

    def after_step(self) -> None:
        super().after_step()
        if self.context.step == 3:
            self.model[4].weight.data[2, 5] = -0.1


def rule_of(learner: type[BackpropLearner]) -> plausible.Rule:
    @dataclass(frozen=True, kw_only=True)
    class Test(Backprop):
        def bind(self, model, loss, example=None):
            return learner(model, self, loss)

    return Test()


@dataclass(frozen=True, kw_only=True)
class Excitatory(FeedbackAlignment):
    """Feedback of one sign."""

    def feedback(self, weight: Tensor, state: TransportSite) -> Tensor:
        return state["B"].abs()


def found(rule, model: Callable[[], nn.Module] = mlp, n: int = 8, shape: tuple[int, ...] = (8,)):
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.01)
    x, y = torch.randn(n, *shape), torch.arange(n) % 4
    learner = plausible.bind(net, rule, F.cross_entropy, example=x, optimizer=optimizer)
    return dales_law(LearnerSubject(learner), Batch(x, y, 4))


@pytest.mark.parametrize("rule", ["backprop", "fa", "usf", "dfa", "kolen-pollack", "frozen"])
def test_an_ordinary_net_breaks_the_law(rule):
    finding = found(rule)
    assert finding.verdict == "violated" and finding.value < 0.3 and finding.samples == HIDDEN


def test_one_signed_weights_do_not_stay_so_by_themselves():
    finding = found("backprop", one_signed)
    assert finding.verdict == "violated" and finding.also["weights that changed their sign, 4"] > 0.05


def test_a_projecting_learner_keeps_the_law():
    finding = found(rule_of(Constrained), one_signed)
    assert finding.verdict == "solved" and finding.value == 1 and finding.samples == HIDDEN
    assert finding.also["weights that changed their sign, 2"] == 0
    assert 0 <= finding.also["one-signed, fed from outside: 0"] < 0.5


def test_a_flip_for_one_step_is_caught():
    finding = found(rule_of(Slip), one_signed)
    assert finding.verdict == "partly" and finding.value == pytest.approx(1 - 1 / HIDDEN)
    assert finding.layers["4"] == pytest.approx(0.9) and finding.also["weights that changed their sign, 4"] == 1 / 60


def test_feedback_neurons_are_held_to_it_too():
    mixed = found(registry.make("fa", no_sign_change=True), one_signed)
    assert mixed.verdict == "partly" and mixed.value == 1 and "feedback" in mixed.sentence
    assert mixed.also["one-signed, feedback of 2"] < 0.5
    assert found(Excitatory(no_sign_change=True), one_signed).verdict == "solved"


def test_a_weight_of_zero_has_no_sign():
    def pruned() -> nn.Sequential:
        model = one_signed()
        with torch.no_grad():
            model[4].weight[::2] = 0
        return model

    assert found(rule_of(Constrained), pruned).verdict == "solved"


class Branches(nn.Module):
    """The same hidden neurons excite one layer and inhibit the other."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.plus, self.minus = nn.Linear(8, 6), nn.Linear(6, 4), nn.Linear(6, 4)
        with torch.no_grad():
            self.plus.weight.abs_()
            self.minus.weight.abs_().neg_()

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.enter(x))
        return self.plus(h) + self.minus(h)


def test_a_neuron_is_judged_by_all_it_reaches():
    finding = found(registry.make("backprop", no_sign_change=True), Branches)
    assert finding.verdict == "violated" and finding.value == 0 and finding.samples == 6
    assert list(finding.layers) == ["plus + minus"]


def test_channels_are_the_neurons_of_convolutions():
    """A channel's outgoing weights are what comes out if it alone is active."""
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 3, groups=2, bias=False).double()
    for channel, ours in enumerate(outgoing(layer, layer.weight.detach())):
        pulse = torch.zeros(1, 4, 5, 5, dtype=torch.float64)
        pulse[0, channel, 2, 2] = 1
        theirs = layer(pulse)
        torch.testing.assert_close(ours.sort().values, theirs[theirs != 0].sort().values)


def test_convolutional_nets_are_measured():
    def cnn() -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 4))

    finding = found("fa", cnn, shape=(1, 6, 6))
    assert finding.verdict == "violated" and finding.samples == 3 + 16


def test_without_hidden_neurons_it_does_not_apply():
    assert found("backprop", lambda: nn.Linear(8, 4)).verdict == "does not apply"


def test_the_subject_stays_as_it_is():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    learner = plausible.bind(model, "kolen-pollack", F.cross_entropy, optimizer=optimizer)
    before, random_state = copy.deepcopy(learner.state_dict()), torch.get_rng_state()
    dales_law(LearnerSubject(learner), Batch(torch.zeros(4, 8), torch.arange(4), 4))
    after = learner.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items() if isinstance(value, Tensor))
    assert torch.equal(random_state, torch.get_rng_state()) and all(p.grad is None for p in learner.parameters())
