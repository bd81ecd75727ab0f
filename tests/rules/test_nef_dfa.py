"""NEF direct feedback alignment: its updates from the spikes that were sent, and what it needs. Its spikes are held
against nengo's in tests/models/test_lif_mlp.py."""

import pytest
import torch
from literal_nef import CLASSES, DT, Observed, alpha, examples, filtered, low_pass, net
from torch import nn
from torch.nn import functional as F

import plausible
from plausible.core import registry
from plausible.core.errors import CheckpointError, ConfigurationError, CoverageError
from plausible.models import build


def bound(model, **options):
    return plausible.bind(model, registry.make("nef-dfa", cells=4, **options), F.cross_entropy)


@pytest.mark.parametrize(("depth", "usual"), [(1, 0.0), (2, 0.0), (1, 0.3)])
def test_updates_are_those_of_the_paper_from_the_spikes_that_were_sent(depth, usual):
    model, (x, y) = net(depth), examples()
    learner = bound(model, scale=2.0, height=0.5, usual=usual)
    seen = Observed(learner, x, y)
    chain, N, cell = learner.feedback, len(x), model.neurons.cell
    T = len(seen.sent["readout"])
    for place, name in enumerate(chain.taught):
        error = filtered(seen.wires[f"{name}.error"] @ chain.D[place].t(), alpha(T))
        pre = filtered(seen.sent[name], low_pass(T, 5e-3))
        pre = pre - filtered(pre, low_pass(T, usual)) if usual else pre
        if name == "readout":
            post = error / model.readout.in_features
        else:
            J = filtered(filtered(seen.currents[name], alpha(T)) + 1, low_pass(T, 5e-3))
            post = error @ learner.state_dict()[f"feedback.B_{name}"] * (J > 1) * (0.5 * cell.amplitude / cell.tau_rc)
        expected = torch.einsum("tnj,tni->ji", post, pre) * DT / N
        assert expected.norm() > 0
        torch.testing.assert_close(seen.grads[f"{name}.weight"], expected, rtol=1e-9, atol=1e-15)


def test_the_first_population_hears_the_error_and_each_of_the_others_what_the_one_before_has_sent():
    """Its current is the output's decoded spikes less the target; silent at zero error."""
    model, (x, _) = net(2), examples()
    learner = bound(model)
    with torch.no_grad():
        model.readout.weight.zero_()
    target = torch.zeros(len(x), CLASSES).double()
    model.output.bias.fill_(-1.0)  # an output that never fires stands for 0
    seen = Observed(learner, x, target)
    assert all(not seen.wires[f"{name}.error"].any() for name in learner.feedback.taught)
    assert all(not grad.any() for grad in seen.grads.values())
    learner.reset()
    told = Observed(learner, x, target + 0.8)
    onset = [int(told.wires[f"{name}.error"].flatten(1).any(1).nonzero()[0]) for name in learner.feedback.taught]
    assert onset == sorted(set(onset)), "each hears of it later than the one before"
    assert told.outcome.loss > 0


def test_an_error_that_is_delayed_is_that_of_so_many_steps_before():
    d, K = 7, CLASSES
    prompt, late = bound(net(2)), bound(net(2), delay=d * DT)
    errors = torch.randn(40, 2, K, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shifted = torch.cat([torch.zeros(d, 2, K).double(), errors])
    sent = prompt.feedback.rest(errors[0]), late.feedback.rest(errors[0])
    for now, before in zip(errors, shifted, strict=False):
        sent = prompt.feedback.step(prompt, sent[0], before), late.feedback.step(late, sent[1], now)
        assert torch.equal(sent[0].error.y, sent[1].error.y)
    assert sent[0].error.y.any()


def test_before_the_target_is_told_error_cells_are_silent():
    model, (x, y) = net(1), examples()
    half, seen = model.hold // 2, Observed(bound(model, told=0.5), x, y)
    assert not seen.wires["readout.error"][:half].any() and not seen.wires["linear1.error"][:half].any()
    assert seen.wires["readout.error"][half:].any() and seen.wires["linear1.error"][half:].any()


def test_feedback_norms_are_as_asked_and_do_not_depend_on_weights():
    one, other = bound(net(2)), bound(net(2, spread=3.0))
    B = one.state_dict()["feedback.B_linear1"]
    torch.testing.assert_close(B.norm(dim=0).mean(), torch.tensor(1.7).double())
    assert torch.equal(B, other.state_dict()["feedback.B_linear1"])
    assert not torch.equal(B, one.state_dict()["feedback.B_linear2"])


@pytest.mark.parametrize("hidden", [True, False])
def test_the_frozen_control_teaches_the_readout_alone_and_alike(hidden):
    learner, whole, (x, y) = bound(net(), hidden=hidden), bound(net()), examples()
    learner.learn(x, y)
    whole.learn(x, y)
    assert {name for name, p in learner.model.named_parameters() if p.grad is not None} == (
        {"linear1.weight", "linear2.weight", "readout.weight"} if hidden else {"readout.weight"}
    )
    assert torch.equal(learner.model.readout.weight.grad, whole.model.readout.weight.grad)


def test_feedback_that_is_redrawn_is_another_at_each_call_and_fixed_feedback_is_not():
    for redraw in (False, True):
        learner, (x, y) = bound(net(1), redraw=redraw), examples(1)
        posts = []
        for _ in range(2):
            learner.zero_grad()
            learner.reset()
            learner.learn(x, y)
            posts.append(learner.model.linear1.weight.grad)
        assert torch.equal(*posts) != redraw
        readouts = learner.model.readout.weight.grad
        assert readouts.any()


def test_a_call_for_each_step_teaches_what_one_call_teaches():
    (x, y), whole, steps = examples(), bound(net()), bound(net(shown=DT))
    whole.learn(x, y)
    for _ in range(whole.model.hold):
        steps.learn(x, y)
    for a, b in zip(whole.model.parameters(), steps.model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-18)


def test_a_stream_that_is_forgotten_starts_anew_and_the_others_go_on():
    (x, y), learner = examples(), bound(net())
    learner.learn(x, y)
    before = learner.state[0].hidden[0].membrane.v.clone()
    learner.reset(torch.tensor([False, True, False]))
    after = learner.state[0].hidden[0].membrane.v
    rest = learner.model.rest(x).hidden[0].membrane.v
    assert torch.equal(after[[0, 2]], before[[0, 2]]) and torch.equal(after[1], rest[1])


def test_a_stimulus_shorter_than_the_delay_loop_is_refused():
    with pytest.raises(ConfigurationError, match=r"shown for 0.02 s.*after 0.036 s"):
        bound(net(2, shown=0.02))
    with pytest.raises(ConfigurationError, match=r"shown for 0.1 s.*after 0.106 s"):
        bound(net(2), delay=0.07)


def test_other_models_are_refused():
    with pytest.raises(CoverageError, match="lif-mlp"):
        bound(nn.Sequential(nn.Linear(3, 2)))
    with pytest.raises(CoverageError, match="lif-mlp"):
        bound(build("rsnn", shape=(3,), classes=2))


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 0.0},
        {"cells": 3},
        {"height": -1.0},
        {"trace": 5.0},
        {"delay": 20.0},
        {"usual": 20.0},
        {"intercept": 1.0},
    ],
)
def test_what_cannot_be_is_refused(options):
    with pytest.raises(ConfigurationError, match="nef-dfa"):
        registry.make("nef-dfa", **options)


def test_streams_that_another_version_has_saved_are_refused_by_name():
    learner, (x, y) = bound(net(1)), examples()
    learner.learn(x, y)
    kept = learner.get_extra_state()
    learner.set_extra_state({**kept, "state": kept["state"][:-1]})
    with pytest.raises(CheckpointError, match="streams of nef-dfa whose state"):
        learner.learn(x, y)
    learner.reset()
    learner.learn(x, y)
