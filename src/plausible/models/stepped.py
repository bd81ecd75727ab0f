"""What nets that run step by step have in common: how their readouts become an output."""

import abc
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


class SteppedNet(nn.Module, abc.ABC):
    """A net in time, which says what one step does.

    Attributes:
        stepwise: whether the output has an entry for each step.
    """

    def __init__(self, *, stepwise: bool) -> None:
        super().__init__()
        self.stepwise = stepwise

    @abc.abstractmethod
    def rest(self, x: Tensor) -> Any:
        """The state of a net that has never been driven, for inputs like ``x``."""

    @abc.abstractmethod
    def frames(self, x: Tensor) -> Iterator[Tensor]:
        """What drives the net at each step."""

    @abc.abstractmethod
    def step(self, state: Any, x_t: Tensor) -> tuple[Any, Tensor]:
        """One step under ``x_t``: the new state, and the readout, one row for each stream."""

    def summary(self, readouts: Iterable[Tensor]) -> Tensor:
        """The output of a sequence, from its readouts: their mean (N, classes), or all of them (N, T, classes)."""
        if self.stepwise:
            return torch.stack(list(readouts), 1)
        total, steps = torch.zeros(()), 0
        for y in readouts:
            total, steps = (total + y if steps else y), steps + 1
        return total / steps

    def forward(self, x: Tensor) -> Tensor:
        """The output for ``x``, from rest: see :meth:`summary`."""
        return self.summary(self.readouts(x))

    def readouts(self, x: Tensor) -> Iterator[Tensor]:
        """The readout of every step, from rest."""
        state = self.rest(x)
        for x_t in self.frames(x):
            state, y = self.step(state, x_t)
            yield y
