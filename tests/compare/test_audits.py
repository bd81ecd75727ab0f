"""A comparison that audits: every contender with its own options, on the comparison's model and data, once."""

import json

import pytest
import torch

from plausible.audit import Scorecard, audit, engine
from plausible.audit.criterion import Batch
from plausible.audit.subject import LearnerSubject
from plausible.compare import audits, workers
from plausible.compare.audits import Auditing
from plausible.compare.comparison import Comparison, Contender
from plausible.compare.execute import compare
from plausible.compare.kept import Kept
from plausible.train import Run

BASE = Run(epochs=1, batch_size=256, model_options={"width": 8}, probe_size=8)
ENTRIES = ("backprop", "fa", "fa:last_layer=backprop")
COMPARISON = Comparison(base=BASE, contenders=tuple(map(Contender.parse, ENTRIES)), seeds=(3,))


@pytest.fixture
def quick(monkeypatch):
    """Two experiments instead of all, in this process."""
    two = ["weight transport", "target"]
    monkeypatch.setattr(audits, "audit", lambda *given, **named: audit(*given, **named | {"only": two}))


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """(directory, events) of a comparison with --audit."""
    directory = tmp_path_factory.mktemp("comparison")
    events = []
    compare(COMPARISON, directory, costs=False, audited=True, on_event=events.append)
    return directory, events


@pytest.mark.slow
def test_it_leaves_a_scorecard_of_each_contender(audited):
    directory, events = audited
    cards = json.loads((directory / "audit.json").read_text())
    assert set(cards) == set(ENTRIES)
    found = {label: Scorecard.from_dict(entry["scorecard"]).findings for label, entry in cards.items()}
    assert {label: findings["weight transport"].verdict for label, findings in found.items()} == {
        "backprop": "violated",
        "fa": "solved",
        "fa:last_layer=backprop": "violated",  # the output layer's own weight carries the error
    }
    done = [(event.done, event.total) for event in events if isinstance(event, Auditing)]
    assert done == [(0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.slow
def test_it_is_not_done_twice_and_forgotten_when_settings_change(audited, monkeypatch):
    directory, _ = audited
    before = (directory / "audit.json").read_bytes()

    def forbidden(*_args, **_options):
        raise AssertionError("workers were started, but all was there")

    with monkeypatch.context() as patch:
        patch.setattr(workers, "Pool", forbidden)
        compare(COMPARISON, directory, costs=False, audited=True)
        assert (directory / "audit.json").read_bytes() == before
    other = Comparison(base=BASE.replace(model_options={"width": 9}), contenders=COMPARISON.contenders[:1], seeds=(3,))
    compare(other, directory, costs=False, jobs=1)  # not asked to audit: what is known is of another model
    assert json.loads((directory / "audit.json").read_text()) == {}


@pytest.mark.usefixtures("quick")
def test_what_is_examined_is_what_the_run_names():
    run = BASE.replace(rule="fa", rule_options={"scale": 2.0}, seed=5)
    card = audits.work((run, "mine", None), lambda _: None)
    assert (card.subject, card.examples) == ("mine", audits.EXAMPLES)
    assert "64 → 8 → " in card.model  # the width that the run asks for, and not the default's
    assert card.findings["weight transport"].verdict == "solved"


@pytest.mark.usefixtures("quick")
def test_it_leaves_the_random_state_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    audits.examine(BASE, "backprop")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_comparison_does_not_audit_unless_asked(tmp_path, monkeypatch):
    def forbidden(*_args, **_options):
        raise AssertionError("nobody asked for an audit")

    for place in (engine, audits):
        monkeypatch.setattr(place, "audit", forbidden)
    alone = Comparison(base=BASE, contenders=COMPARISON.contenders[:1], seeds=(3,))
    events = []
    compare(alone, tmp_path, costs=False, jobs=1, on_event=events.append)
    assert not (tmp_path / "audit.json").exists()
    assert not [event for event in events if isinstance(event, Auditing)]


def test_what_is_kept_belongs_to_its_run(tmp_path):
    kept = Kept(tmp_path / "cost.json")
    one, other = BASE, BASE.replace(lr=0.5)
    assert kept.entries() == {} and kept.missing({"a": one}) == {"a": one}
    assert not kept.path.exists()  # nothing to forget
    kept.add("a", one, {"value": 1})
    kept.add("b", one, {"value": 2})
    assert kept.entries() == {"a": {"value": 1, "run": one.id}, "b": {"value": 2, "run": one.id}}
    assert kept.missing({"a": one, "b": other, "c": one}) == {"b": other, "c": one}
    assert set(kept.entries()) == {"a"}
    kept.path.write_text("{ torn")
    assert kept.missing({"a": one}) == {"a": one}


def test_a_scorecard_goes_through_its_entry():
    x, y = torch.randn(8, 4), torch.arange(8) % 3
    import plausible

    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
    learner = plausible.bind(model, "fa", torch.nn.functional.cross_entropy, example=x)
    card = audit(LearnerSubject(learner), Batch(x, y, 3), only=["target"])
    written = json.loads(json.dumps(audits.entry(card)))
    assert Scorecard.from_dict(written["scorecard"]) == card
