"""What the parts of one learner share: the wires its messages pass through, and its clock."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from plausible.core.ranks import Ranks

Tap = Callable[[str, Tensor, str, str], Tensor]
"""Gets (name, message, source, target) and returns the message to be delivered."""


@dataclass(slots=True)
class Context:
    """Shared by a learner and the sites it put on the model's layers.

    Attributes:
        tap: sees, and may replace, every teaching message; None in ordinary learning, which then pays nothing.
        iteration: number of calls of :meth:`Learner.learn` so far; seeds what a rule redraws.
        step: number of optimiser steps so far.
        ranks: the processes that share each batch.
    """

    tap: Tap | None = None
    iteration: int = 0
    step: int = 0
    ranks: Ranks = field(default_factory=Ranks)

    def wire(self, name: str, message: Tensor, source: str, target: str) -> Tensor:
        """Deliver ``message``: unchanged, unless somebody taps the wire."""
        return message if self.tap is None else self.tap(name, message, source, target)

    def tapped(self, name: str, x: Tensor, source: str, target: str) -> Tensor:
        """``x``, such that the gradient it receives from this use alone passes through the wire."""
        if self.tap is None or not x.requires_grad:
            return x
        x = x.view_as(x)
        x.register_hook(lambda message: self.wire(name, message, source, target))
        return x
