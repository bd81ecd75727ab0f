"""The engine: every experiment is made, none changes what is audited, and what fails does not keep the others."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import plausible
from plausible.audit import (
    Batch,
    Criterion,
    Examined,
    Examining,
    Finding,
    LearnerSubject,
    Scorecard,
    Unmeasurable,
    audit,
    criteria,
    engine,
)
from plausible.core.errors import DataError, UnknownName
from plausible.train.files import StorageError


def learner(rule="fa"):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 4))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    bound = plausible.bind(model, rule, F.cross_entropy, example=torch.randn(8, 20), optimizer=optimizer)
    return bound, optimizer


def batch(n=16):
    draw = torch.Generator().manual_seed(1)
    return Batch(torch.randn(n, 20, generator=draw), torch.arange(n) % 4, 4)


def fake(name, order, experiment, core=True):
    return Criterion(name, "A problem.", experiment, order, core)


@pytest.fixture
def made_up(monkeypatch):
    """Experiments that behave in every way one can."""

    def works(subject, batch):
        subject.copy().model[0].weight.data.zero_()
        numbers = {"layers": {"a": float("inf")}, "thresholds": {"limit": 0.5}, "also": {"nan": float("nan")}}
        return Finding(criterion="works", verdict="solved", sentence="Done.", value=0.25, unit="bits", **numbers)

    def refuses(subject, batch):
        raise Unmeasurable("there is nothing\nto hold on to")

    def fails(subject, batch):
        raise ZeroDivisionError("by zero " * 200)

    def draws(subject, batch):
        value = float(torch.rand(())) + random.random() + np.random.rand()
        return Finding(criterion="draws", verdict="partly", sentence="Drawn.", value=value)

    found = (
        fake("fails", 1, fails),
        fake("refuses", 2, refuses),
        fake("works", 3, works),
        fake("draws", 4, draws, False),
    )
    monkeypatch.setattr(engine, "criteria", lambda: found)
    monkeypatch.setattr(engine, "get", lambda name: {each.name: each for each in found}[name])
    monkeypatch.setattr("plausible.audit.scorecard.criteria", lambda: found)
    return found


def test_one_that_fails_does_not_keep_the_others(made_up):
    card = audit(learner()[0], batch())
    assert {name: f.verdict for name, f in card.findings.items()} == {
        "fails": "could not be measured",
        "refuses": "could not be measured",
        "works": "solved",
        "draws": "partly",
    }
    assert card.findings["refuses"].sentence == "There is nothing to hold on to."
    said = card.findings["fails"].sentence
    assert said.startswith("The experiment failed with ZeroDivisionError: by zero") and len(said) <= 400
    assert (card.solved, card.partly, card.core) == (1, 0, 3)  # what is no core problem does not count
    assert (card.subject, card.examples, card.dtype) == ("fa", 16, "float64")
    assert card.model == "Sequential, 2 weight layers (20 → 16 → 4), 436 parameters"


def test_ctrl_c_ends_it(made_up, monkeypatch):
    def stopped(subject, batch):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "criteria", lambda: (fake("stopped", 1, stopped),))
    with pytest.raises(KeyboardInterrupt):
        audit(learner()[0], batch())


def test_events_come_in_pairs_and_in_order(made_up):
    events = []
    card = audit(learner()[0], batch(), on_event=events.append)
    begun, over = events[::2], events[1::2]
    assert [(e.criterion, e.number, e.total) for e in begun] == [
        (each.name, i, 4) for i, each in enumerate(made_up, start=1)
    ]
    assert all(isinstance(e, Examining) for e in begun) and all(isinstance(e, Examined) for e in over)
    assert [e.finding for e in over] == list(card.findings.values())
    assert card.times == {e.finding.criterion: e.seconds for e in over}
    assert card.seconds == sum(e.seconds for e in over) > 0


def test_a_finding_does_not_depend_on_what_was_examined_before(made_up):
    bound, _ = learner()
    together = audit(bound, batch()).findings["draws"].value
    torch.manual_seed(99)
    assert audit(bound, batch(), only=["draws"]).findings["draws"].value == together


def test_only_takes_names_and_keeps_the_order_of_tables(made_up):
    assert list(audit(learner()[0], batch(), only=["draws", "refuses", "draws"]).findings) == ["refuses", "draws"]


def test_an_unknown_criterion_is_refused():
    with pytest.raises(UnknownName, match="weight transport"):
        audit(learner()[0], batch(), only=["weight transports"])


def test_labels_may_be_counted_from_the_batch(made_up, monkeypatch):
    seen = []
    finding = Finding(criterion="looks", verdict="solved", sentence="Seen.")
    monkeypatch.setattr(engine, "criteria", lambda: (fake("looks", 1, lambda s, b: seen.append(b) or finding),))
    audit(learner()[0], (batch().x, batch().y))
    assert seen[0].classes == 4 and torch.equal(seen[0].x, batch().x)


def test_it_runs_under_no_grad():
    with torch.no_grad():
        card = audit(learner("backprop")[0], batch(), only=["weight transport"])
    assert card.findings["weight transport"].verdict == "violated"


def test_what_is_audited_stays_bit_for_bit_what_it_was():
    bound, optimizer = learner()
    bound.learn(batch().x, batch().y)
    optimizer.step()  # so that there are moments, gradients and running means to spoil
    bound.model[3].eval()
    modes = [m.training for m in bound.modules()]
    state = {k: v.clone() for k, v in bound.state_dict().items() if isinstance(v, torch.Tensor)}
    grads = [None if p.grad is None else p.grad.clone() for p in bound.parameters()]
    identities = [(id(p), id(p.grad), p.dtype, p._version) for p in bound.parameters()]
    moments = [[v.clone() for v in entry.values()] for entry in optimizer.state.values()]
    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    clock = bound.context.iteration, bound.context.step, bound.context.tap
    hooks = [(dict(m._forward_hooks), dict(m._forward_pre_hooks)) for m in bound.modules()]
    given = batch()
    kept = replace(given, x=given.x.clone(), y=given.y.clone())
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    random_states = torch.get_rng_state(), np.random.get_state()[1], random.getstate()

    audit(bound, given)

    assert [m.training for m in bound.modules()] == modes
    assert all(torch.equal(state[k], v) for k, v in bound.state_dict().items() if k in state)
    assert all(
        a is b is None or torch.equal(a, b) for a, b in zip(grads, [p.grad for p in bound.parameters()], strict=True)
    )
    assert identities == [(id(p), id(p.grad), p.dtype, p._version) for p in bound.parameters()]
    after = [list(entry.values()) for entry in optimizer.state.values()]
    assert all(torch.equal(a, b) for x, y in zip(moments, after, strict=True) for a, b in zip(x, y, strict=True))
    assert groups == [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    assert clock == (bound.context.iteration, bound.context.step, bound.context.tap)
    assert hooks == [(dict(m._forward_hooks), dict(m._forward_pre_hooks)) for m in bound.modules()]
    assert torch.equal(given.x, kept.x) and torch.equal(given.y, kept.y)
    assert torch.equal(random_states[0], torch.get_rng_state())
    assert np.array_equal(random_states[1], np.random.get_state()[1]) and random_states[2] == random.getstate()


def test_every_real_criterion_is_run_in_the_order_of_tables():
    card = audit(LearnerSubject(learner("backprop")[0], "mine"), batch())
    assert list(card.findings) == [each.name for each in criteria()]
    assert all(name == finding.criterion for name, finding in card.findings.items())
    assert card.subject == "mine" and card.findings["weight transport"].verdict == "violated"
    assert not [f.sentence for f in card.findings.values() if f.sentence.startswith("The experiment failed")]


def test_a_scorecard_survives_json_with_infinities(made_up, tmp_path):
    card = audit(learner()[0], batch())
    path = tmp_path / "new" / "card.json"
    card.write(path)
    json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    again = Scorecard.read(path)
    assert again.findings["works"].layers == {"a": float("inf")}
    assert str(again.findings["works"].also["nan"]) == "nan"
    plain = lambda c: replace(c, findings={k: v for k, v in c.findings.items() if k != "works"})  # noqa: E731
    assert plain(again) == plain(card)
    assert (again.solved, again.partly) == (card.solved, card.partly)
    assert json.loads(path.read_text())["solved"] == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"findings": {"a": 3}}', '{"format": 99, "findings": {}}'])
def test_what_is_no_scorecard_is_refused(tmp_path, text):
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(DataError, match=r"card\.json"):
        Scorecard.read(tmp_path / "card.json")


def test_a_failed_write_leaves_the_old_file(made_up, tmp_path, monkeypatch):
    card = audit(learner()[0], batch())
    card.write(tmp_path / "card.json")
    before = (tmp_path / "card.json").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(StorageError, match="disk is full"):
        replace(card, subject="other").write(tmp_path / "card.json")
    assert [path.name for path in tmp_path.iterdir()] == ["card.json"]
    assert (tmp_path / "card.json").read_bytes() == before
