"""What a run came to: the content of ``result.json``."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self

from plausible.core.errors import CheckpointError, PlausibleError
from plausible.train.records import plain
from plausible.train.run import Run


@dataclass(frozen=True, kw_only=True)
class Result:
    """The end of a run. Accuracies are fractions from 0 to 1; ``None``: it did not come so far.

    Attributes:
        run: the run.
        status: ``finished``, or ``diverged`` (the loss became NaN or infinite).
        reason: why it did not finish, in words; ``None`` if it did.
        test_accuracy: of the last weights, on the test split, which is looked at this one time.
        test_top5: how often the label was among the five largest outputs; ``None`` also if there are no more classes.
        test_loss: mean cross-entropy, likewise.
        validation_accuracy: after the last whole epoch.
        validation_top5: likewise; see ``test_top5``.
        epochs: whole epochs trained.
        steps: optimiser steps made.
        parameters: number of trainable parameters of the model.
        report: what the rule covers; see :meth:`plausible.Learner.report`.
        alignment: layers of the last probe; see :func:`plausible.probes.alignment`.
        skipped: path -> why, of the files that were left out (``on_bad = "skip"`` of streamed data).
    """

    run: Run
    status: Literal["finished", "diverged"]
    reason: str | None
    test_accuracy: float | None
    test_loss: float | None
    validation_accuracy: float | None
    epochs: int
    steps: int
    parameters: int
    report: Mapping[str, Any]
    alignment: Mapping[str, Mapping[str, float | None]]
    # Results from before there were these lack them.
    test_top5: float | None = None
    validation_top5: float | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """As a JSON document, the run's id included."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "run"}
        return json.dumps(plain({"run": asdict(self.run), "id": self.run.id, **own}), indent=2) + "\n"

    @classmethod
    def from_json(cls, document: str) -> Self:
        """The result that :meth:`to_json` wrote.

        Raises:
            CheckpointError: the document is something else.
        """
        try:
            values = json.loads(document)
            run = Run.from_dict(values["run"])
            if values.pop("id") != run.id:
                raise ValueError("its id is not that of its run")
            return cls(**{**values, "run": run})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, PlausibleError) as error:
            raise CheckpointError(f"This is no result of a run, or it is damaged: {error!r}.") from error
