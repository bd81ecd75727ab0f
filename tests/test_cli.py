"""The command line: what it prints, where, and with which exit status."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from plausible import __version__
from plausible.cli import app
from plausible.core import registry


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Call the command in this process, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, list(words))


def fails(result, status=1):
    """The message of a command that failed as it should: one paragraph on stderr, no traceback."""
    assert result.exit_code == status, (result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    return result.stderr


def test_help_does_not_wait_for_torch():
    code = (
        "import sys\nfrom plausible.cli import app\n"
        "for words in (['--help'], ['compare', '--help'], ['tune', '--help'], ['--version']):\n"
        "    try: app(words)\n"
        "    except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'numpy', 'optuna', 'matplotlib', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"
    assert done.stdout.splitlines()[-2] == f"plausible {__version__}"


def test_every_command_has_help(run):
    assert {"compare", "train", "rules", "report", "cite", "tune"} <= set(run("--help").stdout.split())
    for command in ("compare", "train", "rules", "report", "cite", "tune"):
        result = run(command, "--help")
        assert result.exit_code == 0 and "--debug" in result.stdout


def test_rules_lists_every_rule(run):
    listed = json.loads(run("rules", "--json").stdout)
    assert [rule["name"] for rule in listed] == registry.names()
    table = run("rules").stdout
    assert all(name in table for name in registry.names())


def test_rules_tells_all_about_one(run):
    detail = run("rules", "fa").stdout
    assert registry.header("fa") in detail
    assert "forward weights: none" in detail and "scale = 1.0 (tuned from 0.1 to 10, logarithmically)" in detail
    assert json.loads(run("rules", "fa", "--json").stdout)["options"]["scale"]["tunable"]["high"] == 10.0


def test_cite_prints_each_paper_once(run):
    assert run("cite", "usf", "frsf").stdout.count("@") == len({registry.citation(rule) for rule in ("usf", "frsf")})
    everything = run("cite").stdout
    for name in registry.names():
        assert everything.count(registry.citation(name)) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rules", "usff"], "Did you mean 'usf'?"),
        (["cite", "fab"], "Did you mean 'fa'?"),
        (["compare", "--rules", "fa,backpropp"], "Did you mean 'backprop'?"),
        (["compare", "--rules", "fa:scalee=2"], "Did you mean 'scale'?"),
        (["compare", "--rules", "fa:scale"], "name=value"),
        (["compare", "--rules", "fa,fa"], "given twice"),
        (["compare", "--seeds", "few"], "--seeds few"),
        (["compare", "--seeds", "0"], "--seeds 0"),
        (["compare", "--set", "fa.scalee=2"], "Did you mean 'scale'?"),
        (["compare", "--set", "weight_deca=2"], "Did you mean 'weight_decay'?"),
        (["compare", "--set", "weight_decay"], "NAME=VALUE"),
        (["compare", "--optimizer", "Adan"], "Did you mean 'Adam'?"),
        (["compare", "--last-layer", "front"], "last_layer"),
        (["train", "--rule", "fa", "--lr", "-1"], "lr = -1.0"),
        (["train", "--config", "missing.toml"], "missing.toml"),
        (["tune", "--rules", "fab"], "Did you mean 'fa'?"),
        (["report", "."], "comparison.json"),
    ],
)
def test_a_mistake_is_one_paragraph(run, words, said):
    assert said in fails(run(*words))


@pytest.mark.parametrize(
    "words",
    [["compare", "--epochs", "x"], ["nonsense"], ["rules", "--colour"], ["compare", "--config", "missing.toml"]],
)
def test_wrong_usage_has_exit_status_2(run, words):
    result = run(*words)
    assert result.exit_code == 2 and "Traceback" not in result.stderr and result.stdout == ""


def test_debug_shows_the_traceback(run):
    assert type(run("rules", "usff", "--debug").exception).__name__ == "UnknownName"


@pytest.mark.parametrize(
    ("error", "said", "status"),
    [
        (KeyboardInterrupt(), "Interrupted", 130),
        (MemoryError(), "memory", 1),
        (OSError(28, "No space left on device", "/some/file"), "/some/file: No space left on device", 1),
        (ZeroDivisionError("division by zero"), "should not happen", 1),
    ],
)
def test_what_nobody_foresaw_is_a_paragraph_too(run, monkeypatch, error, said, status):
    def broken(_name):
        raise error

    monkeypatch.setattr(registry, "header", broken)
    assert said in fails(run("rules", "fa"), status)


def test_an_interrupted_import_of_torch_is_not_tried_again():
    code = (
        "import sys\nfrom plausible.cli.guard import guarded\n"
        "def command(): raise KeyboardInterrupt\n"
        "try: guarded(command)()\n"
        "except Exception as end: print(end.exit_code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("130 False\n", "Error: Interrupted.\n")


def test_a_closed_pipe_is_silent():
    code = "from plausible.cli import main; main()"
    writer = subprocess.Popen(
        [sys.executable, "-c", code, "rules"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    writer.stdout.close()  # before it has said anything
    assert writer.stderr.read() == b""
    assert writer.wait() == 1
