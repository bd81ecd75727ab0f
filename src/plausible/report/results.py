"""Reads a comparison's directory into plain values. Nothing is computed here and nothing is written.

The report knows a comparison by its files alone, so it can be drawn again years later, on another machine, or while
the runs are still going: a run may be finished, diverged, failed, unfinished (some rows, no result) or missing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plausible.audit import Scorecard
from plausible.compare.audits import FILE as AUDIT
from plausible.compare.hardware import Counts
from plausible.core.errors import DataError, PlausibleError
from plausible.probes import Activity
from plausible.train import Home
from plausible.train.files import explained
from plausible.train.records import read


class ReportError(PlausibleError):
    """A directory that is not a comparison, or a file in it that cannot be read."""


@dataclass(frozen=True)
class Epoch:
    """One pass over the training split; accuracies are fractions of 1."""

    epoch: float
    train_accuracy: float
    validation_accuracy: float


@dataclass(frozen=True)
class Probe:
    """One look at the alignment: layer name (in the order of the network) → measure → value (angles in degrees)."""

    epoch: float
    layers: Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True)
class RunRecord:
    """What one run (one contender, one seed) left behind; ``status`` says how far it came."""

    seed: int
    id: str
    status: str
    epochs: tuple[Epoch, ...]
    probes: tuple[Probe, ...]
    test_accuracy: float | None
    test_loss: float | None
    train_seconds: float | None
    parameters: int | None
    report: Mapping[str, Any]
    environment: Mapping[str, Any]

    @property
    def finished(self) -> bool:
        """It ran to its end and was tested."""
        return self.status == "finished" and self.test_accuracy is not None


@dataclass(frozen=True)
class Cost:
    """Time and memory of a step beside back-propagation's; a ratio of 1 is back-propagation.

    ``time_low`` and ``time_high`` are quartiles. None: not measured. ``hardware`` is what hardware would count.
    """

    time_ratio: float | None
    time_low: float | None
    time_high: float | None
    seconds_per_step: float | None
    memory_ratio: float | None
    memory_bytes: float | None
    feedback_bytes: float | None
    resting_bytes: float | None
    hardware: Counts | None


@dataclass(frozen=True)
class Contender:
    """One rule as it was entered, with its runs in the order of the seeds.

    ``full`` and ``short`` are the rule's names in print; ``control`` says what it controls for, if it does; ``card`` is
    what an audit in this comparison found, if there was one, and ``activity`` a look inside a run, if the net spikes.
    """

    label: str
    rule: str
    full: str
    short: str
    control: str
    overrides: Mapping[str, Any]
    summary: str
    claims: Mapping[str, Any]
    reference: str
    runs: tuple[RunRecord, ...]
    cost: Cost | None
    card: Scorecard | None = None
    activity: Activity | None = None

    @property
    def finished(self) -> tuple[RunRecord, ...]:
        """The runs that came to their end."""
        return tuple(run for run in self.runs if run.finished)


@dataclass(frozen=True)
class Results:
    """A whole comparison, as its files tell it."""

    title: str
    command: str
    created: str
    base: Mapping[str, Any]
    seeds: tuple[int, ...]
    contenders: tuple[Contender, ...]
    environment: Mapping[str, Any]
    tuning: Mapping[str, Any] | None


def load(directory: str | Path) -> Results:
    """Read the comparison in ``directory``.

    A last line that was cut off in a ``.jsonl`` file (the run was killed, or is still writing) is left out.

    Raises:
        ReportError: there is no comparison.json, or a file has not the expected form.
        StorageError: a file cannot be read, or a row before the last is damaged.
    """
    directory = Path(directory)
    path = directory / "comparison.json"
    if not path.is_file():
        raise ReportError(
            f"{directory} holds no comparison.json, so it is not a comparison. "
            "Give the directory that `plausible compare` wrote."
        )
    raw = _json(path)
    costs, cards = _optional(directory / "cost.json"), _cards(directory / AUDIT)
    try:
        seeds = tuple(int(seed) for seed in raw["seeds"])
        contenders = tuple(
            Contender(
                label=entry["label"],
                rule=entry["rule"],
                full=entry.get("full") or entry["rule"],
                short=entry.get("short") or entry["rule"],
                control=entry.get("control") or "",
                overrides=entry.get("overrides") or {},
                summary=entry.get("summary") or "",
                claims=entry.get("claims") or {},
                reference=entry.get("reference") or "",
                runs=tuple(
                    _run(directory, seed, str(raw["runs"].get(entry["label"], {}).get(str(seed), ""))) for seed in seeds
                ),
                cost=_cost(costs[entry["label"]]) if entry["label"] in costs else None,
                card=cards.get(entry["label"]),
                activity=_activity(directory, raw["runs"].get(entry["label"], {})),
            )
            for entry in raw["contenders"]
        )
        return Results(
            title=raw.get("title") or "Comparison of learning rules",
            command=raw.get("command") or "",
            created=raw.get("created") or "",
            base=raw["base"],
            seeds=seeds,
            contenders=contenders,
            environment=raw.get("environment") or {},
            tuning=raw.get("tuning"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReportError(
            f"{path} does not have the form of a comparison ({type(error).__name__}: {error}). "
            "It was edited or written by another version; run `plausible compare` again into a new directory."
        ) from error


def _run(directory: Path, seed: int, run_id: str) -> RunRecord:
    # A run that never started has an id and no directory; every file is then simply not there.
    home = Home(directory / "runs" / (run_id or "none"))
    rows = list(read(home.metrics)) if home.metrics.is_file() else []
    timing = list(read(home.timing)) if home.timing.is_file() else []
    result = _optional(home.result)
    failed = (home.directory / "error.txt").is_file()
    try:
        epochs = tuple(
            Epoch(float(row["epoch"]), float(row["train_accuracy"]), float(row["validation_accuracy"]))
            for row in rows
            if row["kind"] == "epoch"
        )
        probes = tuple(Probe(float(row["epoch"]), row["layers"]) for row in rows if row["kind"] == "probe")
        seconds = [float(row["train_seconds"]) for row in timing]
    except (KeyError, TypeError, ValueError) as error:
        raise ReportError(
            f"A row in {home.directory} lacks a value or holds a wrong one ({type(error).__name__}: {error}). "
            "Remove that directory and run the comparison again: what is finished is kept."
        ) from error
    return RunRecord(
        seed=seed,
        id=run_id,
        status=result.get("status") or ("failed" if failed else "unfinished" if rows else "missing"),
        epochs=epochs,
        probes=probes,
        test_accuracy=result.get("test_accuracy"),
        test_loss=result.get("test_loss"),
        train_seconds=sum(seconds) if seconds else None,
        parameters=result.get("parameters"),
        report=result.get("report") or {},
        environment=_optional(home.environment),
    )


def _activity(directory: Path, runs: Mapping[str, str]) -> Activity | None:
    """A look inside the first run that has one."""
    files = (Home(directory / "runs" / run).activity for run in runs.values())
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        return None
    try:
        return Activity.from_dict(_json(path))
    except DataError as error:
        raise ReportError(f"{path}: {error}. Remove it; the report does without it.") from error


def _cost(raw: Mapping[str, Any]) -> Cost:
    values = {name: raw.get(name) for name in Cost.__dataclass_fields__}
    counts = raw.get("hardware") or {}
    # Another version may have counted other things.
    known = counts.keys() == Counts.__dataclass_fields__.keys()
    return Cost(**{**values, "hardware": Counts(**counts) if known else None})


def _cards(path: Path) -> dict[str, Scorecard]:
    """Label → what the audit found."""
    try:
        return {label: Scorecard.from_dict(entry["scorecard"]) for label, entry in _optional(path).items()}
    except (DataError, KeyError, TypeError) as error:
        raise ReportError(
            f"{path} does not hold scorecards ({error}). Remove it; `plausible compare --audit` measures them again."
        ) from error


def _optional(path: Path) -> dict[str, Any]:
    return _json(path) if path.is_file() else {}


def _json(path: Path) -> dict[str, Any]:
    with explained("read", path):
        content = path.read_bytes()
    try:
        value = json.loads(content)
    except ValueError as error:
        raise ReportError(
            f"{path} is damaged ({error}). If it belongs to a run, remove that run's directory; then run the "
            "comparison again: what is finished is kept."
        ) from error
    if not isinstance(value, dict):
        raise ReportError(f"{path} holds a {type(value).__name__} where an object was expected.")
    return value
