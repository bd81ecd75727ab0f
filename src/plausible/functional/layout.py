"""Where in a tensor the examples of a batch are: along its first dimension, along another, or folded into one."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Layout(NamedTuple):
    """The dimension that runs over examples.

    Attributes:
        axis: which it is.
        per: entries of one example along it; 1 where nothing is folded into it.
        major: whether these lie together, so that the example is the slow index.
    """

    axis: int = 0
    per: int = 1
    major: bool = True

    def split(self, x: Tensor) -> Tensor:
        """``x`` with the examples first, (N, …)."""
        if self.per > 1:
            n = x.shape[self.axis] // self.per
            x = x.unflatten(self.axis, (n, self.per) if self.major else (self.per, n))
        return x.movedim(self._place, 0)

    def join(self, examples: Tensor, shape: torch.Size) -> Tensor:
        """The inverse: (N, …) of any further shape, into a tensor of ``shape``."""
        inner = self.split(torch.empty(shape, device="meta")).shape
        x = examples.reshape(inner).movedim(0, self._place)
        return x.reshape(shape)

    @property
    def _place(self) -> int:
        return self.axis + (self.per > 1 and not self.major)


def layout(changed: Tensor, n: int) -> Layout | None:
    """The layout of n examples, given what changes (bool) when the first of them does; None if there is none that fits.

    >>> layout(torch.tensor([[True, False, False]] * 2), 3)
    Layout(axis=1, per=1, major=True)
    """
    return next((each for each in _possible(changed.shape, n) if not each.split(changed)[1:].any()), None)


def _possible(shape: torch.Size, n: int) -> Iterator[Layout]:
    for axis, size in enumerate(shape):
        if size == n:
            yield Layout(axis)
    for axis, size in enumerate(shape):
        if size > n and size % n == 0:
            yield Layout(axis, size // n, True)
            yield Layout(axis, size // n, False)
