"""`plausible audit`: what it prints, writes and refuses."""

import io
import json
import subprocess
import sys

import pytest
from rich.console import Console
from typer.testing import CliRunner

from plausible.audit import Finding, Scorecard, criteria
from plausible.audit.engine import Examined, Examining
from plausible.cli import app, scorecards
from plausible.core import registry

SMALL = ["--set", "model_options.width=16", "--examples", "16"]
QUICK = ["--criteria", "weight-transport,target", *SMALL]

LAB = """
import torch
from torch.nn import functional as F

def pretended():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 12), torch.nn.ReLU(), torch.nn.Linear(12, 10))
    feedback = [torch.randn(12, 10)]
    def step(x, y):
        F.cross_entropy(model(x), y).backward()
    return model, step

def broken():
    raise RuntimeError("the lab is closed")
"""


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Call the command in this process, in a directory with a factory of the user's own."""
    (tmp_path / "lab_for_audit.py").write_text(LAB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return lambda *words: CliRunner().invoke(app, ["audit", *words])


def fails(result):
    assert result.exit_code == 1, (result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    return result.stderr


def test_help_does_not_wait_for_torch():
    code = (
        "import sys\nfrom plausible.cli import app\n"
        "try: app(['audit', '--help'])\nexcept SystemExit as end: assert not end.code\n"
        "print('heavy:', sorted({'torch', 'numpy', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []" and "--criteria" in done.stdout


def test_one_rule_in_full(run):
    result = run("backprop", *QUICK)
    assert (result.exit_code, result.stderr) == (0, "")  # a verdict is no error
    words = " ".join(result.stdout.split())
    assert "backprop: weight transport: violated (" in words
    assert "✘ violated" in words and "relative change" in words and "forward weights travel" in words
    assert "backprop: 0 of 2 problems solved, 0 in part" in words
    assert "backprop on Sequential, 3 weight layers (64 → 16 → 16 → 10), 1482 parameters" in words


def test_several_rules_as_a_matrix(run):
    result = run("backprop", "fa", "usf", *QUICK)
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if "/2" in line}
    assert [cells[0].rstrip("*") for cells in rows.values()] == ["✘", "✔", "◐"]
    assert list(rows) == ["backprop", "fa", "usf"] and rows["fa"][-1] == "1/2"
    assert "✔ solved  ◐ partly  ✘ violated  – does not apply  ? could not be measured" in result.stdout


def test_json_is_one_object_and_scorecards_are_written(run, tmp_path):
    result = run("fa:last_layer=backprop", "usf", *QUICK, "--json", "--out", "cards", "--set", "usf.seed=4")
    assert result.exit_code == 0 and result.stderr == ""
    cards = [Scorecard.from_dict(card) for card in json.loads(result.stdout)["scorecards"]]
    assert [card.subject for card in cards] == ["fa:last_layer=backprop", "usf"]
    assert cards[0].findings["weight transport"].verdict == "violated"
    assert [list(card.findings) for card in cards] == [["weight transport", "target"]] * 2
    assert Scorecard.read(tmp_path / "cards" / "fa-last_layer=backprop.json") == cards[0]
    assert Scorecard.read(tmp_path / "cards" / "usf.json") == cards[1]


def test_quiet_prints_a_line_each(run):
    result = run("fa", "--target", "lab_for_audit:pretended", *QUICK, "--quiet")
    assert result.stdout == (
        "fa: 1 of 2 problems solved, 0 in part\nlab_for_audit:pretended: 0 of 2 problems solved, 0 in part\n"
    )


def test_foreign_code_is_measured_where_it_can_be(run):
    result = run(
        "--target", "lab_for_audit:pretended", "--criteria", "weight-transport,timing,linear-feedback", "--json"
    )
    (card,) = json.loads(result.stdout)["scorecards"]
    verdicts = {name: finding["verdict"] for name, finding in card["findings"].items()}
    assert verdicts["weight transport"] == "violated"
    assert verdicts["timing"] == verdicts["linear feedback"] == "could not be measured"


def test_the_same_again_finds_the_same(run):
    cards = [json.loads(run("dfa", *QUICK, "--json").stdout)["scorecards"][0]["findings"] for _ in range(2)]
    assert cards[0] == cards[1]


def test_a_rule_is_audited_on_the_model_it_is_made_for(run, monkeypatch):
    monkeypatch.setattr(registry.get("dfa"), "model", "small-conv")
    words = ["dfa", "--criteria", "target", "--examples", "4", "--json"]
    own, given = (json.loads(run(*words, *more).stdout)["scorecards"][0] for more in ([], ["--model", "mlp"]))
    assert "(64 → " in given["model"] and "(1 → " in own["model"]


def test_a_constraint_reaches_the_audited_learner_and_the_scorecard_names_it(run, tmp_path):
    words = ["dfa", "--criteria", "Dale's-law", *SMALL, "--json"]
    under = run(*words, "--constraint", "dale:inhibitory=0.5", "--out", "cards")
    cards = [json.loads(result.stdout)["scorecards"][0] for result in (run(*words), under)]
    assert [card["findings"]["Dale's law"]["verdict"] for card in cards] == ["violated", "solved"]
    assert [card["subject"] for card in cards] == ["dfa", "dfa + dale"]
    assert Scorecard.read(tmp_path / "cards" / "dfa-dale.json") == Scorecard.from_dict(cards[1])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Name a rule"),
        (["fa", "--constraint", "dayle"], "no constraint named 'dayle'. Did you mean 'dale'?"),
        (["--target", "lab_for_audit:pretended", "--constraint", "dale"], "--constraint acts on"),
        (["faa"], "Did you mean 'fa'?"),
        (["fa", "--criteria", "weight-transports"], "Did you mean 'weight transport'?"),
        (["fa:scalee=2"], "Did you mean 'scale'?"),
        (["fa", "--set", "dfa.scale=2"], "setting"),
        (["fa", "--model", "mlpp"], "mlpp"),
        (["fa", "--data", "digit"], "digit"),
        (["--target", "lab_for_audit"], "package.module:callable"),
        (["--target", "lab_for_audit:nobody"], "lab_for_audit has no 'nobody'"),
        (["--target", "lab_for_audit:broken"], "RuntimeError: the lab is closed"),
    ],
)
def test_a_mistake_is_one_paragraph(run, words, said):
    assert said in fails(run(*words))


# ------------------------------------------------------------------------------------------------- what is shown

SOLVED = Finding(
    criterion="target", verdict="solved", sentence="Two [bold] labels.", value=2.0, unit="bits", spread=0.5
)
CARD = Scorecard(subject="lab:x", model="Net", examples=4, dtype="float32", findings={"target": SOLVED})


def shown(monkeypatch, cards, rules, width=100):
    stream = io.StringIO()
    monkeypatch.setattr(
        scorecards, "Console", lambda **o: Console(file=stream, **{"width": width, "force_terminal": False, **o})
    )
    scorecards.show(cards, rules)
    return stream.getvalue()


def test_numbers_have_units_and_brackets_are_no_markup(monkeypatch):
    text = shown(monkeypatch, [CARD], {})
    assert "✔ solved" in text and "2 ± 0.5 bits" in text and "Two [bold] labels." in text


def test_what_the_literature_holds_otherwise_is_told(monkeypatch):
    rule = registry.get("fa")
    monkeypatch.setattr(rule, "literature", {"target": "violated"})
    monkeypatch.setattr(rule, "because", {"target": "The labels were odd."})
    text = " ".join(shown(monkeypatch, [CARD], {"lab:x": "fa"}).split())
    assert "The literature holds: violated. The labels were odd." in text
    assert "✔*" in shown(monkeypatch, [CARD, CARD], {"lab:x": "fa"})
    monkeypatch.setattr(rule, "literature", {"target": "solved"})
    assert "literature" not in shown(monkeypatch, [CARD], {"lab:x": "fa"})


def test_a_matrix_of_everything_loses_no_column_in_a_narrow_terminal(monkeypatch):
    names = [each.name for each in criteria()]
    card = Scorecard(
        subject="a", model="m", examples=4, dtype="float64",
        findings={name: Finding(criterion=name, verdict="violated", sentence="s") for name in names},
    )  # fmt: skip
    text = shown(monkeypatch, [card, card], {}, width=60)
    assert all(word in text for name in names for word in name.split())
    assert sum(line.count("✘") == len(names) for line in text.splitlines()) == 2


def test_progress_on_a_terminal_names_what_is_under_way(monkeypatch):
    stream = io.StringIO()
    bars = scorecards.bars(Console(file=stream, force_terminal=True, width=100))
    with bars:
        watch = scorecards.moving(bars, "fa")
        watch(Examining("target", 1, 2))
        watch(Examined(SOLVED, 0.1))
        bars.refresh()
        (task,) = bars.tasks
        assert (task.description, task.completed, task.total) == ("fa: target", 1, 2)
    assert "fa: target" in stream.getvalue()


def test_nothing_is_shown_when_quiet(capsys):
    with scorecards.progress(quiet=True) as watcher:
        watcher("fa")(Examined(SOLVED, 0.1))
    assert capsys.readouterr() == ("", "")
