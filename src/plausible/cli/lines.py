"""Progress as plain lines, for files and pipes: one for each thing that ends, and now and then one on the way."""

import time
from typing import Any, Self

import typer

from plausible.compare import tune
from plausible.compare.audits import Auditing
from plausible.compare.comparison import Comparison
from plausible.compare.execute import Ended, Measuring, Progressed
from plausible.report.names import count, percent
from plausible.train import Event, Row, Run

NOW_AND_THEN = 10.0
"""Seconds between two lines about epochs."""


class _Lines:
    """A context whose value is the callback itself."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return


class Comparing(_Lines):
    """Lines about a comparison."""

    def __init__(self, comparison: Comparison, note: str) -> None:
        self.epochs = {label_seed: run.epochs for label_seed, run in comparison.runs().items()}
        self.ended = 0
        self.measured = False
        self.told_at = self.started = time.monotonic()
        typer.echo(f"{comparison.title}, {count(len(self.epochs), 'run')}. {note}")

    def __call__(self, event: Progressed | Ended | Measuring | Auditing) -> None:
        """Tell about ``event``, if it is worth a line."""
        if isinstance(event, Ended):
            self._ended(event)
        elif isinstance(event, Measuring):
            if not self.measured:
                typer.echo("Measuring the cost of a step …")
            self.measured = True
        elif isinstance(event, Auditing):
            typer.echo(f"Audited {event.done} of {event.total}" if event.done else "Auditing …")
        elif isinstance(event.event, Row) and event.event.row["kind"] == "epoch":
            self._epoch(event.label, event.seed, event.event.row)

    def _epoch(self, label: str, seed: int, row: dict[str, Any]) -> None:
        if time.monotonic() - self.told_at > NOW_AND_THEN:
            self.told_at = time.monotonic()
            typer.echo(f"{'':>9} {label}, seed {seed}: {epoch(row, self.epochs[label, seed])}")

    def _ended(self, end: Ended) -> None:
        self.ended += 1
        if end.result and end.result.test_accuracy is not None:
            what = f"test accuracy {percent(end.result.test_accuracy)}"
        else:
            what = f"{end.status}: {end.message}"
        when = "finished before" if end.reused else f"{time.monotonic() - self.started:.0f} s"
        typer.echo(f"{self.ended:>3} of {len(self.epochs)}  {end.label}, seed {end.seed}: {what} ({when})")


class Training(_Lines):
    """Lines about one run: every epoch."""

    def __init__(self, run: Run) -> None:
        self.run = run
        typer.echo(f"{run.rule} on {run.data} with {run.model}, seed {run.seed}: run {run.id}")

    def __call__(self, event: Event) -> None:
        """Tell about ``event``, if it is the end of an epoch."""
        if isinstance(event, Row) and event.row["kind"] == "epoch":
            typer.echo(epoch(event.row, self.run.epochs))


class Tuning(_Lines):
    """Lines about a study: every trial."""

    def __init__(self, tuning: tune.Tuning) -> None:
        self.trials = tuning.trials
        budget = f"{count(tuning.trials, 'trial')} of {count(tuning.epochs, 'epoch')} each"
        typer.echo(f"Tuning {', '.join(tuning.rules)}: {budget}.")

    def __call__(self, event: tune.TrialEnded) -> None:
        """Tell about the trial."""
        value = "pruned" if event.value is None else f"validation accuracy {percent(event.value)}"
        typer.echo(f"{event.rule}, trial {event.number + 1}: {value}, best {percent(event.best)}")


def epoch(row: dict[str, Any], epochs: int) -> str:
    """An epoch's row in words."""
    return (
        f"epoch {row['epoch']} of {epochs}, training loss {row['train_loss']:.3f}, "
        f"validation accuracy {percent(row['validation_accuracy'])}"
    )
