"""Audits every factory of :mod:`benchmarks.foreign`; writes ``results/foreign.md`` and ``results/foreign/*.json``.

Run as ``python -m benchmarks.foreign_table`` from the root of the repository.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from benchmarks.foreign import FACTORIES

from plausible.audit import Batch, Finding, Foreign, ForeignSubject, Scorecard, audit
from plausible.cli.scorecards import line
from plausible.data import Loader, load
from plausible.report.names import SIGNS

EXAMPLES = 512


def examined(factory: Callable[[], Foreign]) -> Scorecard:
    """The scorecard of one factory, as ``plausible audit --target`` measures it."""
    found = load("digits")
    x, y = next(Loader(found.train, EXAMPLES, mean=found.mean, std=found.std, seed=0, shuffle=True).epoch())
    batch = Batch(x, y, found.classes)
    return audit(ForeignSubject(factory, batch), batch)


def table(cards: Sequence[tuple[str, Scorecard]]) -> str:
    """A row for each (package, scorecard), and below it what was seen."""
    problems = list(cards[0][1].findings)
    lines = ["| package | learner | precision | " + " | ".join(problems) + " |", "|---" * (3 + len(problems)) + "|"]
    for package, card in cards:
        cells = [_cell(finding) for finding in card.findings.values()]
        lines.append(f"| {package} {version(package)} | `{card.subject}` | {card.dtype} | {' | '.join(cells)} |")
    for _, card in cards:
        lines += ["", f"## `{card.subject}`", "", f"{line(card)}. {card.model}; {card.seconds:.1f} s.", ""]
        lines += [f"- **{f.criterion}: {f.verdict}.** {f.sentence}" for f in card.findings.values()]
    return "\n".join(lines)


def _cell(finding: Finding) -> str:
    sign = SIGNS[finding.verdict]
    return sign if finding.value is None else f"{sign} {finding.value:.2g}"


HEAD = """# What the audit finds in other people's packages

Made by `python -m benchmarks.foreign_table` from the packages as released; one alone is audited by
`plausible audit --target benchmarks.foreign:{first}`. Digits data, {examples} examples, seed 0, one random net each.

A number is what the verdict rests on: for weight and derivative transport, the relative change of updates upstream
after a change that leaves the forward activity as it was; for target, the distinct updates for 10 labels. Messages of
foreign code pass through no wires, so what needs to watch, delay or clamp them could not be measured. Code that knows
float32 only is judged by what float32 can tell. A verdict is on the rule and the net in `benchmarks/foreign.py`, not
on all that a package can do.

{legend} torch {torch}, Python {python}, plausible {plausible}.

"""


def main() -> None:
    """Audit all; write the table and the scorecards."""
    torch.set_num_threads(1)
    results = Path(__file__).parent.parent / "results"
    cards = []
    for factory, package in FACTORIES.items():
        cards.append((package, examined(factory)))
        cards[-1][1].write(results / "foreign" / f"{factory.__name__}.json")
        print(line(cards[-1][1]), f"({cards[-1][1].seconds:.1f} s)")
    legend = ", ".join(f"{sign} {verdict}" for verdict, sign in SIGNS.items()) + "."
    versions = cards[0][1].versions
    first = next(iter(FACTORIES)).__name__
    head = HEAD.format(first=first, examples=EXAMPLES, legend=legend, **versions)
    (results / "foreign.md").write_text(head + table(cards) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
