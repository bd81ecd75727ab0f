"""Reading a comparison: what is there is read as it stands, what is not is named, what is damaged is refused."""

import json
from pathlib import Path

import pytest
import synthetic

from plausible.core.errors import PlausibleError
from plausible.report import ReportError, load


def test_everything_is_read(small: Path) -> None:
    results = load(small)
    assert [c.label for c in results.contenders] == ["backprop", "fa", "frozen"]
    assert results.seeds == (0, 1)
    fa = results.contenders[1]
    assert [run.seed for run in fa.runs] == [0, 1]
    run = fa.runs[1]
    rows = [json.loads(line) for line in (synthetic.run_home(small, "fa", 1) / "metrics.jsonl").open()]
    assert [e.validation_accuracy for e in run.epochs] == [
        r["validation_accuracy"] for r in rows if r["kind"] == "epoch"
    ]
    assert [p.epoch for p in run.probes] == [0, 1, 2, 3]
    assert run.probes[2].layers["net.3"] == [r for r in rows if r["kind"] == "probe"][2]["layers"]["net.3"]
    assert run.test_accuracy == synthetic.accuracy_of("fa", 1)
    assert run.train_seconds == pytest.approx(3 * 0.025)
    assert (run.status, run.finished, run.parameters) == ("finished", True, 150_794)
    assert fa.cost is not None
    assert fa.cost.time_ratio == 1.02


def test_a_directory_without_comparison(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="is not a comparison"):
        load(tmp_path)


def test_a_torn_last_line_is_left_out(small: Path) -> None:
    path = synthetic.run_home(small, "fa", 0) / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-9])  # the row of the test set; the result lies in result.json
    run = load(small).contenders[1].runs[0]
    assert len(run.epochs) == 3
    assert run.finished


def test_a_damaged_line_before_the_last_is_refused(small: Path) -> None:
    path = synthetic.run_home(small, "fa", 0) / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], lines[1][:20] + "\n", *lines[2:]]))
    with pytest.raises(PlausibleError, match=r"metrics\.jsonl, line 2"):
        load(small)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '"text"'])
def test_a_damaged_result_is_refused_by_name(small: Path, content: str) -> None:
    (synthetic.run_home(small, "fa", 0) / "result.json").write_text(content)
    with pytest.raises(ReportError, match=r"result\.json"):
        load(small)


@pytest.mark.parametrize("key", ["base", "contenders", "seeds", "runs"])
def test_a_comparison_that_lacks_something(small: Path, key: str) -> None:
    document = json.loads((small / "comparison.json").read_text())
    del document[key]
    (small / "comparison.json").write_text(json.dumps(document))
    with pytest.raises(ReportError, match=key):
        load(small)


def test_a_row_that_lacks_a_value(small: Path) -> None:
    path = synthetic.run_home(small, "fa", 0) / "metrics.jsonl"
    rows = [json.loads(line) for line in path.open()]
    del rows[1]["validation_accuracy"]
    synthetic.lines(path, rows)
    with pytest.raises(ReportError, match="validation_accuracy"):
        load(small)


def test_what_became_of_runs_that_did_not_finish(small: Path) -> None:
    (synthetic.run_home(small, "backprop", 0) / "result.json").unlink()
    diverged = {"status": "diverged", "test_accuracy": None, "test_loss": None}
    synthetic.edit(synthetic.run_home(small, "fa", 0) / "result.json", **diverged)
    for path in synthetic.run_home(small, "fa", 1).iterdir():
        path.unlink()
    synthetic.run_home(small, "fa", 1).rmdir()
    failed = synthetic.run_home(small, "frozen", 1)
    (failed / "result.json").unlink()
    (failed / "error.txt").write_text("out of memory")
    results = load(small)
    status = {(c.label, run.seed): run.status for c in results.contenders for run in c.runs}
    assert status == {
        ("backprop", 0): "unfinished",
        ("backprop", 1): "finished",
        ("fa", 0): "diverged",
        ("fa", 1): "missing",
        ("frozen", 0): "finished",
        ("frozen", 1): "failed",
    }
    assert [len(c.finished) for c in results.contenders] == [1, 0, 1]


def test_no_cost_was_measured(small: Path) -> None:
    (small / "cost.json").unlink()
    assert [c.cost for c in load(small).contenders] == [None, None, None]
