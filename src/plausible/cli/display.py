"""What is shown while a command works: a live picture on a terminal, plain lines elsewhere, nothing when quiet."""

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from plausible.cli import lines, live
from plausible.compare.comparison import Comparison
from plausible.compare.execute import Ended
from plausible.compare.rehearsal import Rehearsal
from plausible.compare.settings import Tuned
from plausible.compare.tune import Tuning
from plausible.report.names import count, duration, percent, size
from plausible.train import Run

Shown = AbstractContextManager[Callable[[Any], None]]


def _ignore(_event: Any) -> None:
    pass


def comparing(comparison: Comparison, note: str, *, quiet: bool) -> Shown:
    """Shows a comparison; call it with the events of :func:`plausible.compare.execute.compare`."""
    if quiet:
        return nullcontext(_ignore)
    return (live.Board if sys.stdout.isatty() else lines.Comparing)(comparison, note)


def training(run: Run, *, quiet: bool) -> Shown:
    """Shows one run; call it with the events of :func:`plausible.train.train`."""
    if quiet:
        return nullcontext(_ignore)
    return (live.Training if sys.stdout.isatty() else lines.Training)(run)


def tuning(what: Tuning, *, quiet: bool) -> Shown:
    """Shows a study; call it with the events of :func:`plausible.compare.tune.tune`."""
    if quiet:
        return nullcontext(_ignore)
    return (live.Tuning if sys.stdout.isatty() else lines.Tuning)(what)


def outcome(comparison: Comparison, ended: Sequence[Ended], page: Path, seconds: float) -> None:
    """The final table of a comparison, and where its report is."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("rule")
    table.add_column("test accuracy", justify="right")
    table.add_column("± sd", justify="right")
    table.add_column("seeds", justify="right")
    for contender in comparison.contenders:
        mine = [end.result.test_accuracy for end in ended if end.label == contender.label and end.result]
        values = [value for value in mine if value is not None]
        table.add_row(
            contender.label,
            percent(fmean(values)) if values else "–",
            percent(stdev(values)) if len(values) > 1 else "–",
            f"{len(values)}/{len(comparison.seeds)}",
        )
    typer.echo()
    Console(soft_wrap=True).print(table)
    typer.echo(f"\n{duration(round(seconds))}. Report: {page}")


def rehearsal(run: Run, found: Rehearsal, *, as_json: bool) -> None:
    """What a dry run found: data, memory, time."""
    if as_json:
        own = {name: getattr(found, name) for name in ("peak_bytes", "limit", "seconds")}
        typer.echo(json.dumps({**asdict(found), **own}, indent=2))
        return
    rows = [
        ("data", f"{run.data}: {', '.join(f'{n:,} {part}' for part, n in found.examples.items())}"),
        ("", f"{found.classes:,} classes, examples of {'×'.join(map(str, found.shape))}"),
    ]
    if found.looked_at:
        rows.append(("", f"{found.looked_at:,} images decoded, {count(len(found.skipped), 'file')} to be left out"))
        rows += [("", f"{path}: {why}") for path, why in islice(found.skipped.items(), 10)]
    parts = [("weights", found.model_bytes), ("feedback", found.feedback_bytes), ("optimiser", found.optimizer_bytes)]
    held = ", ".join(f"{name} {size(n)}" for name, n in (*parts, ("a step", found.step_bytes)) if n)
    there = "" if found.free_bytes is None else f" of {size(found.free_bytes)} that are free on {run.device}"
    short = found.free_bytes is not None and found.peak_bytes > found.free_bytes
    rows += [
        ("memory", f"{size(found.peak_bytes)}{there}{': it does not fit' if short else ''}"),
        ("", held),
        ("time", f"loader {duration(found.load_seconds)} a batch of {run.batch_size}, learner "
                 f"{duration(found.learn_seconds)}: the {found.limit} limits"),
        ("", f"together {duration(found.step_seconds)} a step, {found.steps:,} steps in {count(run.epochs, 'epoch')}"),
        ("to finish", f"about {duration(found.seconds)}, of which {duration(found.evaluate_seconds)} "
                      "are evaluations"),
    ]  # fmt: skip
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(soft_wrap=True).print(table)
    typer.echo("Nothing was written. Without --dry-run it begins.")


def settings(found: Tuned, path: Path) -> None:
    """The table of what a study found, and where it is."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("rule", "learning rate", "options", "validation accuracy"):
        table.add_column(name, justify="left" if name in ("rule", "options") else "right")
    for rule, best in found.rules.items():
        options = ", ".join(
            f"{name} = {f'{value:.3g}' if isinstance(value, float) else value}"
            for name, value in best.rule_options.items()
        )
        table.add_row(rule, f"{best.lr:.2e}", options, percent(best.validation_accuracy))
    typer.echo()
    Console(soft_wrap=True).print(table)
    typer.echo(f"\nBest of {found.trials} trials for each rule: {path}")
