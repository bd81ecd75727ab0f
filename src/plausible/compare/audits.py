"""The audit of what a comparison compares: each contender with its own options, on the comparison's model and data."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from plausible import data
from plausible.audit import Batch, LearnerSubject, Scorecard, audit
from plausible.audit.engine import Watcher
from plausible.compare import workers
from plausible.train import Run
from plausible.train.runtime import device_of, prepared
from plausible.train.session import assemble

EXAMPLES = 256
"""Of the training split; no experiment needs more."""

FILE = "audit.json"
"""Where the scorecards of a comparison lie, beside comparison.json: label → run, scorecard."""


@dataclass(frozen=True)
class Auditing:
    """The runs are over, and the contenders are being audited: ``done`` of ``total``."""

    done: int
    total: int


def examine(
    run: Run,
    label: str,
    *,
    root: str | Path | None = None,
    download: bool = False,
    on_event: Watcher | None = None,
) -> Scorecard:
    """Audit the learner of ``run`` as it is before the first step, on :data:`EXAMPLES` training examples.

    Args:
        run: what to audit: its model, data, rule and seed count.
        label: its name in the scorecard.
        root: where the data lie; see :func:`plausible.data.load`, also for ``download``.
        on_event: see :func:`plausible.audit.audit`.

    Raises:
        PlausibleError: the run cannot be assembled.
    """
    run, device = run.replace(batch_size=EXAMPLES, augment="none"), device_of(run)
    dataset = data.load(run.data, root=root, download=download, **run.data_options)
    with prepared(run, device):
        session = assemble(run, device, dataset=dataset)
        batch = Batch(*next(session.train.epoch()), dataset.classes)
        return audit(LearnerSubject(session.learner, label), batch, on_event=on_event)


def work(task: tuple[Run, str, str | Path | None], emit: workers.Emit) -> Scorecard:
    """:func:`examine` as the task (run, label, root) of a worker; says what :func:`~plausible.audit.audit` says."""
    run, label, root = task
    return examine(run, label, root=root, on_event=emit)


def entry(card: Scorecard) -> Mapping[str, object]:
    """A scorecard as it stands in :data:`FILE`."""
    return {"scorecard": card.to_dict()}
