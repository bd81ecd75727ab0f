"""Progress as a live picture in the terminal: a table that is drawn anew several times a second."""

import abc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from plausible.compare import tune
from plausible.compare.audits import Auditing
from plausible.compare.comparison import Comparison
from plausible.compare.execute import Ended, Measuring, Progressed
from plausible.report.names import count, duration, percent
from plausible.train import Event, Progress, Run

BAR = 16
"""Width of a progress bar, in columns."""


class _Picture(abc.ABC):
    """A context that draws itself while it is entered, and whose value is the callback itself."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self._live = Live(self, console=Console(), refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    @abc.abstractmethod
    def __rich__(self) -> RenderableType: ...


class _Clock:
    """Guesses the time that is left from how far the work has come since it was first seen to move."""

    def __init__(self) -> None:
        self.began: tuple[float, float] | None = None

    def left(self, done: float) -> str:
        """In words, for the fraction ``done``; empty while there is nothing to guess from."""
        if not 0 < done < 1:
            return ""
        if self.began is None:
            self.began = (time.monotonic(), done)
        when, then = self.began
        elapsed = time.monotonic() - when
        if elapsed < 1 or done <= then:
            return ""
        return f"about {duration(round(elapsed * (1 - done) / (done - then)))} left"


@dataclass
class _State:
    """Where one run is; ``done`` is a fraction."""

    done: float = 0.0
    loss: float | None = None
    accuracy: float | None = None
    ended: bool = False
    bad: bool = False


class Board(_Picture):
    """A comparison: a line for each rule, and one for the whole."""

    def __init__(self, comparison: Comparison, note: str) -> None:
        super().__init__()
        self.comparison = comparison
        self.states = {key: _State() for key in comparison.runs()}
        self.afterwards: Measuring | Auditing | None = None
        self.clock = _Clock()
        self._live.console.print(
            f"[bold]{comparison.title}[/], {count(len(self.states), 'run')}. [dim]{note}[/]", highlight=False
        )

    def __call__(self, event: Progressed | Ended | Measuring | Auditing) -> None:
        """Take note of ``event``; the next drawing shows it."""
        if isinstance(event, Measuring | Auditing):
            self.afterwards = event
            return
        state = self.states[event.label, event.seed]
        if isinstance(event, Ended):
            state.done, state.ended, state.bad = 1.0, True, event.status != "finished"
            if event.result and event.result.validation_accuracy is not None:
                state.accuracy = event.result.validation_accuracy
        elif isinstance(event.event, Progress):
            state.done, state.loss = event.event.step / event.event.steps, event.event.loss
        elif event.event.row["kind"] == "epoch":
            state.loss, state.accuracy = event.event.row["train_loss"], event.event.row["validation_accuracy"]

    def __rich__(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("rule", overflow="fold")  # in a narrow terminal a long entry wraps, and numbers stay whole
        for name in ("seeds", "", "validation", "loss"):
            table.add_column(name, justify="right", no_wrap=True)
        for contender in self.comparison.contenders:
            mine = [state for (label, _), state in self.states.items() if label == contender.label]
            bad = sum(state.bad for state in mine)
            table.add_row(
                contender.label,
                Text(f"{sum(state.ended for state in mine)}/{len(mine)}", style="red" if bad else ""),
                ProgressBar(1.0, fmean(state.done for state in mine), width=BAR),
                _mean([state.accuracy for state in mine], percent),
                _mean([state.loss for state in mine], lambda value: f"{value:.3f}"),
            )
        return Group(table, Text(), self._footer())

    def _footer(self) -> RenderableType:
        done = fmean(state.done for state in self.states.values())
        if done < 1:
            now = f"{percent(done, 0)}  {self.clock.left(done)}" if done else "starting the workers"
        elif self.afterwards and self.afterwards.done < self.afterwards.total:
            what = "measuring the cost of a step" if isinstance(self.afterwards, Measuring) else "auditing"
            now = f"{what}: {self.afterwards.done} of {self.afterwards.total}"
        else:
            now = "writing the report"
        return _line(Spinner("dots"), Text(f"{duration(round(time.monotonic() - self.started))}  {now}"))


class Training(_Picture):
    """One run: a line per epoch stays, and one moves."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self.progress: Progress | None = None
        self.row: dict[str, float] = {}
        self.clock = _Clock()
        self._live.console.print(f"[bold]{run.rule}[/] on {run.data} with {run.model}, seed {run.seed}: run {run.id}")

    def __call__(self, event: Event) -> None:
        """Take note of ``event``; the next drawing shows it."""
        if isinstance(event, Progress):
            self.progress = event
        elif event.row["kind"] == "epoch":
            self.row = event.row

    def __rich__(self) -> RenderableType:
        if self.progress is None:
            return _line(Spinner("dots"), Text("loading"))
        p, done = self.progress, self.progress.step / self.progress.steps
        validation = f"  validation accuracy {percent(self.row['validation_accuracy'])}" if self.row else ""
        return _line(
            ProgressBar(1.0, done, width=BAR),
            Text(f"epoch {p.epoch}/{p.epochs}  loss {p.loss:.3f}{validation}  {self.clock.left(done)}"),
        )


class Tuning(_Picture):
    """A study: a line for each rule."""

    def __init__(self, tuning: tune.Tuning) -> None:
        super().__init__()
        self.trials = tuning.trials
        self.ended = dict.fromkeys(tuning.rules, 0)
        self.last: dict[str, tune.TrialEnded | None] = dict.fromkeys(tuning.rules)
        self.clock = _Clock()
        self._live.console.print(
            f"[bold]Tuning[/] {count(len(tuning.rules), 'rule')}: {count(tuning.trials, 'trial')} "
            f"of {count(tuning.epochs, 'epoch')} each",
            highlight=False,
        )

    def __call__(self, event: tune.TrialEnded) -> None:
        """Take note of the trial; the next drawing shows it."""
        self.last[event.rule] = event
        self.ended[event.rule] = event.number + 1

    def __rich__(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("rule")
        for name in ("trials", "", "best validation", "last"):
            table.add_column(name, justify="right", no_wrap=True)
        for rule, last in self.last.items():
            ended = min(self.ended[rule], self.trials)
            table.add_row(
                rule,
                f"{ended}/{self.trials}",
                ProgressBar(self.trials, ended, width=BAR),
                percent(last.best) if last else "",
                ("pruned" if last.value is None else percent(last.value)) if last else "",
            )
        done = sum(min(n, self.trials) for n in self.ended.values()) / (self.trials * len(self.ended))
        footer = Text(f"{duration(round(time.monotonic() - self.started))}  {self.clock.left(done)}")
        return Group(table, Text(), _line(Spinner("dots"), footer))


def _mean(values: Sequence[float | None], written: Callable[[float], str]) -> str:
    """The mean of the values that are known."""
    known = [value for value in values if value is not None]
    return written(fmean(known)) if known else ""


def _line(*parts: RenderableType) -> Table:
    """The parts side by side."""
    line = Table.grid(padding=(0, 1))
    line.add_row(*parts)
    return line
