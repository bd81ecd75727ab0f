"""Audits every registered rule: writes the table that plausible ships, and ``results/audit.md`` for people to read.

python results/audit.py              every rule, each on its own model, with the digits
python results/audit.py fa dfa       these anew, the others as they are in the table

Ends with status 1 if a rule could not be audited, a problem could not be measured, or a verdict differs from the
literature or from the rule's claims and nobody has explained why.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import groupby
from pathlib import Path

import torch

from plausible.audit import Finding, Scorecard, criteria
from plausible.audit.claims import disagreements
from plausible.audit.engine import Examined
from plausible.audit.measured import DATA, FILE, measured
from plausible.cli.options import shipped_base
from plausible.compare import audits, workers
from plausible.core import registry
from plausible.report.names import SIGNS, magnitude

HEAD = """# Which of back-propagation's problems each rule solves

Made by `python results/audit.py`: every rule with its default options, on the model it is made for, with the digits,
{examples} examples and seed 0, in {dtype}. plausible {plausible}, torch {torch}, Python {python}.

{legend}. The number is what the verdict rests on (units below); in brackets, what the literature holds of the rule,
where it says something; bold where that differs. *Solved* counts the first six.

"""


def audited(rules: Sequence[str], jobs: int) -> tuple[dict[str, Scorecard], list[str]]:
    """(rule → scorecard, what went wrong)."""
    runs = {rule: shipped_base(DATA, registry.get(rule).model, rule=rule) for rule in rules}
    cards: dict[str, Scorecard] = {}
    failed: list[str] = []
    with workers.Pool(min(jobs, len(runs)), preload="plausible.compare.audits") as pool:
        for said in pool.run(audits.work, {rule: (run, rule, None) for rule, run in runs.items()}):
            if isinstance(said, workers.Returned):
                cards[said.key] = said.value
                print(f"{said.key}: {said.value.solved} of {said.value.core} solved, {said.value.seconds:.0f} s")
            elif isinstance(said, workers.Broke):
                failed.append(f"{said.key} could not be audited: {said.message}")
            elif isinstance(said.content, Examined):
                print(f"  {said.key}: {said.content.finding.criterion}: {said.content.finding.verdict}", flush=True)
    return cards, failed


def table(cards: Mapping[str, Scorecard]) -> str:
    """A row for each rule, the units, and every disagreement with its cause."""
    problems = [each.name for each in criteria()]
    lines = [f"| rule | {' | '.join(problems)} | solved |", "|:--" + "|:-:" * (len(problems) + 1) + "|"]
    for rule, card in cards.items():
        held = registry.get(rule).literature
        cells = [_cell(card.findings[problem], held.get(problem)) for problem in problems]
        lines.append(f"| `{rule}` | {' | '.join(cells)} | {card.solved} of {card.core} |")
    units = {f.criterion: f.unit for card in cards.values() for f in card.findings.values() if f.unit}
    lines += [
        "",
        "Units: " + "; ".join(f"{problem}: {units[problem]}" for problem in problems if problem in units) + ".",
    ]
    lines += ["", "## Where something else was expected", ""]
    for rule, card in cards.items():
        for problem, differing in groupby(_by_problem(rule, card), lambda each: each.problem):
            each = list(differing)
            expected = " and ".join(
                f"the {e.by} {'hold' if e.by == 'literature' else 'say'}s {e.expected}" for e in each
            )
            expected = expected.replace("the claims says", "its claims say")
            cause = each[0].because or "**Unexplained.**"
            lines.append(f"- **{rule}, {problem}**: {each[0].measured}, where {expected}. {cause}")
    lines += ["", "## What was done and seen"]
    for rule, card in cards.items():
        lines += ["", f"### `{rule}`", "", f"{card.model}; {card.seconds:.0f} s.", ""]
        lines += [f"- {f.criterion}: **{f.verdict}**. {f.sentence}" for f in card.findings.values()]
    return "\n".join(lines) + "\n"


def _by_problem(rule: str, card: Scorecard) -> list:
    return sorted(
        disagreements(registry.get(rule), card.findings), key=lambda each: list(card.findings).index(each.problem)
    )


def _cell(finding: Finding, held: str | None) -> str:
    value = "" if finding.value is None else f" {magnitude(finding.value)}"
    view = "" if held is None else f" ({SIGNS[held]})"
    text = f"{SIGNS[finding.verdict]}{value}{view}"
    differs = held not in (None, "does not apply", finding.verdict) and finding.verdict != "does not apply"
    return f"**{text}**" if differs else text


def complaints(cards: Mapping[str, Scorecard]) -> list[str]:
    """What must not be in the table."""
    found = []
    for rule, card in cards.items():
        for finding in card.findings.values():
            if finding.verdict == "could not be measured":
                found.append(f"{rule}: {finding.criterion} could not be measured: {finding.sentence}")
        for each in disagreements(registry.get(rule), card.findings):
            if not each.because:
                found.append(
                    f"{rule}: {each.problem} is {each.measured}, where the {each.by} say {each.expected}, and nobody "
                    f"has explained why. Find the cause and write it into the rule's `because`. "
                    f"{card.findings[each.problem].sentence}"
                )
    return found


def main() -> int:
    """Audit, write, and say what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rules", nargs="*", help="to audit anew; all by default")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    given = parser.parse_args()
    torch.set_num_threads(1)
    fresh, wrong = audited([registry.get(rule).name for rule in given.rules] or registry.names(), given.jobs)
    every = {**measured(), **fresh}
    cards = {rule: every[rule] for rule in registry.names() if rule in every}
    with resources.as_file(resources.files("plausible.audit")) as package:
        document = json.dumps(
            [card.to_dict() for card in cards.values()], indent=1, ensure_ascii=False, allow_nan=False
        )
        (package / FILE).write_text(document + "\n", encoding="utf-8")
    legend = ", ".join(f"{sign} {verdict}" for verdict, sign in SIGNS.items())
    first = next(iter(cards.values()))
    head = HEAD.format(legend=legend, examples=first.examples, dtype=first.dtype, **first.versions)
    (Path(__file__).parent / "audit.md").write_text(head + table(cards), encoding="utf-8")
    for line in (wrong := [*wrong, *complaints(cards)]):
        print(f"Error: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
