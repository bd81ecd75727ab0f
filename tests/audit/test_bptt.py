"""BPTT: a sequence in pieces, and the sequence whole."""

import copy

import pytest
import torch
from learners_in_time import rule
from learners_of_sequences import RealTime, Recurrent, Traces, Truncated
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.audit import Batch, LearnerSubject
from plausible.audit.criteria.bptt import bptt
from plausible.audit.memory import peak_bytes

STEPS = 9


def batch(steps: int = STEPS, *, stepwise: bool = False) -> Batch:
    draw = torch.Generator().manual_seed(0)
    y = torch.randint(4, (6, steps) if stepwise else (6,), generator=draw)
    return Batch(torch.randn(6, steps, 3, generator=draw), y, 4)


def bound(learner, **fields):
    torch.manual_seed(0)
    return plausible.bind(Recurrent(3, 5, 4), rule(learner, **fields), F.cross_entropy)


def found(learner, data: Batch | None = None, **fields):
    return bptt(LearnerSubject(bound(learner, **fields)), data or batch())


def test_the_controls_are_what_they_say():
    """Real-time recurrent learning and back-propagation through the whole sequence give the same gradient."""
    data = batch(stepwise=True)
    updates = [LearnerSubject(bound(each)).copy().update(data.x, data.y) for each in (Truncated, RealTime)]
    for name, value in updates[0].items():
        torch.testing.assert_close(value, updates[1][name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("stepwise", [False, True])
@pytest.mark.parametrize("fields", [{}, {"average": True}, {"at_end": True}])
@pytest.mark.parametrize(("learner", "verdict"), [(Truncated, "violated"), (RealTime, "solved"), (Traces, "solved")])
def test_controls(learner, verdict, fields, stepwise):
    finding = found(learner, batch(stepwise=stepwise), **fields)
    assert finding.verdict == verdict
    assert finding.value is not None
    assert finding.value < 1e-12 if verdict == "solved" else finding.value > 0.01
    assert finding.layers.keys() == {"inp", "rec", "out"}
    assert finding.layers["out"] < 1e-12  # the readout's gradient stays in its own step


def test_the_value_by_hand():
    """What back-propagation in single steps loses: all but the direct influence of a step on its own error."""
    data, net = batch(), bound(Truncated).model.double()
    assert isinstance(net, Recurrent)
    x, totals = data.x.double(), []
    for cut in (False, True):
        net.zero_grad()
        h = x.new_zeros(6, 5)
        for t in range(STEPS):
            h = torch.tanh(net.drive(x[:, t], h.detach() if cut else h))
            F.cross_entropy(net.out(h), data.y).backward(retain_graph=True)
        totals.append(torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]))
    expected = float((totals[1] - totals[0]).norm() / totals[0].norm())
    assert found(Truncated).also["relative change, single steps"] == pytest.approx(expected, rel=1e-9)


def test_an_update_that_peeks_one_step_ahead():
    """Planted: at the end of a piece there is nothing to peek at, so the pieces do not add up."""
    assert found(RealTime, peeks=True).verdict == "violated"
    assert found(Traces, peeks=True).verdict == "violated"


def test_the_past_is_the_same_whatever_follows():
    """What the criterion rests on: two futures, one past, and the difference is the future's own."""
    data = batch()
    other = torch.cat([data.x[:, :5], data.x[:, 5:].flip(0)], 1)
    for learner, fields, same in ((RealTime, {}, True), (RealTime, {"peeks": True}, False), (Truncated, {}, False)):
        subject, own = LearnerSubject(bound(learner, **fields)), []
        for x in (data.x, other):
            whole = subject.copy().update(x, data.y)
            specimen = subject.copy()
            specimen.learn(x[:, :5], data.y)
            rest = specimen.update(x[:, 5:], data.y)
            own.append(torch.cat([(whole[k] - rest[k]).flatten() for k in whole]))
        assert torch.allclose(*own, rtol=1e-10, atol=1e-12) == same


@pytest.mark.parametrize(("learner", "verdict"), [(Truncated, "violated"), (RealTime, "solved")])
def test_updates_that_do_not_repeat_are_judged_by_memory(learner, verdict):
    finding = found(learner, noise=0.1)
    assert finding.verdict == verdict
    assert "memory" in finding.unit


def test_memory_grows_with_what_is_stored():
    assert found(Truncated).also["peak of twice the length, relative"] > 1.5
    assert found(RealTime).also["peak of twice the length, relative"] < 1.1


def test_the_peak_by_hand():
    def work() -> Tensor:
        a = torch.zeros(1000)  # 4000
        b = a + 1  # 8000
        del a
        c = b[::2]  # a view
        return c * 2  # 6000 with b

    assert peak_bytes(work) == 8000


def test_does_not_apply():
    static = plausible.bind(nn.Sequential(nn.Linear(3, 4)), "backprop", F.cross_entropy)
    assert bptt(LearnerSubject(static), Batch(torch.randn(4, 3), torch.arange(4), 4)).verdict == "does not apply"
    assert found(Truncated, batch(1)).verdict == "does not apply"


def test_two_steps_and_no_wires():
    class Unwired(LearnerSubject):
        wired = False

    assert bptt(Unwired(bound(RealTime)), batch(2)).verdict == "solved"
    assert bptt(Unwired(bound(Truncated)), batch(2)).verdict == "violated"


def test_the_subject_is_left_as_it_was():
    learner = bound(RealTime)
    before, random = copy.deepcopy(learner.state_dict()), torch.get_rng_state()
    bptt(LearnerSubject(learner), batch())
    assert all(torch.equal(before[k], v) for k, v in learner.state_dict().items() if isinstance(v, Tensor))
    assert torch.equal(random, torch.get_rng_state())
    assert learner.h is None and learner.S is None
