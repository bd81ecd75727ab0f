"""Batches of a split that lies on the device: no worker processes, no copies from the host in an epoch."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from plausible.core.errors import ConfigurationError, unknown
from plausible.data.augment import AUGMENTATIONS

if TYPE_CHECKING:
    from plausible.data.dataset import Split

NORMALISE_ONCE = 2**24  # values; of a larger split each batch is normalised when it is drawn, so uint8 stays uint8


class Batches(Protocol):
    """What training asks of a split, wherever its examples lie.

    share: (rank, ranks): which part of each batch :meth:`epoch` gives, where several processes share it.
    """

    share: tuple[int, int]

    def __len__(self) -> int:
        """Batches in an epoch."""
        ...

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches ``start``, ``start + 1``, …: x (B, *shape) float32 and y (B,) int64, on the device."""
        ...

    def first(self) -> tuple[Tensor, Tensor]:
        """The first batch of the first epoch, without whatever would make the next ones ready."""
        ...

    def close(self) -> None:
        """End whatever makes batches ready."""
        ...


class Loader:
    """Normalised batches in an order that is a function of (seed, epoch) alone.

    So is the augmentation: an epoch entered in the middle goes on bit for bit as if it had been run from its
    start, and the same batches come on every device.

    mean, std: (C,) as :class:`~plausible.data.Dataset` gives them, in the units of ``split.x``.
    augment: a name in :data:`~plausible.data.AUGMENTATIONS`; at the borders zeros come in, before
    normalisation.
    shuffle: another order in each epoch; otherwise that of the split.
    drop_last: leave out a last batch that would be smaller than the others.

    Raises :class:`ConfigurationError`, or UnknownName for ``augment``, if the arguments do not fit the split.
    """

    def __init__(
        self,
        split: "Split",
        batch_size: int,
        *,
        mean: Tensor,
        std: Tensor,
        device: torch.device | str = "cpu",
        augment: str = "none",
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
    ):
        if augment not in AUGMENTATIONS:
            raise unknown("augmentation", augment, AUGMENTATIONS)
        require_batches(len(split), batch_size, seed, drop_last=drop_last)
        if augment != "none" and split.x.ndim != 4:
            raise ConfigurationError(f"augment={augment!r} needs images; these examples are vectors. Use 'none'.")
        self.batch_size, self.seed, self.shuffle, self.drop_last = batch_size, seed, shuffle, drop_last
        self.share: tuple[int, int] = (0, 1)
        self._augmentation = AUGMENTATIONS[augment]
        per_channel = (-1, *[1] * (split.x.ndim - 2))
        self._mean, self._std = mean.to(device).view(per_channel), std.to(device).view(per_channel)
        self._x, self._y = split.x.to(device), split.y.to(device)
        # A crop brings in black, so it has to come before normalisation.
        self._normalised = split.x.numel() <= NORMALISE_ONCE and not self._augmentation.pad
        if self._normalised:
            self._x = self._normalise(self._x)

    def __len__(self) -> int:
        """Batches in an epoch."""
        n = len(self._y)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches ``start``, ``start + 1``, …: x (B, *shape) float32 and y (B,) int64, on the device."""
        n, device = len(self._y), self._y.device
        generator = torch.Generator().manual_seed(mixed(self.seed, epoch))
        order = torch.randperm(n, generator=generator) if self.shuffle else torch.arange(n)
        choices = self._augmentation.draw(n, generator).to(device)
        order = order.to(device)
        for step in range(start, len(self)):
            batch = part(step * self.batch_size, min(n, (step + 1) * self.batch_size), self.share)
            if batch.start == batch.stop:
                continue
            x = self._augmentation.apply(self._x[order[batch]], choices[batch])
            yield x if self._normalised else self._normalise(x), self._y[order[batch]]

    def first(self) -> tuple[Tensor, Tensor]:
        """The first batch of the first epoch."""
        return next(self.epoch())

    def close(self) -> None:
        """Nothing has to be ended here."""

    def _normalise(self, x: Tensor) -> Tensor:
        return x.sub(self._mean).div_(self._std)


def require_batches(n: int, batch_size: int, seed: int, *, drop_last: bool) -> None:
    """:class:`ConfigurationError` unless ``n`` examples can be had in batches of that size, from that seed."""
    if batch_size < 1 or (drop_last and batch_size > n):
        raise ConfigurationError(f"batch_size is {batch_size}; there are {n} examples: choose from 1 up to that.")
    if seed < 0:
        raise ConfigurationError(f"seed is {seed}; it must not be negative.")


def part(start: int, stop: int, share: tuple[int, int]) -> slice:
    """What a process has of the examples from ``start`` to ``stop``; nothing where there are too few."""
    rank, ranks = share
    return slice(start + rank * (stop - start) // ranks, start + (rank + 1) * (stop - start) // ranks)


def mixed(seed: int, epoch: int) -> int:
    """One generator seed of two numbers, such that (1, 2) and (2, 1) and their neighbours share nothing."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0])
