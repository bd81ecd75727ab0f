"""Spiking: events and graded messages, forward and back, in learning and in testing."""

import copy

import pytest
import torch
from learners_in_time import Online, Spike, Spiking, rule
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.audit import Batch, LearnerSubject, Unmeasurable
from plausible.audit.criteria.spiking import spiking


def net(activation: type[nn.Module] = nn.Tanh, hidden: int = 2) -> nn.Sequential:
    torch.manual_seed(0)
    layers, width = [], 20
    for _ in range(hidden):
        layers += [nn.Linear(width, 16), activation()]
        width = 16
    return nn.Sequential(*layers, nn.Linear(width, 4))


def batch(n: int = 24) -> Batch:
    draw = torch.Generator().manual_seed(1)
    return Batch(torch.rand(n, 20, generator=draw), torch.arange(n) % 4, 4)


def subject(how, model) -> LearnerSubject:
    return LearnerSubject(plausible.bind(model, how, F.cross_entropy, example=batch().x))


@pytest.mark.parametrize("hidden", [1, 2])
@pytest.mark.parametrize("name", ["backprop", "fa", "dfa"])
def test_static_rules_send_numbers(name, hidden):
    finding = spiking(subject(name, net(hidden=hidden)), batch())
    assert finding.verdict == "violated"
    assert finding.value == 0


@pytest.mark.parametrize("hidden", [1, 2])
def test_spikes_forward_and_back(hidden):
    finding = spiking(subject(rule(Spiking), net(Spike, hidden)), batch())
    assert finding.verdict == "solved"
    assert finding.value == 1
    assert finding.samples == 4 * hidden  # each hidden layer: forward twice, on and off cells
    assert finding.also["error, from the teacher"] == 0  # graded, and from outside


def test_graded_feedback():
    finding = spiking(subject(rule(Spiking, graded=True), net(Spike)), batch())
    assert finding.verdict == "partly"
    assert finding.value == pytest.approx(4 / 6)
    assert finding.also["fraction of channels, feedback"] == 0


def test_rates_in_testing_only():
    """Planted: it learns with spikes, and answers with rates."""
    finding = spiking(subject(rule(Spiking, rates_in_test=True), net(Spike)), batch())
    assert finding.verdict == "violated"
    assert finding.also["fraction of channels, forward in learning"] == 1
    assert finding.also["fraction of channels, forward in testing"] == 0


class _Louder(Spike):
    """Events whose amplitude is the neuron's own, or drifts from tick to tick."""

    drift = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.scale = 1.0

    def forward(self, v: Tensor) -> Tensor:
        self.scale += self.drift
        return self.scale * super().forward(v) * torch.linspace(1, 2, v.shape[1]).to(v)


class _Drifting(_Louder):
    drift = 1e-3


@pytest.mark.parametrize(("activation", "verdict"), [(_Louder, "solved"), (_Drifting, "violated")])
def test_each_neuron_has_one_amplitude(activation, verdict):
    assert spiking(subject(rule(Spiking), net(activation)), batch()).verdict == verdict


class _Mute(nn.Module):
    def forward(self, v: Tensor) -> Tensor:
        return torch.zeros_like(v)


def test_a_constant_is_no_event():
    """A layer that always fires."""
    model = net(Spike)
    model[2].get_parameter("bias").data.fill_(10)
    finding = spiking(subject(rule(Spiking), model), batch())
    assert finding.verdict == "violated"
    assert finding.layers["2, forward in learning"] == 1
    assert finding.layers["4, forward in learning"] == 0


def test_silence_is_no_event():
    with pytest.raises(Unmeasurable, match="nothing was sent"):
        spiking(subject(rule(Spiking), net(_Mute)), batch())
    half = nn.Sequential(nn.Linear(20, 16), Spike(), nn.Linear(16, 16), _Mute(), nn.Linear(16, 4))
    finding = spiking(subject(rule(Spiking), half), batch())
    assert finding.verdict == "solved"
    assert "Silent, not judged: 4, forward in learning" in finding.sentence


def test_feedback_that_only_the_teacher_carries_is_judged():
    """Back-propagation through spikes: events forward, and an error whose way back passes no wires."""

    class Surrogate(nn.Module):
        def forward(self, v: Tensor) -> Tensor:
            return (v > 0).to(v) + v.sigmoid() - v.sigmoid().detach()

    class Exact(nn.Module):
        def forward(self, v: Tensor) -> Tensor:
            return (v > 0).to(v) + 0 * v

    assert spiking(subject("backprop", net(Surrogate)), batch()).verdict in {"partly", "violated"}
    finding = spiking(subject("backprop", net(Exact)), batch())
    assert finding.verdict == "partly"
    assert finding.layers["error, feedback"] == 0


def test_no_hidden_layer():
    assert spiking(subject("backprop", net(hidden=0)), batch()).verdict == "does not apply"


class _Unwired(LearnerSubject):
    wired = False


def test_without_wires():
    bound = plausible.bind(net(), "backprop", F.cross_entropy)
    finding = spiking(_Unwired(bound), batch())
    assert finding.verdict == "violated"
    assert "feedback could not be seen" in finding.sentence
    spikes = plausible.bind(net(Spike), rule(Spiking), F.cross_entropy)
    with pytest.raises(Unmeasurable, match="wires"):
        spiking(_Unwired(spikes), batch())


def test_a_convolution_and_one_batch_of_few():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(18, 4)
    )
    x = torch.randn(4, 1, 6, 6)
    learner = plausible.bind(model, "dfa", F.cross_entropy, example=x)
    finding = spiking(LearnerSubject(learner), Batch(x, torch.arange(4), 4))
    assert finding.verdict == "violated"
    assert finding.value == 0


@pytest.mark.parametrize("learner", [Online, Spiking])
def test_the_subject_is_left_as_it_was(learner):
    bound = plausible.bind(net(Spike if learner is Spiking else nn.Tanh), rule(learner), F.cross_entropy)
    before, random = copy.deepcopy(bound.state_dict()), torch.get_rng_state()
    spiking(LearnerSubject(bound), batch())
    assert all(torch.equal(before[k], v) for k, v in bound.state_dict().items() if isinstance(v, Tensor))
    assert torch.equal(random, torch.get_rng_state())
    assert all(p.grad is None for p in bound.model.parameters())
