"""How an audit is shown: progress while it is under way, then a table. A verdict is a word and a sign, not a colour."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from plausible.audit import Examined, Finding, Scorecard, Verdict
from plausible.audit.claims import disagreements
from plausible.audit.engine import Event, Watcher
from plausible.core import registry
from plausible.report.names import SIGNS, duration

COLOURS: Mapping[Verdict, str] = {
    "solved": "green",
    "partly": "yellow",
    "violated": "red",
    "does not apply": "dim",
    "could not be measured": "magenta",
}


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[str], Watcher]]:
    """Shows audits under way: call what it gives with a label, for a watcher of that one's events."""
    if quiet:
        yield lambda label: lambda event: None
    elif not sys.stdout.isatty():
        yield lambda label: lambda event: _tell(label, event)
    else:
        with bars(Console()) as picture:
            yield lambda label: moving(picture, label)


def _tell(label: str, event: Event) -> None:
    if isinstance(event, Examined):
        finding = event.finding
        typer.echo(f"{label}: {finding.criterion}: {finding.verdict} ({duration(event.seconds)})")


def bars(console: Console) -> Progress:
    """The picture of what is under way: a line for each subject, which goes when all is done."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=True)


def moving(picture: Progress, label: str) -> Watcher:
    """Moves a line of its own in the picture."""
    task = picture.add_task(label, total=None)

    def watch(event: Event) -> None:
        if isinstance(event, Examined):
            picture.advance(task)
        else:
            picture.update(task, description=f"{label}: {event.criterion}", total=event.total)

    return watch


def line(card: Scorecard) -> str:
    """A scorecard in one line."""
    return f"{card.subject}: {card.solved} of {card.core} problems solved, {card.partly} in part"


def show(cards: Sequence[Scorecard], rules: Mapping[str, str]) -> None:
    """One scorecard in full, or several as a matrix.

    Args:
        cards: what was found.
        rules: the registered rule behind a subject's name, for those that have one.
    """
    typer.echo()
    if len(cards) == 1:
        _one(cards[0], rules)
    else:
        _matrix(cards, rules)


def _one(card: Scorecard, rules: Mapping[str, str]) -> None:
    console = Console()
    console.print(Text(card.subject, style="bold").append(f" on {card.model}", style="not bold"), "\n")
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 1, 0))
    table.add_column("problem and verdict", no_wrap=True)
    table.add_column("what was measured, done and seen")
    for finding in card.findings.values():
        # Text, so that a bracket in a name is not taken for markup.
        seen = Text(_measured(finding), style="bold")
        seen.append(finding.sentence + _otherwise(finding, rules.get(card.subject)), style="not bold")
        verdict = Text(finding.criterion + "\n").append(
            f"{SIGNS[finding.verdict]} {finding.verdict}", style=COLOURS[finding.verdict]
        )
        table.add_row(verdict, seen)
    console.print(table)
    typer.echo(f"{line(card)} ({duration(card.seconds)}).")


def _matrix(cards: Sequence[Scorecard], rules: Mapping[str, str]) -> None:
    console = Console()
    problems = list(cards[0].findings)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", overflow="fold")
    for problem in problems:
        table.add_column(problem, justify="center", min_width=max(map(len, problem.split())))
    table.add_column("solved", justify="right", no_wrap=True)
    for card in cards:
        cells = [_cell(card.findings[problem], rules.get(card.subject)) for problem in problems]
        table.add_row(card.subject, *cells, f"{card.solved}/{card.core}")
    # Never narrower than its words: where the terminal is, lines run on, and no column is lost.
    width = max(console.width, Console(width=1000).measure(table).minimum)
    Console(width=width).print(table)
    legend = Text("  ").join(Text(f"{SIGNS[verdict]} {verdict}", style=style) for verdict, style in COLOURS.items())
    console.print("\n", legend, sep="")
    if any(_otherwise(f, rules.get(card.subject)) for card in cards for f in card.findings.values()):
        typer.echo("* not what the literature holds: `plausible audit RULE` tells more of one.")


def _cell(finding: Finding, rule: str | None) -> Text:
    return Text(SIGNS[finding.verdict] + ("*" if _otherwise(finding, rule) else ""), style=COLOURS[finding.verdict])


def _otherwise(finding: Finding, rule: str | None) -> str:
    """What the literature holds of the registered rule, and the cause, where something else was measured."""
    if rule is None:
        return ""
    found = disagreements(registry.get(rule), {finding.criterion: finding})
    return "".join(
        f"\nThe literature holds: {each.expected}. {each.because}" for each in found if each.by == "literature"
    )


def _measured(finding: Finding) -> str:
    if finding.value is None:
        return ""
    spread = "" if finding.spread is None else f" ± {finding.spread:.2g}"
    return f"{finding.value:.3g}{spread} {finding.unit}".rstrip() + "\n"
