"""What training tells whoever watches, while it happens."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Progress:
    """Where training is. Told at most some ten times a second.

    Attributes:
        epoch: the epoch under way, from 1.
        epochs: all of them.
        step: optimiser steps done.
        steps: all of them.
        loss: mean training loss of this epoch so far.
        accuracy: training accuracy of this epoch so far, 0 to 1.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Row:
    """A row that has just been written to ``metrics.jsonl``."""

    row: dict[str, Any]


Event = Progress | Row
Watcher = Callable[[Event], None]
