"""What a criterion is: one experiment on a subject, in one file of :mod:`plausible.audit.criteria`.

A criterion reads neither source code nor names of rules nor claims: it intervenes on copies, and looks at what their
updates and messages do. Adding one is one file and one test: it is found because it is there.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module, resources
from pkgutil import iter_modules

import torch
from torch import Tensor

from plausible.audit.finding import Finding
from plausible.audit.subject import Subject
from plausible.core.errors import ConfigurationError, unknown

# Imported here, before `plausible.audit` gives the name to a function: importing a package later would take it back.
_EXPERIMENTS = import_module("plausible.audit.criteria")


class Unmeasurable(Exception):
    """An intervention cannot be made on this subject; the message says why. The other criteria go on."""


@dataclass(frozen=True)
class Batch:
    """What the subject is examined with.

    Attributes:
        x: (N, …), examples.
        y: (N,) int64, their labels.
        classes: number of labels that there are.
    """

    x: Tensor
    y: Tensor
    classes: int

    def first(self, n: int) -> "Batch":
        """The first ``n`` examples."""
        return Batch(self.x[:n], self.y[:n], self.classes)


Experiment = Callable[[Subject, Batch], Finding]


@dataclass(frozen=True)
class Criterion:
    """One problem of back-propagation, and the experiment that shows whether a learner has it.

    Attributes:
        name: of the problem, in the field's words, such as ``weight transport``.
        summary: what the problem is, in one sentence: the first of the file's docstring.
        experiment: what measures it.
        order: its place in tables; the six problems of the literature come first.
        core: whether it is one of the six.
    """

    name: str
    summary: str
    experiment: Experiment
    order: int
    core: bool


_criteria: dict[str, Criterion] = {}


def criterion(name: str, *, order: int, core: bool = False) -> Callable[[Experiment], Experiment]:
    """Decorate the experiment of a problem."""

    def register(experiment: Experiment) -> Experiment:
        doc = import_module(experiment.__module__).__doc__ or ""
        _criteria[name] = Criterion(name, doc.split("\n\n")[0].replace("\n", " "), experiment, order, core)
        return experiment

    return register


@cache
def _discover() -> None:
    for module in iter_modules(_EXPERIMENTS.__path__, _EXPERIMENTS.__name__ + "."):
        import_module(module.name)


def criteria() -> tuple[Criterion, ...]:
    """All criteria, in the order of tables."""
    _discover()
    return tuple(sorted(_criteria.values(), key=lambda each: each.order))


def get(name: str) -> Criterion:
    """The criterion of that name; hyphens serve for blanks.

    Raises:
        UnknownName: there is none.
    """
    _discover()
    if name.replace("-", " ") not in _criteria:
        raise unknown("criterion", name, _criteria)
    return _criteria[name.replace("-", " ")]


@cache
def _calibration() -> dict[str, dict]:
    return tomllib.loads((resources.files("plausible.audit") / "calibration.toml").read_text(encoding="utf-8"))


def thresholds(name: str) -> Mapping[str, float]:
    """What separates the verdicts of a criterion, from ``calibration.toml``, which ``benchmarks/calibrate.py`` backs.

    Raises:
        ConfigurationError: there are none for this criterion.
    """
    try:
        return _calibration()["thresholds"][name]
    except KeyError:
        raise ConfigurationError(f"calibration.toml has no thresholds for {name!r}.") from None


def rounding(dtype: torch.dtype) -> float:
    """The relative change of an update that rounding alone may make, for a subject that computes in ``dtype``.

    Thresholds are for float64; what must be told from "unchanged" in another precision is at least this large.

    Raises:
        ConfigurationError: experiments are not calibrated for this precision.
    """
    known, name = _calibration()["rounding"], str(dtype).removeprefix("torch.")
    if name not in known:
        raise ConfigurationError(
            f"The audit is calibrated for learners that compute in {' or '.join(known)}, and this one computes in "
            f"{name}: build its model in one of those."
        )
    return known[name]
