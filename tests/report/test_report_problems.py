"""The matrix of rules × problems: what it says, and that it says where that comes from."""

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import synthetic

from plausible import report
from plausible.audit import Scorecard
from plausible.report import ReportError, load, names, problems, summary
from plausible.report.summary import standings


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of the shipped table, one with back-propagation, FA and the frozen control."""
    cards = {rule: Scorecard.from_dict(synthetic.card(rule)) for rule in ("backprop", "fa", "frozen")}
    monkeypatch.setattr(summary, "measured", lambda: cards)


def _entered(directory: Path, label: str, overrides: Mapping[str, object]) -> None:
    """Change what a contender was entered with."""
    path = directory / "comparison.json"
    document = json.loads(path.read_text())
    for entry in document["contenders"]:
        if entry["label"] == label:
            entry["overrides"] = overrides
    path.write_text(json.dumps(document))


def _text(page: Path) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page.read_text(encoding="utf-8").split("<main>")[1]))


def test_the_six_come_first_and_then_what_applies_to_somebody(finished: Path) -> None:
    over = problems.columns(standings(load(finished)))
    assert [c.name for c in over if c.core] == [
        "weight transport", "derivative transport", "linear feedback", "spiking", "timing", "target"
    ]  # fmt: skip
    assert [c.name for c in over][6:] == ["BPTT", "locality"]
    assert all(c.unit == "relative change" and c.summary for c in over)


def test_a_problem_that_applies_to_nobody_has_no_column(small: Path) -> None:
    cards = json.loads((small / "audit.json").read_text())
    for entry in cards.values():
        for name in ("BPTT", "timing"):
            entry["scorecard"]["findings"][name]["verdict"] = "does not apply"
    (small / "audit.json").write_text(json.dumps(cards))
    over = [c.name for c in problems.columns(standings(load(small)))]
    assert "BPTT" not in over and "timing" in over  # one of the six stays


def test_every_finding_in_csv(finished: Path) -> None:
    with (finished / "problems.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(r["label"], r["problem"], r["verdict"]) for r in rows} == {
        (rule, problem, verdict) for rule in synthetic.RULES for problem, verdict in synthetic.verdicts(rule).items()
    }
    assert {r["source"] for r in rows} == {"this comparison"}
    usf = next(r for r in rows if (r["label"], r["problem"]) == ("usf", "weight transport"))
    assert (usf["verdict"], float(usf["value"]), usf["unit"]) == ("partly", 0.25, "relative change")


def test_the_matrix_in_markdown(finished: Path) -> None:
    text = (finished / "results.md").read_text(encoding="utf-8")
    row = next(line for line in text.split("## Which problems")[1].splitlines() if line.startswith("| Direct feedback"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:] == ["✔ 3·10⁻¹⁷", "✔ 3·10⁻¹⁷", "✘ 1.4", "✘ 1.4", "◐ 0.25", "✘ 1.4", "✔ 3·10⁻¹⁷", "✘ 1.4", "2 of 6"]


def test_its_own_audit_is_told_as_such(finished: Path) -> None:
    text = _text(finished / "report.html")
    assert "Measured for this comparison: each rule with the options that it has here" in text
    assert "(64 examples, float64, plausible 0.1.0, 2025-07-21)" in text
    assert "the table that comes with plausible" not in text
    assert "A synthetic sentence on timing of dfa." in text


@pytest.mark.usefixtures("shipped")
def test_without_one_the_shipped_table_is_used_and_told(small: Path) -> None:
    (small / "audit.json").unlink()
    table = standings(load(small))
    assert [s.audited and s.audited.own for s in table] == [False, False, False]
    text = _text(report.write(small))
    assert "From the table that comes with plausible, and not from these runs" in text
    assert "plausible compare --audit" in text


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize(
    ("options", "known"),
    [({"scale": 2.0}, True), ({}, True), ({"last_layer": "backprop"}, False), ({"batch_manhattan": True}, False)],
)
def test_options_that_may_change_how_it_learns_have_no_shipped_card(small: Path, options: dict, known: bool) -> None:
    (small / "audit.json").unlink()
    _entered(small, "fa", {"rule_options": options})
    fa = standings(load(small))[1]
    assert (fa.audited is not None) == known
    text = _text(report.write(small))
    assert ("Not audited: Feedback alignment." in text) == (not known)


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize("where", ["base", "entry"])
def test_weights_under_constraints_have_no_shipped_card(small: Path, where: str) -> None:
    (small / "audit.json").unlink()
    constraints = {"constraints": [{"quantised": {"bits": 2}}]}
    if where == "entry":
        _entered(small, "fa", constraints)
    else:
        document = json.loads((small / "comparison.json").read_text())
        synthetic.edit(small / "comparison.json", base={**document["base"], **constraints})
    assert standings(load(small))[1].audited is None


@pytest.mark.usefixtures("shipped")
def test_its_own_audit_wins_over_the_table(small: Path) -> None:
    _entered(small, "fa", {"rule_options": {"last_layer": "backprop"}})
    cards = json.loads((small / "audit.json").read_text())
    (small / "audit.json").write_text(json.dumps({"fa": cards["fa"]}))
    assert [s.audited and s.audited.own for s in standings(load(small))] == [False, True, False]
    text = _text(report.write(small))
    assert "Measured for this comparison: Feedback alignment with" in text and "The rest is from the table" in text


def test_nobody_audited(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "measured", dict)
    (small / "audit.json").unlink()
    page = report.write(small)
    assert 'id="figure-problems"' not in page.read_text()
    assert "Which problems" not in (small / "results.md").read_text()
    assert (small / "problems.csv").read_text().strip() == ""


def test_where_the_literature_holds_something_else(finished: Path) -> None:
    results = load(finished)
    fa = next(s for s in standings(results) if s.contender.label == "fa")
    over = problems.columns([fa])
    # The generator agrees with the literature on FA; a card that does not is marked.
    assert not any(cell and cell.otherwise for cell in problems.cells(fa, over))
    dfa = next(s for s in standings(results) if s.contender.label == "dfa")
    marked = {c.name for c, cell in zip(over, problems.cells(dfa, over), strict=True) if cell and cell.otherwise}
    assert marked == {"spiking"}


@pytest.mark.parametrize("content", ["[]", '{"fa": {}}', '{"fa": {"scorecard": {"subject": "fa"}}}', '{"fa": 3}'])
def test_a_damaged_audit_is_refused_by_name(small: Path, content: str) -> None:
    (small / "audit.json").write_text(content)
    with pytest.raises(ReportError, match=r"audit\.json"):
        load(small)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.153, "0.15"), (1.0, "1"), (10.0, "10"), (3.2e-17, "3·10⁻¹⁷"), (-0.06, "−0.06"), (57.6, "58"),
     (1234.5, "1234"), (2.5e7, "2·10⁷"), (-4e-9, "−4·10⁻⁹"), (float("inf"), "∞"), (0.999, "1")],
)  # fmt: skip
def test_values_in_few_characters(value: float, text: str) -> None:
    assert names.magnitude(value) == text
