"""Tunes every rule with the same budget, on the validation split: learning rate, weight decay, what the rule lets tune.

Decay is searched per rule since it means something else to each: Kolen and Pollack's needs it to align.

One Optuna study per rule, all in one storage. The budget is a number of trials per rule, and it is the study's: however
many processes or machines take part, now or after an interruption, a rule gets no more than its share. The first
trial is the default setting. What a trial proposes depends on the seed, its number and the trials told before it, so
with one process a study can be repeated. Nothing here looks at the test split.
"""

import csv
import io
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from plausible.compare import workers
from plausible.compare.comparison import Contender
from plausible.compare.execute import workers_for
from plausible.compare.settings import Setting, Tuned, stem
from plausible.core import registry
from plausible.core.errors import ConfigurationError, Diverged
from plausible.core.rule import Tunable
from plausible.train import Event, Row, Run, train
from plausible.train.files import make_directory, write_atomically

SPAN = 30.0
"""Each of :data:`SEARCHED` is tried from the base's divided by this to the base's times this, logarithmically."""

SEARCHED = ("lr", "weight_decay")
"""Fields of the run that are searched for every rule; one that the base has at 0 stays there."""

_SPENT = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
_OWN = ("rule", "rule_options", "lr", "seed", "device", "threads")  # what differs by rule, trial or machine
_PROCESS = "process"  # the trial attribute that says who works on it


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What to tune, and how much of it.

    Attributes:
        base: the run that the settings are for; its rule and seed are replaced.
        rules: which rules; as in a comparison, one may bring settings of its own (``fa:last_layer=backprop``), which
            are then not searched.
        trials: budget of each rule.
        epochs: length of a trial's run, which may be shorter than the base's.
        storage: an Optuna storage URL (``sqlite:///…``) or the path of a journal file: what several processes or
            machines share.
        seed: of the sampler and of the trials' runs.
        prune: stop a trial whose validation accuracy falls below the median of those before it at the same epoch.

    Raises:
        ConfigurationError: an empty budget, or no rule.
        UnknownName: a rule is not registered.
    """

    base: Run
    rules: tuple[str, ...]
    trials: int
    epochs: int
    storage: str
    seed: int = 0
    prune: bool = False

    def __post_init__(self) -> None:
        for rule in self.rules:
            Contender.parse(rule).applied(self.base)  # checks it
        if self.trials < 1 or not self.rules:
            raise ConfigurationError("Tuning needs at least one rule and at least one trial for each.")

    @property
    def name(self) -> str:
        """Name of the whole study, the same for the same base and seed; that of a rule's part is ``<name>/<rule>``."""
        shared = self.base.replace(rule="backprop", rule_options={}, seed=self.seed, epochs=self.epochs)
        return f"{stem(self.base.data, self.base.model)}-{shared.id}"

    def study(self, rule: str) -> optuna.Study:
        """The part of a rule, created if it is not there.

        Raises:
            ConfigurationError: the storage cannot be opened.
        """
        try:
            return optuna.create_study(
                storage=self._open(),
                study_name=f"{self.name}/{rule}",
                direction="maximize",
                pruner=optuna.pruners.MedianPruner() if self.prune else optuna.pruners.NopPruner(),
                load_if_exists=True,
            )
        except Exception as error:  # what a database driver raises is its own affair
            raise ConfigurationError(f"The study's storage {self.storage!r} cannot be used: {error}") from error

    def _open(self) -> BaseStorage | str:
        return self.storage if "://" in self.storage else JournalStorage(JournalFileBackend(self.storage))


@dataclass(frozen=True)
class TrialEnded:
    """A trial came to its end.

    Attributes:
        rule: what was tuned.
        number: of the trial, from 0, the default setting.
        value: validation accuracy, a fraction of 1 (0 if the run diverged); None if the trial was pruned.
        best: the best value of this rule so far.
    """

    rule: str
    number: int
    value: float | None
    best: float


@dataclass(frozen=True)
class _Task:
    tuning: Tuning
    rule: str
    scratch: Path
    root: str | Path | None


def tune(
    tuning: Tuning,
    out: str | Path,
    *,
    jobs: int | None = None,
    root: str | Path | None = None,
    download: bool = False,
    command: str = "",
    on_event: Callable[[TrialEnded], None] = lambda _: None,
) -> Path:
    """Do what is left of the budget, then write ``<data>-<model>.toml`` and ``.csv`` in the directory ``out``.

    Other processes may work on the same study at the same time: each writes what the study knows when it is done.

    Returns:
        The path of the ``.toml`` file, which :meth:`Tuned.from_toml` reads.

    Raises:
        ConfigurationError: no such device, a storage that cannot be used, a trial that failed otherwise than by
            divergence, or a rule of which no trial succeeded.
        KeyboardInterrupt: Ctrl-C; the workers have been ended, and the same call goes on.
    """
    out = Path(out)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    scratch = out / f".{tuning.name}"
    make_directory(scratch)
    left = {rule: _prepare(tuning, rule) for rule in tuning.rules}
    # Round after round through the rules, so that a study that is stopped has given each of them about the same.
    tasks = {
        (rule, turn): _Task(tuning, rule, scratch, root)
        for turn in range(tuning.trials)
        for rule in tuning.rules
        if turn < left[rule]
    }
    if tasks:
        with workers_for(tuning.base, jobs, len(tasks), root=root, download=download) as pool:
            for message in pool.run(_work, tasks):
                if isinstance(message, workers.Broke):
                    raise ConfigurationError(f"Tuning {message.key[0]} failed: {message.message}")
                if isinstance(message, workers.Returned) and message.value is not None:
                    on_event(message.value)
    shutil.rmtree(scratch, ignore_errors=True)
    return _write(tuning, out, command)


def _prepare(tuning: Tuning, rule: str) -> int:
    """Line up the default setting first, and what a dead process left half done; return how many trials are left."""
    study = tuning.study(rule)
    trials = study.get_trials(deepcopy=False)
    if not trials:
        fields, options = _searched(tuning, rule)
        default = registry.make(Contender.parse(rule).rule)
        study.enqueue_trial(fields | {name: getattr(default, name) for name in options}, skip_if_exists=True)
    for trial in trials:
        if trial.state == TrialState.RUNNING and _dead(trial.user_attrs.get(_PROCESS)):
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)
    return tuning.trials - _spent(study.get_trials(deepcopy=False))


def _searched(tuning: Tuning, rule: str) -> tuple[dict[str, float], dict[str, Tunable]]:
    """Fields of the run with the middles of their ranges, and options of the rule: what its entry leaves open."""
    contender = Contender.parse(rule)
    own, options = contender.overrides, registry.get(contender.rule).tunables()
    fields = {name: value for name in SEARCHED if name not in own and (value := getattr(tuning.base, name))}
    return fields, {name: option for name, option in options.items() if name not in own.get("rule_options", {})}


def _spent(trials: list[FrozenTrial]) -> int:
    return sum(trial.state in _SPENT for trial in trials)


def _dead(process: str | None) -> bool:
    """Whether the process is known not to run any more; of another machine's that cannot be known."""
    if process is None:
        return False
    node, _, number = process.rpartition(":")
    if node != platform.node():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _work(task: _Task, emit: workers.Emit) -> TrialEnded | None:
    """What a worker does: one trial, unless the budget is used up by now."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tuning, study = task.tuning, task.tuning.study(task.rule)
    if _spent(study.get_trials(deepcopy=False)) >= tuning.trials:
        return None
    trial = study.ask()
    before = [other for other in study.get_trials(deepcopy=False) if other.number < trial.number]
    if _spent(before) >= tuning.trials:  # others have asked at the same moment
        study.tell(trial, state=TrialState.FAIL)
        return None
    trial.set_user_attr(_PROCESS, f"{platform.node()}:{os.getpid()}")
    # Set after ask: what a trial draws depends on its number, so parallel processes do not repeat each other.
    study.sampler = optuna.samplers.TPESampler(
        seed=1000 * tuning.seed + trial.number, n_startup_trials=max(4, tuning.trials // 4)
    )
    try:
        value = _value(task, trial)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        value = None
    except BaseException:
        study.tell(trial, state=TrialState.FAIL)
        raise
    else:
        study.tell(trial, value)
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return TrialEnded(task.rule, trial.number, value, max((t.value or 0.0 for t in done), default=0.0))


def _value(task: _Task, trial: Trial) -> float:
    """Validation accuracy at the end of a run with the trial's proposal; 0 if it diverges."""
    tuning, contender = task.tuning, Contender.parse(task.rule)
    fields, tunables = _searched(tuning, task.rule)
    proposed = {name: trial.suggest_float(name, v / SPAN, v * SPAN, log=True) for name, v in fields.items()}
    options = {name: trial.suggest_float(name, t.low, t.high, log=t.log) for name, t in tunables.items()}
    run = contender.under({**proposed, "rule_options": options}).applied(
        tuning.base, epochs=tuning.epochs, seed=tuning.seed, probe_size=0
    )

    def watch(event: Event) -> None:
        if isinstance(event, Row) and event.row["kind"] == "epoch":
            trial.report(event.row["validation_accuracy"], event.row["epoch"])
            if trial.should_prune():
                raise optuna.TrialPruned

    home = task.scratch / f"{run.id}-{trial.number}"
    try:
        return train(run, home, root=task.root, on_event=watch, resume=False).validation_accuracy or 0.0
    except Diverged:
        return 0.0
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _write(tuning: Tuning, out: Path, command: str) -> Path:
    """Write the best of each rule, and the table of all trials beside it."""
    settings: dict[str, Setting] = {}
    rows: list[dict[str, Any]] = []
    for rule in tuning.rules:
        trials = tuning.study(rule).get_trials(deepcopy=False)
        done = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.value]
        if not done:
            raise ConfigurationError(
                f"No trial of {rule} succeeded: every one diverged. Start from a smaller learning rate than "
                f"{tuning.base.lr:g} (--lr)."
            )
        best = max(done, key=lambda trial: trial.value or 0.0)
        found = {name: value for name, value in best.params.items() if name in SEARCHED}
        options = {name: value for name, value in best.params.items() if name not in SEARCHED}
        run = Contender.parse(rule).under({**found, "rule_options": options}).applied(tuning.base)
        settings[rule] = Setting(
            lr=run.lr,
            weight_decay=run.weight_decay,
            rule_options=run.rule_options,
            validation_accuracy=best.value or 0.0,
        )
        rows += [
            {
                "rule": rule,
                "trial": trial.number,
                "state": trial.state.name.lower(),
                "validation_accuracy": trial.value,
                "seconds": round(trial.duration.total_seconds(), 2) if trial.duration else None,
                **trial.params,
            }
            for trial in trials
            if trial.state in _SPENT
        ]
    document = Tuned(
        study=tuning.name,
        command=command,
        trials=tuning.trials,
        epochs=tuning.epochs,
        seed=tuning.seed,
        base={name: value for name, value in tuning.base.to_dict().items() if name not in _OWN},
        rules=settings,
    )
    path = out / f"{stem(tuning.base.data, tuning.base.model)}.toml"
    write_atomically(path, document.to_toml().encode())
    table = io.StringIO()
    writer = csv.DictWriter(table, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path.with_suffix(".csv"), table.getvalue().encode())
    return path
