"""NEF-6: its updates from the spikes that were sent, and that a bit of reward is all it is told."""

from math import exp

import pytest
import torch
from literal_nef import CLASSES, DT, Observed, alpha, examples, filtered, low_pass, net
from torch.nn import functional as F

import plausible
from plausible.core import registry
from plausible.core.errors import ConfigurationError
from plausible.core.world import Quiz


def bound(model, **options):
    return plausible.bind(model, registry.make("nef-6", cells=4, **options), F.cross_entropy)


def spiking(depth: int = 1):
    return net(depth, bias=True, decoders="paired")


@pytest.mark.parametrize(("depth", "usual", "gate"), [(1, 0.3, True), (2, 0.3, True), (1, 0.0, True), (1, 0.3, False)])
def test_updates_are_those_of_the_header_from_the_spikes_that_were_sent(depth, usual, gate):
    model, (x, y) = spiking(depth), examples()
    learner = bound(model, scale=2.0, trace=0.015, usual=usual, gate=gate)
    seen = Observed(learner, x, Quiz(y))
    chain, N, cell = learner.feedback, len(x), model.neurons.cell
    T = len(seen.sent["readout"])
    for place, name in enumerate(chain.taught):
        error = filtered(seen.wires[f"{name}.error"] @ chain.D[place].t(), alpha(T))
        pre = filtered(seen.sent[name], low_pass(T, 0.015))
        pre = pre - filtered(pre, low_pass(T, usual)) if usual else pre
        if name == "readout":
            post = error
        else:
            above = chain.taught[place - 1]
            # What a cell sends arrives a step later, so the last of its spikes is on no layer's input yet.
            own = torch.cat([seen.sent[above][1:], learner.state[0].hidden[-place].spikes.unsqueeze(0)])
            psi = filtered(own, low_pass(T, 0.015)) > cell.amplitude / 0.015 * exp(-1)
            assert 0 < psi.double().mean() < 1
            post = error @ learner.state_dict()[f"feedback.B_{name}"] * (psi if gate else 1)
        expected = torch.einsum("tnj,tni->ji", post, pre) * DT / N
        assert expected.norm() > 0
        torch.testing.assert_close(seen.grads[f"{name}.weight"], expected, rtol=1e-9, atol=1e-15)
        torch.testing.assert_close(seen.grads[f"{name}.bias"], post.sum((0, 1)) * DT / N, rtol=1e-9, atol=1e-15)


def test_the_error_is_that_of_the_action_taken_while_its_outcome_lasts():
    model, (x, _) = spiking(), examples(6)
    learner = bound(model, explore=0.0)
    asked = []

    def world(action):
        asked.append(action)
        return torch.ones(len(action))

    seen = Observed(learner, x, world)
    (action,) = asked
    half = model.hold // 2
    assert not seen.wires["reward"][:half].any() and (seen.wires["reward"][half:] == 1).all()
    assert not seen.wires["readout.error"][:half].any(), "without an outcome the error cells are silent"
    fired = seen.wires["readout.error"][half:].sum(0).reshape(6, -1, 2, CLASSES).sum(1)
    off = fired[:, 1]
    assert (off.argmax(1) == action).all(), "too small a value: the off cells of the action fire"
    assert not off.scatter(1, action.unsqueeze(1), 0.0).any(), "and of no other"
    assert seen.outcome.loss == 0


def test_it_explores_as_often_as_asked():
    (x, _), acts = examples(400), {}
    for explore in (0.0, 0.5):
        learner = bound(spiking(), explore=explore)
        learner.learn(x, lambda action, explore=explore: acts.setdefault(explore, action).double())
    changed = float((acts[0.0] != acts[0.5]).double().mean())
    expected = 0.5 * (1 - 1 / CLASSES)
    assert abs(changed - expected) < 4 * (expected * (1 - expected) / 400) ** 0.5


def test_labels_are_refused_and_the_way_out_named():
    (x, y), learner = examples(), bound(spiking())
    with pytest.raises(ConfigurationError, match=r"learner\.rule\.teacher\(y\)"):
        learner.learn(x, y)
    with pytest.raises(ConfigurationError, match="each action has one"):
        learner.learn(x, lambda action: torch.ones(2 * len(action)))


def test_a_call_that_is_over_before_the_world_asks_is_refused_and_the_model_left_free():
    model = net(1, bias=True, shown=DT)
    with pytest.raises(ConfigurationError, match=r"a call has 1 step\. Show a stimulus for longer"):
        bound(model)
    bound(net(1, bias=True))
    model.hold = 50
    bound(model)


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 0.0},
        {"cells": 3},
        {"explore": 1.5},
        {"trace": 20.0},
        {"radius": 0.0},
        {"usual": 100.0},
        {"motor": 10.0},
        {"act": 1.0},
        {"delay": 20.0},
        {"intercept": 1.0},
    ],
)
def test_what_cannot_be_is_refused(options):
    with pytest.raises(ConfigurationError, match="nef-6"):
        registry.make("nef-6", **options)
