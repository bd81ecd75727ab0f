"""One small comparison, run once for all tests here: two rules that work, one that diverges, one that fails."""

import json

import pytest

from plausible.compare import workers
from plausible.compare.comparison import Comparison, Contender
from plausible.compare.execute import Ended, Measuring, Progressed, compare
from plausible.core.errors import DataError
from plausible.train import Row, Run, train

BASE = Run(epochs=1, batch_size=256, model_options={"width": 8}, probe_size=8)
FINE = (Contender(label="backprop", rule="backprop"), Contender(label="fa", rule="fa", overrides={"lr": 0.01}))
BAD = (
    Contender(label="wild", rule="backprop", overrides={"optimizer": "SGD", "lr": 1e30, "weight_decay": 0.0}),
    Contender(label="broken", rule="backprop", overrides={"model_options": {"width": -1}}),
)
COMPARISON = Comparison(base=BASE, contenders=FINE + BAD, seeds=(0, 3))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """(directory, how the runs ended, all events)."""
    directory = tmp_path_factory.mktemp("comparison")
    events = []
    ended = compare(COMPARISON, directory, command="the command", tuning={"trials": 3}, on_event=events.append)
    return directory, {(end.label, end.seed): end for end in ended}, events


def test_a_bad_run_does_not_take_the_others_down(first):
    _, ended, _ = first
    statuses = {(label, seed): end.status for (label, seed), end in ended.items()}
    expected = {"backprop": "finished", "fa": "finished", "wild": "diverged", "broken": "failed"}
    assert statuses == {(label, seed): status for label, status in expected.items() for seed in (0, 3)}
    assert "width" in ended["broken", 0].message
    assert "diverged" in ended["wild", 3].message
    assert all(end.result.test_accuracy > 0.05 for end in ended.values() if end.status == "finished")


def test_a_run_in_a_worker_is_the_run_itself(first, tmp_path):
    directory, ended, _ = first
    run = BASE.replace(rule="fa", lr=0.01, seed=3)
    alone = train(run, tmp_path)
    assert ended["fa", 3].result == alone
    home = directory / "runs" / run.id
    assert (home / "metrics.jsonl").read_bytes() == (tmp_path / "metrics.jsonl").read_bytes()


def test_events_come_through(first):
    _, ended, events = first
    assert [event for event in events if isinstance(event, Ended)].__len__() == len(ended)
    rows = [e.event.row["kind"] for e in events if isinstance(e, Progressed) and e.label == "fa" and e.seed == 3
            and isinstance(e.event, Row)]  # fmt: skip
    assert rows == ["probe", "epoch", "probe", "test"] or sorted(rows) == ["epoch", "probe", "probe", "test"]
    assert [e.done for e in events if isinstance(e, Measuring)] == [0, 1, 2, 3, 4]


def test_the_files_say_what_was_compared(first):
    directory, _, _ = first
    document = json.loads((directory / "comparison.json").read_text())
    assert Comparison.from_dict(document) == COMPARISON
    assert document["command"] == "the command" and document["tuning"] == {"trials": 3}
    assert {"torch", "cpu", "plausible"} <= set(document["environment"])
    for label, ids in document["runs"].items():
        for seed, name in ids.items():
            left = {path.name for path in (directory / "runs" / name).iterdir()}
            assert ("error.txt" in left) == (label == "broken"), (label, seed)
            assert ("result.json" in left) == (label != "broken")
    costs = json.loads((directory / "cost.json").read_text())
    assert set(costs) == {"backprop", "fa", "wild"}
    assert costs["fa"]["feedback_bytes"] > 0 == costs["backprop"]["feedback_bytes"]
    assert costs["fa"]["hardware"]["learning_macs"] == costs["backprop"]["hardware"]["learning_macs"] > 0


def test_what_has_ended_is_not_run_again(first, monkeypatch):
    directory, ended, _ = first
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("result.json")}
    created = json.loads((directory / "comparison.json").read_text())["created"]

    def forbidden(*_args, **_options):
        raise AssertionError("workers were started, but all runs had ended")

    monkeypatch.setattr(workers, "Pool", forbidden)
    fine = Comparison(base=BASE, contenders=(*FINE, BAD[0]), seeds=(0, 3))
    events = []
    again = compare(fine, directory, on_event=events.append)
    assert [(end.label, end.seed, end.status, end.result) for end in again] == [
        (end.label, end.seed, end.status, end.result) for end in ended.values() if end.label != "broken"
    ]
    assert all(end.reused for end in again) and events == [end for end in events if isinstance(end, Ended)]
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("result.json")} == before
    assert json.loads((directory / "comparison.json").read_text())["created"] >= created


def test_data_that_cannot_be_had_are_one_error_and_leave_nothing(tmp_path):
    comparison = Comparison(base=BASE.replace(data="mnist"), contenders=FINE, seeds=(0,))
    with pytest.raises(DataError, match="mnist"):
        compare(comparison, tmp_path / "out", root=tmp_path, jobs=1)
    assert not (tmp_path / "out").exists()
