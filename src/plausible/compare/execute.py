"""Runs a comparison: contender × seed in worker processes, reusing what is finished, surviving what fails."""

import contextlib
import datetime
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from plausible import data
from plausible.compare import audits, cost, workers
from plausible.compare.audits import Auditing
from plausible.compare.comparison import Comparison
from plausible.compare.kept import Kept
from plausible.core.errors import CheckpointError, ConfigurationError, DataError, Diverged, PlausibleError
from plausible.train import Event, Home, Result, Run, train
from plausible.train.files import make_directory, write_atomically
from plausible.train.runtime import device_of, environment


@dataclass(frozen=True)
class Progressed:
    """A run of the comparison did something; ``event`` is what :func:`plausible.train.train` said."""

    label: str
    seed: int
    event: Event


@dataclass(frozen=True)
class Ended:
    """A run of the comparison came to its end, good or bad.

    Attributes:
        label: the contender.
        seed: of the run.
        status: ``"finished"``, ``"diverged"`` (the loss became NaN or infinite) or ``"failed"`` (an error).
        result: what came out; None for a failed run.
        message: why it did not finish.
        reused: it had ended before and was not run again.
    """

    label: str
    seed: int
    status: Literal["finished", "diverged", "failed"]
    result: Result | None
    message: str = ""
    reused: bool = False


@dataclass(frozen=True)
class Measuring:
    """The runs are over, and the cost of a step is being measured: ``done`` of ``total`` contenders."""

    done: int
    total: int


OnEvent = Callable[[Progressed | Ended | Measuring | Auditing], None]


def compare(
    comparison: Comparison,
    directory: str | Path,
    *,
    jobs: int | None = None,
    root: str | Path | None = None,
    download: bool = False,
    costs: bool = True,
    audited: bool = False,
    command: str = "",
    tuning: Mapping[str, Any] | None = None,
    on_event: OnEvent = lambda _: None,
) -> list[Ended]:
    """Run the comparison in ``directory``, which then holds comparison.json, runs/<id>/, cost.json and audit.json.

    The same call resumes it: runs that ended are reused, others go on from their last checkpoint. A run that fails
    or diverges is reported (and leaves runs/<id>/error.txt if it failed); the others go on.

    Args:
        comparison: what to compare.
        directory: where; created if missing. Runs of another comparison in it are reused where they are the same.
        jobs: worker processes; by default the number of processors, or 1 if the runs are on a GPU.
        root: where the data lie; see :func:`plausible.data.load`.
        download: whether missing data may be fetched.
        costs: whether to measure the cost of a step, when the runs are over.
        audited: whether to audit every contender then, with its own options on this model and data; takes minutes.
        command: the shell command that does all this, for the report.
        tuning: where settings come from, for the report.
        on_event: called in this process with everything that happens.

    Returns:
        How each run ended, in the order of :meth:`Comparison.runs`.

    Raises:
        PlausibleError: nothing could be run at all (no such data, no such device, no place to write).
        KeyboardInterrupt: Ctrl-C; the workers have been ended.
    """
    directory, base = Path(directory), comparison.base
    document = {
        **comparison.describe(),
        "command": command,
        "created": _created(directory, comparison),
        "environment": environment(device_of(base)),
        "tuning": tuning,
    }
    runs = comparison.runs()
    homes = {key: Home(directory / "runs" / run.id) for key, run in runs.items()}
    ended: dict[tuple[str, int], Ended] = {}
    for (label, seed), home in homes.items():
        if end := _ended(label, seed, home, runs[label, seed], reused=True):
            ended[label, seed] = end
            on_event(end)
    tasks = {key: (run, homes[key].directory, root) for key, run in runs.items() if key not in ended}
    once = {contender.label: comparison.run(contender, 0) for contender in comparison.contenders}
    cost_file, audit_file = Kept(directory / "cost.json"), Kept(directory / audits.FILE)
    unmeasured = cost_file.missing(once) if costs else {}
    unaudited = audit_file.missing(once)  # in any case: what was found under other settings is to be forgotten
    unaudited = unaudited if audited else {}
    with contextlib.ExitStack() as stack:
        pool = None
        if tasks or unmeasured or unaudited:
            most = max(len(tasks), len(unaudited))
            pool = stack.enter_context(workers_for(base, jobs, most, root=root, download=download))
        make_directory(directory / "runs")  # only now: data that cannot be had leaves nothing behind
        write_atomically(directory / "comparison.json", (json.dumps(document, indent=2) + "\n").encode())
        if pool:
            for message in pool.run(_train, tasks):
                label, seed = message.key
                if isinstance(message, workers.Message):
                    on_event(Progressed(label, seed, message.content))
                else:
                    ended[label, seed] = _conclude(label, seed, homes[label, seed], runs[label, seed], message)
                    on_event(ended[label, seed])
            _measure(pool, cost_file, unmeasured, root, on_event)
            _audit(pool, audit_file, unaudited, root, on_event)
    return [ended[key] for key in runs]


@contextlib.contextmanager
def workers_for(
    run: Run, jobs: int | None, tasks: int, *, root: str | Path | None, download: bool
) -> Iterator[workers.Pool]:
    """A pool for many runs like ``run``, once it is sure that their data can be had: one message, one download.

    Args:
        run: says which data, and on which device.
        jobs: worker processes; None for the number of processors, or 1 on a GPU.
        tasks: how many there will be; more workers than that are not started.
        root: see :func:`plausible.data.load`; so is ``download``.
        download: whether missing data may be fetched.

    Raises:
        DataError: the data cannot be had.
    """
    most = jobs or (workers.processors() if device_of(run).type == "cpu" else 1)
    with workers.Pool(max(1, min(most, tasks)), preload="plausible.train.session") as pool:
        for end in pool.run(_load, {"data": (run, root, download)}):
            if isinstance(end, workers.Broke):
                raise DataError(end.message)
        yield pool


def _load(task: tuple[Run, str | Path | None, bool], emit: workers.Emit) -> None:
    run, root, download = task
    data.load(run.data, root=root, download=download, **run.data_options)


def _train(task: tuple[Run, Path, str | Path | None], emit: workers.Emit) -> None:
    """What a worker does: one run. What became of it stands in its result.json."""
    run, directory, root = task
    with contextlib.suppress(Diverged):
        train(run, directory, root=root, on_event=emit)


def _conclude(label: str, seed: int, home: Home, run: Run, message: workers.Returned | workers.Broke) -> Ended:
    """How a run ended of which a worker says that it did."""
    if isinstance(message, workers.Broke):
        with contextlib.suppress(PlausibleError):  # the disk may be what failed
            make_directory(home.directory)
            write_atomically(home.directory / "error.txt", (message.details or message.message).encode())
        return Ended(label, seed, "failed", None, message.message)
    (home.directory / "error.txt").unlink(missing_ok=True)
    end = _ended(label, seed, home, run)
    assert end is not None, f"{home.directory}: training returned and left no result"
    return end


def _ended(label: str, seed: int, home: Home, run: Run, *, reused: bool = False) -> Ended | None:
    """How a run ended, or None if it has not."""
    try:
        result = home.read_result(run)
    except CheckpointError:
        return None  # damaged: the run itself will say so
    return result and Ended(label, seed, result.status, result, result.reason or "", reused)


def _measure(
    pool: workers.Pool, costs: Kept, runs: Mapping[str, Run], root: str | Path | None, on_event: OnEvent
) -> None:
    """Measure the cost of the contenders one after the other, in a worker while the others rest."""
    for done, (label, run) in enumerate(runs.items()):
        on_event(Measuring(done, len(runs)))
        for end in pool.run(_cost, {label: (run, root)}):
            # A rule that cannot be bound has been reported when its runs failed.
            if isinstance(end, workers.Returned):
                costs.add(label, run, end.value)
    if runs:
        on_event(Measuring(len(runs), len(runs)))


def _cost(task: tuple[Run, str | Path | None], emit: workers.Emit) -> dict[str, Any]:
    run, root = task
    return cost.measure(run, root=root)


def _audit(
    pool: workers.Pool, cards: Kept, runs: Mapping[str, Run], root: str | Path | None, on_event: OnEvent
) -> None:
    """Audit the contenders, as many at a time as there are workers."""
    done = 0
    if runs:
        on_event(Auditing(0, len(runs)))
    for end in pool.run(audits.work, {label: (run, label, root) for label, run in runs.items()}):
        if isinstance(end, workers.Message):
            continue
        # A rule that cannot be bound has been reported when its runs failed.
        if isinstance(end, workers.Returned):
            cards.add(end.key, runs[end.key], audits.entry(end.value))
        done += 1
        on_event(Auditing(done, len(runs)))


def _created(directory: Path, comparison: Comparison) -> str:
    """When this comparison was first started in this directory, ISO 8601 with the zone."""
    with contextlib.suppress(OSError, ValueError, KeyError, ConfigurationError):
        before = json.loads((directory / "comparison.json").read_text(encoding="utf-8"))
        if Comparison.from_dict(before).id == comparison.id:
            return before["created"]
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
