"""Which of back-propagation's problems each rule solves, as rows: for the page, for CSV and for Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from plausible.audit import Finding, Scorecard, criteria
from plausible.audit.claims import disagreements
from plausible.audit.measured import DATA
from plausible.core import registry
from plausible.core.errors import UnknownName
from plausible.report import names
from plausible.report.results import Results
from plausible.report.summary import Standing


@dataclass(frozen=True)
class Cell:
    """What was found of one rule and one problem.

    Attributes:
        finding: as the audit gives it.
        value: the measured value in few characters; empty where there is none.
        otherwise: what the literature holds, and the cause where it is known, if something else was measured.
    """

    finding: Finding
    value: str
    otherwise: str


@dataclass(frozen=True)
class Column:
    """A problem.

    Attributes:
        name: of the criterion.
        summary: what the problem is, in a sentence.
        unit: of its values.
        core: whether it is one of the six of the literature.
    """

    name: str
    summary: str
    unit: str
    core: bool


def columns(table: Sequence[Standing]) -> tuple[Column, ...]:
    """The six problems of the literature, and of the others those that apply to somebody here."""
    cards = [s.audited.card for s in table if s.audited]
    chosen = []
    for each in criteria():
        found = [card.findings[each.name] for card in cards if each.name in card.findings]
        if any(each.core or finding.verdict != "does not apply" for finding in found):
            units = dict.fromkeys(finding.unit for finding in found if finding.unit)
            chosen.append(Column(each.name, each.summary, " or ".join(units), each.core))
    return tuple(chosen)


def cells(standing: Standing, over: Sequence[Column]) -> list[Cell | None]:
    """What was found of one contender, by column; None where its audit did not look."""
    if standing.audited is None:
        return [None] * len(over)
    card = standing.audited.card
    otherwise = _otherwise(standing.contender.rule, card)
    return [
        Cell(finding, "" if finding.value is None else names.magnitude(finding.value), otherwise.get(column.name, ""))
        if (finding := card.findings.get(column.name))
        else None
        for column in over
    ]


def _otherwise(rule: str, card: Scorecard) -> dict[str, str]:
    """Problem → where the literature differs from what was measured."""
    try:
        known = registry.get(rule)
    except UnknownName:
        return {}
    differing = [each for each in disagreements(known, card.findings) if each.by == "literature"]
    return {each.problem: f"The literature holds: {each.expected}. {each.because}".strip() for each in differing}


def source(results: Results, table: Sequence[Standing]) -> str:
    """Where the verdicts come from, in plain words; empty if there are none."""
    own = [s for s in table if s.audited and s.audited.own]
    shipped = [s for s in table if s.audited and not s.audited.own]
    told = []
    if own:
        who = "each rule" if not shipped else names.listed([s.title for s in own])
        here = f"{names.model(str(results.base.get('model')))} and {names.data(str(results.base.get('data')))}"
        told.append(f"Measured for this comparison: {who} with the options that it has here, on {here}{_how(own)}.")
    if shipped:
        who = "each rule" if not own else names.listed([s.title for s in shipped])
        models = dict.fromkeys(names.model(registry.get(s.contender.rule).model) for s in shipped)
        what = f"{names.listed(list(models))}, with {names.data(DATA)}{_how(shipped)}"
        told.append(
            f"{'The rest is from' if own else 'From'} the table that comes with plausible, and not from these runs: "
            f"{who} with its default options on {what}. To measure on this comparison’s own model and data: "
            "plausible compare --audit."
        )
    if (own or shipped) and (missing := [s.title for s in table if not s.audited]):
        told.append(
            f"Not audited: {names.listed(missing)}. The table has rules with their default options only, and other "
            "options may change what is solved; with --audit they are measured."
        )
    return " ".join(told)


def _how(standings: Sequence[Standing]) -> str:
    """`` (64 examples, float64, plausible 0.1.0, 2025-07-21)``."""
    cards = [s.audited.card for s in standings if s.audited]
    parts = (
        [f"{card.examples} examples" for card in cards],
        [card.dtype for card in cards],
        [f"plausible {card.versions['plausible']}" for card in cards if "plausible" in card.versions],
        sorted(card.date[:10] for card in cards if card.date),
    )
    return f" ({', '.join(' and '.join(dict.fromkeys(part)) for part in parts if part)})"


def rows(table: Sequence[Standing]) -> list[dict[str, object]]:
    """One row per contender and problem, for CSV."""
    return [
        {
            "label": s.contender.label,
            "rule": s.contender.rule,
            "problem": finding.criterion,
            "verdict": finding.verdict,
            "value": finding.value,
            "unit": finding.unit,
            "spread": finding.spread,
            "samples": finding.samples,
            "source": "this comparison" if s.audited.own else "plausible's table",
            "model": s.audited.card.model,
            "examples": s.audited.card.examples,
            "sentence": finding.sentence,
        }
        for s in table
        if s.audited
        for finding in s.audited.card.findings.values()
    ]


def markdown(results: Results, table: Sequence[Standing]) -> list[str]:
    """The matrix as lines of Markdown; none if nobody was audited."""
    over = columns(table)
    if not over:
        return []
    lines = [f"| Rule | {' | '.join(column.name for column in over)} | solved |"]
    lines += ["|:--" + "|:-:" * (len(over) + 1) + "|"]
    for s in table:
        found = [_text(cell) for cell in cells(s, over)]
        total = f"{s.audited.card.solved} of {s.audited.card.core}" if s.audited else ""
        lines.append(f"| {s.title} | {' | '.join(found)} | {total} |".replace("\n", " "))
    legend = ", ".join(f"{sign} {verdict}" for verdict, sign in names.SIGNS.items())
    return [*lines, "", f"{legend}; the number is what the verdict rests on. {source(results, table)}"]


def _text(cell: Cell | None) -> str:
    return "" if cell is None else f"{names.SIGNS[cell.finding.verdict]} {cell.value}".strip()
