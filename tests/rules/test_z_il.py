"""Z-IL: predictive coding in which every layer learns as its error arrives, is back-propagation (Song et al. 2020)."""

import copy
from collections import defaultdict

import pytest
import torch
from literal import batch, mlp
from test_fixed_prediction import cnn, examples, gap, grads
from torch import nn
from torch.nn import functional as F

import plausible
from plausible.audit import Batch, LearnerSubject
from plausible.audit.criteria.weight_transport import weight_transport
from plausible.core import registry


@pytest.mark.parametrize("net", [mlp, cnn])
def test_the_update_is_the_gradient(net):
    model, (x, y) = net(), examples(net)
    twin = copy.deepcopy(model)
    plausible.bind(model, "z-il", F.cross_entropy).learn(x, y)
    F.cross_entropy(twin(x), y).backward()
    assert gap(grads(model), grads(twin)) < 1e-12 < max(float(g.abs().max()) for g in grads(twin))


def test_it_is_the_strict_relaxation_with_another_clock():
    """Same γ and steps: what the first layer learns last is the same, what the others learned before is not."""
    model, strict, (x, y) = mlp(), mlp(), batch()
    plausible.bind(model, "z-il", F.cross_entropy).learn(x, y)
    plausible.bind(strict, registry.make("predictive-coding", steps=2, rate=1.0), F.cross_entropy).learn(x, y)
    assert torch.equal(model[0].weight.grad, strict[0].weight.grad)
    assert all(not torch.allclose(model[k].weight.grad, strict[k].weight.grad, rtol=1e-2) for k in (2, 4))


def test_the_error_travels_down_as_a_wave():
    """The message into a layer is zero until the wave comes to it."""
    model = nn.Sequential(*[m for _ in range(4) for m in (nn.Linear(5, 5), nn.Tanh())], nn.Linear(5, 4)).double()
    learner = plausible.bind(model, "z-il", F.cross_entropy)
    heard = defaultdict(list)

    def listen(name, message, source, target):
        heard[name].append(bool(message.any()))
        return message

    learner.context.tap = listen
    learner.learn(*batch())
    assert heard == {
        "error": [True] * 5,
        "8.feedback": [True, True, True, True],
        "6.feedback": [False, True, True, True],
        "4.feedback": [False, False, True, True],
        "2.feedback": [False, False, False, True],
    }


@pytest.mark.parametrize("net", [mlp, cnn])
def test_with_random_feedback_it_is_feedback_alignment(net):
    model, (x, y) = net(), examples(net)
    twin = copy.deepcopy(model)
    plausible.bind(model, registry.make("z-il", feedback="random", seed=3), F.cross_entropy).learn(x, y)
    plausible.bind(twin, registry.make("fa", seed=3), F.cross_entropy).learn(x, y)
    assert gap(grads(model), grads(twin)) < 1e-12


def test_weights_are_transported_unless_feedback_is_random():
    for feedback, verdict in (("symmetric", "violated"), ("random", "solved")):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 14), nn.ReLU(), nn.Linear(14, 4))
        few = Batch(torch.randn(4, 20), torch.randint(4, (4,)), 4)
        rule = registry.make("z-il", feedback=feedback)
        finding = weight_transport(LearnerSubject(plausible.bind(model, rule, F.cross_entropy)), few)
        assert finding.verdict == verdict, finding.sentence
