"""The audit of what a comparison compares: each contender with its own options, on the comparison's model and data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plausible import data
from plausible.audit import Batch, ForeignSubject, LearnerSubject, Scorecard, audit
from plausible.audit.engine import Watcher
from plausible.compare import workers
from plausible.train import Run
from plausible.train.runtime import device_of, prepared
from plausible.train.session import assemble

EXAMPLES = 512
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
    foreign: bool = False,
    only: Sequence[str] | None = None,
    root: str | Path | None = None,
    download: bool = False,
    on_event: Watcher | None = None,
) -> Scorecard:
    """Audit the learner of ``run`` as it is before the first step, on the first batch that it would train on.

    Args:
        run: what to audit: its model, data, rule and seed count, and its batch size is the number of examples.
        label: its name in the scorecard.
        foreign: audit somebody else's code, which ``label`` names, on the run's data.
        only: the criteria to examine; by default all.
        root: where the data lie; see :func:`plausible.data.load`, also for ``download``.
        on_event: see :func:`plausible.audit.audit`.

    Raises:
        PlausibleError: the run cannot be assembled.
    """
    run, device = run.replace(augment="none"), device_of(run)
    found = data.load(run.data, root=root, download=download, **run.data_options)
    with prepared(run, device):
        loader = found.batches("train", run.batch_size, device=device, seed=run.seed, shuffle=True)
        batch = Batch(*loader.first(), found.classes)
        if foreign:
            subject = ForeignSubject(label, batch, seed=run.seed)
        else:
            subject = LearnerSubject(assemble(run, device, dataset=found).learner, label)
        return audit(subject, batch, only=only, on_event=on_event)


def work(task: tuple[Run, str, str | Path | None], emit: workers.Emit) -> Scorecard:
    """:func:`examine` on :data:`EXAMPLES`, as the task (run, label, root) of a worker; says what
    :func:`~plausible.audit.audit` says."""
    run, label, root = task
    return examine(run.replace(batch_size=EXAMPLES), label, root=root, on_event=emit)


def entry(card: Scorecard) -> Mapping[str, object]:
    """A scorecard as it stands in :data:`FILE`."""
    return {"scorecard": card.to_dict()}
