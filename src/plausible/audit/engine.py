"""Runs every experiment on a subject. None of them changes it, and none keeps the others from being made."""

import logging
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from textwrap import shorten

import torch
from torch import Tensor, nn

import plausible
from plausible.audit.criterion import Batch, Criterion, Unmeasurable, criteria, get
from plausible.audit.finding import Finding
from plausible.audit.recording import weight_layers
from plausible.audit.scorecard import Scorecard
from plausible.audit.streams import RandomStreams
from plausible.audit.subject import LearnerSubject, Subject
from plausible.core.learner import Learner

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examining:
    """An experiment begins: the ``number``-th of ``total``, from 1."""

    criterion: str
    number: int
    total: int


@dataclass(frozen=True)
class Examined:
    """An experiment is over."""

    finding: Finding
    seconds: float


Event = Examining | Examined
Watcher = Callable[[Event], object]


def audit(
    subject: Subject | Learner,
    batch: Batch | tuple[Tensor, Tensor],
    *,
    only: Iterable[str] | None = None,
    on_event: Watcher | None = None,
) -> Scorecard:
    """Measure which of back-propagation's problems ``subject`` has.

    Every experiment works on copies, with random numbers of its own: the subject's weights, buffers, gradients,
    optimiser and modes, and the global random states, are afterwards what they were. What cannot be measured says
    why in its finding, and so does an experiment that fails; the others go on.

    Args:
        subject: a bound learner, or any :class:`Subject`, such as a :class:`ForeignSubject`.
        batch: what to examine it with; of ``(x, y)``, the largest label tells how many there are. Experiments take
            the first examples, as many as they need: 64 for most, up to 512 to see whether it learns.
        only: names of the criteria to run; None for all.
        on_event: is told when an experiment begins and ends.

    Raises:
        UnknownName: ``only`` names a criterion that does not exist.
    """
    date = datetime.now(UTC).isoformat(timespec="seconds")
    chosen = criteria() if only is None else tuple(sorted({get(name) for name in only}, key=lambda each: each.order))
    examined = subject if isinstance(subject, Subject) else LearnerSubject(subject)
    batch = batch if isinstance(batch, Batch) else Batch(*batch, classes=int(batch[1].max()) + 1)
    tell = on_event or (lambda _: None)
    findings: dict[str, Finding] = {}
    times: dict[str, float] = {}
    for number, criterion in enumerate(chosen, start=1):
        tell(Examining(criterion.name, number, len(chosen)))
        started = time.perf_counter()
        findings[criterion.name] = _run(criterion, examined, batch)
        times[criterion.name] = time.perf_counter() - started
        tell(Examined(findings[criterion.name], times[criterion.name]))
    return Scorecard(
        subject=examined.name,
        model=_describe(examined),
        examples=len(batch.y),
        dtype=str(examined.dtype).removeprefix("torch."),
        findings=findings,
        times=times,
        versions={"plausible": plausible.__version__, "torch": torch.__version__, "python": platform.python_version()},
        date=date,
    )


def _run(criterion: Criterion, subject: Subject, batch: Batch) -> Finding:
    """The criterion's finding, whatever happens in its experiment."""
    # Random numbers anew for each, so that a finding does not depend on which experiments came before.
    with RandomStreams(0)(), torch.enable_grad():
        try:
            return criterion.experiment(subject, batch)
        except Unmeasurable as why:
            cause = str(why).rstrip(".") + "."
            cause = cause[:1].upper() + cause[1:]
        except Exception as error:
            _log.debug("The experiment for %r failed", criterion.name, exc_info=True)
            cause = f"The experiment failed with {type(error).__name__}: {error}"
    cause = shorten(cause, 400, placeholder=" …")
    return Finding(criterion=criterion.name, verdict="could not be measured", sentence=cause)


def _describe(subject: Subject) -> str:
    """The network in words: ``Sequential, 2 weight layers (64 → 32 → 10), 2410 parameters``."""
    try:
        model = subject.copy().model
    except Unmeasurable:
        return "unknown"
    layers = list(weight_layers(model).values())
    size = sum(p.numel() for p in model.parameters())
    widths = [_widths(layer) for layer in layers]
    chained = all(left[1] == right[0] for left, right in pairwise(widths))
    path = f" ({' → '.join(map(str, [widths[0][0], *(w[1] for w in widths)]))})" if widths and chained else ""
    return f"{type(model).__name__}, {len(layers)} weight layer{'s' * (len(layers) != 1)}{path}, {size} parameters"


def _widths(layer: nn.Module) -> tuple[int, int]:
    weight = layer.get_parameter("weight")
    return weight.shape[1], weight.shape[0]
