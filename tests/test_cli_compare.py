"""`plausible compare` and `plausible train` from end to end, small."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from plausible.cli import app, lines, live
from plausible.compare import execute
from plausible.compare.audits import Auditing
from plausible.compare.comparison import Comparison, Contender
from plausible.compare.execute import Ended, Measuring, Progressed
from plausible.compare.settings import Tuned
from plausible.train import Progress, Row, Run
from plausible.train.session import load_learner

SMALL = ["--epochs", "1", "--batch-size", "256", "--set", "model_options.width=8", "--set", "probe_size=8"]
MAIN = [sys.executable, "-c", "from plausible.cli import main; main()"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """(directory, stdout of the first comparison in it)."""
    directory = tmp_path_factory.mktemp("home") / "out"
    words = ["compare", "--rules", "backprop,fa:scale=2", "--seeds", "2", "--out", str(directory), "--json", *SMALL]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return directory, result


def again(directory, *words):
    rules = ["--rules", "backprop", "--rules", "fa:scale=2"]
    return CliRunner().invoke(app, ["compare", *rules, "--seeds", "0,1", "--out", str(directory), *SMALL, *words])


def test_json_is_one_object_and_nothing_else(home):
    directory, result = home
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert document["directory"] == str(directory) and document["report"] == str(directory / "report.html")
    assert [(run["label"], run["seed"], run["status"]) for run in document["runs"]] == [
        ("backprop", 0, "finished"), ("fa:scale=2", 0, "finished"),
        ("backprop", 1, "finished"), ("fa:scale=2", 1, "finished"),
    ]  # fmt: skip
    assert all(0.05 < run["test_accuracy"] <= 1 for run in document["runs"])


def test_it_leaves_a_comparison_and_its_report(home):
    directory, _ = home
    written = json.loads((directory / "comparison.json").read_text())
    options = "--rules backprop,fa:scale=2 --seeds 2 --epochs 1 --batch-size 256 --set model_options.width=8"
    assert written["command"] == f"plausible compare {options} --set probe_size=8 --out {directory}"
    assert {"report.html", "cost.json", "results.csv"} <= {path.name for path in directory.iterdir()}
    assert set(json.loads((directory / "cost.json").read_text())) == {"backprop", "fa:scale=2"}


def test_the_same_again_does_nothing_twice(home):
    directory, first = home
    before = {path: path.stat().st_mtime_ns for path in (directory / "runs").rglob("*")}
    result = again(directory)
    assert result.exit_code == 0
    assert result.stdout.count("(finished before)") == 4
    accuracy = json.loads(first.stdout)["runs"][3]["test_accuracy"]
    assert f"4 of 4  fa:scale=2, seed 1: test accuracy {100 * accuracy:.1f}% (finished before)" in result.stdout
    assert result.stdout.splitlines()[-1].endswith(f"Report: {directory}/report.html")
    assert {path: path.stat().st_mtime_ns for path in (directory / "runs").rglob("*")} == before


def test_quiet_prints_where_the_report_is(home):
    directory, _ = home
    result = again(directory, "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{directory}/report.html\n", "")


def test_a_report_can_be_written_elsewhere(home, tmp_path):
    directory, _ = home
    result = CliRunner().invoke(app, ["report", str(directory), "--out", str(tmp_path / "there"), "--json"])
    assert json.loads(result.stdout) == {"report": str(tmp_path / "there" / "report.html")}
    assert (tmp_path / "there" / "report.html").read_text().startswith("<!")


def test_a_run_that_diverges_is_told_and_the_others_are_kept(home):
    directory, _ = home
    wild = ["compare", "--rules", "backprop,backprop:lr=1e30:optimizer=SGD:weight_decay=0", "--seeds", "1", "--no-cost"]
    result = CliRunner().invoke(app, [*wild, "--out", str(directory), "--json", *SMALL])
    assert result.exit_code == 1
    assert [run["status"] for run in json.loads(result.stdout)["runs"]] == ["finished", "diverged"]
    assert "seed 0) diverged: Run" in result.stderr and result.stderr.count("\n") == 1


def test_it_runs_with_the_settings_of_a_study(tmp_path):
    words = ["--rules", "fa,fa:last_layer=backprop", "--trials", "2", "--trial-epochs", "1", "--out", str(tmp_path)]
    study = CliRunner().invoke(app, ["tune", "--jobs", "1", "--quiet", *words, *SMALL])
    assert study.exit_code == 0, study.output
    file = tmp_path / "digits-mlp.toml"
    found = Tuned.from_toml(file.read_text())
    words = ["--rules", "fa,fa:last_layer=backprop", "--seeds", "1", "--no-cost", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["compare", "--tuned", str(file), "--quiet", *words])
    assert result.exit_code == 0, result.output
    made = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert made["base"]["batch_size"] == 256 and made["base"]["model_options"]["width"] == 8
    assert {entry["label"]: entry["overrides"] for entry in made["contenders"]} == {
        label: setting.overrides for label, setting in found.rules.items()
    }


def test_a_file_that_no_study_wrote_is_refused_by_name(tmp_path):
    file = tmp_path / "notes.toml"
    file.write_text("[notes]")
    result = CliRunner().invoke(app, ["compare", "--tuned", str(file)])
    assert result.exit_code == 1 and "notes.toml" in result.stderr and "plausible tune" in result.stderr


@pytest.mark.parametrize("words", [[], ["--audit"]])
def test_it_audits_when_asked(words, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(execute, "compare", lambda *_, **named: asked.append(named["audited"]) or [])
    monkeypatch.setattr("plausible.report.write", lambda directory: directory / "report.html")
    result = CliRunner().invoke(app, ["compare", "--rules", "fa", "--out", str(tmp_path), "--quiet", *words])
    assert result.exit_code == 0, result.output
    assert asked == [bool(words)]


def living(group):
    """The processes of a process group that are not zombies; nothing where there is no /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            stat = path.read_text().rpartition(")")[2].split()
            found += [stat] if stat[2] == str(group) and stat[0] != "Z" else []
    return found


def test_ctrl_c_says_how_to_go_on_and_ends_all_processes(tmp_path):
    words = ["compare", "--rules", "backprop,fa", "--seeds", "2", "--jobs", "1", "--no-cost", "--out", "out"]
    words += ["--epochs", "60", "--batch-size", "32"]
    process = subprocess.Popen(
        [*MAIN, *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None and process.stderr is not None
    for line in process.stdout:
        if re.match(r" *1 of 4", line):
            break
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.startswith("Error: Stopped. What was done is kept in out: the same command goes on")
    assert errors.count("\n") == 1
    deadline = time.monotonic() + 20  # multiprocessing's own helper process ends a moment after its parent
    while (left := living(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    done = list((tmp_path / "out" / "runs").glob("*/result.json"))
    assert len(done) in (1, 2)
    result = CliRunner().invoke(app, [*words[:-6], "--out", str(tmp_path / "out"), *words[-4:], "--json"])
    assert len(json.loads(result.stdout)["runs"]) == 4 and result.exit_code == 0
    assert all(path.stat().st_mtime_ns for path in done)


def test_train_runs_one_and_finds_it_done(tmp_path):
    words = ["train", "--rule", "fa:scale=2", "--seed", "3", "--out", str(tmp_path / "run"), *SMALL]
    first = CliRunner().invoke(app, [*words, "--json"])
    result = json.loads(first.stdout)
    assert (result["status"], result["run"]["rule_options"], result["run"]["seed"]) == ("finished", {"scale": 2}, 3)
    assert CliRunner().invoke(app, [*words, "--quiet"]).stdout == f"{tmp_path / 'run'}\n"
    told = CliRunner().invoke(app, words).stdout
    assert f"Test accuracy {100 * result['test_accuracy']:.1f}%" in told
    # And from its own configuration it is the same run.
    config = ["train", "--config", str(tmp_path / "run" / "run.json"), "--out", str(tmp_path / "run"), "--json"]
    assert json.loads(CliRunner().invoke(app, config).stdout)["id"] == result["id"]


def test_constraints_reach_the_weights_of_a_run_and_the_report(tmp_path):
    words = ["train", "--rule", "fa", "--constraint", "quantised:bits=3", "--constraint", "noisy:write=0"]
    result = json.loads(CliRunner().invoke(app, [*words, "--out", str(tmp_path / "run"), *SMALL, "--json"]).stdout)
    assert result["run"]["constraints"] == [{"quantised": {"bits": 3}}, {"noisy": {"write": 0}}]
    learner = load_learner(tmp_path / "run")
    assert all(len(weight.unique()) <= 7 for _, weight in learner.weights())

    words = ["compare", "--rules", "backprop,fa:constraints=[{noisy={read=0.5}}]", "--seeds", "1", "--no-cost"]
    words += ["--constraint", "quantised:bits=3", "--out", str(tmp_path / "all"), *SMALL, "--json"]
    assert CliRunner().invoke(app, words).exit_code == 0
    page = (tmp_path / "all" / "report.html").read_text()
    assert "with a multi-layer perceptron (quantised weights) and one seed" in page
    assert "quantised bits 3" in page and "noisy read 0.5" in page


# ------------------------------------------------------------------------------------------------- what is shown

COMPARISON = Comparison(
    base=Run(epochs=2), contenders=(Contender.parse("backprop"), Contender.parse("fa")), seeds=(0, 1)
)
EPOCH = {"kind": "epoch", "epoch": 1, "train_loss": 0.25, "validation_accuracy": 0.75}


def drawn(picture):
    console = Console(width=90, record=True, file=io.StringIO())
    console.print(picture)
    return console.export_text()


def test_the_board_shows_means_over_seeds_and_the_time_left(monkeypatch):
    now = 100.0
    monkeypatch.setattr(live.time, "monotonic", lambda: now)
    board = live.Board(COMPARISON, "note")
    assert "starting the workers" in drawn(board)
    for seed, accuracy in ((0, 0.75), (1, 0.25)):
        board(Progressed("fa", seed, Row({**EPOCH, "validation_accuracy": accuracy})))
        board(Progressed("fa", seed, Progress(epoch=1, epochs=2, step=20, steps=40, loss=0.5 + seed, accuracy=0.5)))
    line = next(line for line in drawn(board).splitlines() if line.startswith("fa"))
    assert "0/2" in line and "50.0%" in line and "1.000" in line
    now += 30
    board(Ended("fa", 0, "finished", None))
    board(Ended("fa", 1, "failed", None, "why"))
    text = drawn(board)  # from 25 to 50 % in 30 s
    assert "2/2" in text and "50%" in text and "about 60 s left" in text
    for seed in (0, 1):
        board(Ended("backprop", seed, "finished", None))
    board(Measuring(1, 2))
    assert "cost of a step: 1 of 2" in drawn(board)
    board(Auditing(0, 2))
    assert "auditing: 0 of 2" in drawn(board)
    board(Auditing(2, 2))
    assert "writing the report" in drawn(board)


def test_lines_come_for_every_end_and_now_and_then(monkeypatch, capsys):
    now = 100.0
    monkeypatch.setattr(lines.time, "monotonic", lambda: now)
    with lines.Comparing(COMPARISON, "The note.") as tell:
        tell(Progressed("fa", 1, Row(EPOCH)))
        now += 11
        tell(Progressed("fa", 1, Row(EPOCH)))
        tell(Progressed("fa", 1, Row(EPOCH)))
        tell(Ended("fa", 1, "failed", None, "why"))
        tell(Auditing(0, 2))
        tell(Auditing(1, 2))
    assert capsys.readouterr().out.splitlines() == [
        "mlp on digits: 2 learning rules, four runs. The note.",
        "          fa, seed 1: epoch 1 of 2, training loss 0.250, validation accuracy 75.0%",
        "  1 of 4  fa, seed 1: failed: why (11 s)",
        "Auditing …",
        "Audited 1 of 2",
    ]
