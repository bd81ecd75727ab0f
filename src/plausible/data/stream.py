"""Batches of a split that is read while training goes on: decoded by worker processes, normalised on the device."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Map

from plausible.core.errors import DataError, unknown
from plausible.data.crops import CROPS, Transform, seeded
from plausible.data.decode import decode
from plausible.data.loader import mixed, part, require_batches
from plausible.data.tree import Files, Policy

Asked = tuple[int, int]
"""(which file, the seed of its augmentation)."""


@dataclass(frozen=True)
class Got:
    """A batch from a worker: x (B, 3, size, size) uint8, y (B,) int64, and (path, why) of what could not be read."""

    x: Tensor
    y: Tensor
    bad: list[tuple[str, str]]

    def pin_memory(self) -> "Got":
        """In memory that the device reads by itself; torch's loader calls it."""
        return Got(self.x.pin_memory(), self.y.pin_memory(), self.bad)


@dataclass(frozen=True)
class Reader(Map[tuple[Tensor | None, int, list[tuple[str, str]]]]):
    """The files of a split as pixels; lives in the workers.

    substitute: in place of a file that cannot be read take the next one of its class; otherwise there is none.
    """

    files: Files
    transform: Transform
    substitute: bool

    def __getitem__(self, asked: Asked) -> tuple[Tensor | None, int, list[tuple[str, str]]]:
        """(3, size, size) uint8, or None; the label; what could not be read on the way."""
        i, seed = asked
        label, bad = int(self.files.y[i]), []
        for j in self._candidates(i, label):
            path = self.files.path(j)
            try:
                x = decode(Path(path).read_bytes())
            except (DataError, OSError) as error:
                bad.append((path, str(error) if isinstance(error, DataError) else f"cannot be read ({error.strerror})"))
                continue
            with seeded(seed):
                return self.transform(x), label, bad
        return None, label, bad

    def _candidates(self, i: int, label: int) -> Iterator[int]:
        yield i
        if self.substitute:
            own = (self.files.y == label).nonzero().flatten()
            yield from own[own > i].tolist()
            yield from own[own < i].tolist()


def _together(items: Sequence[tuple[Tensor | None, int, list[tuple[str, str]]]]) -> Got:
    there = [(x, label) for x, label, _ in items if x is not None]
    x = torch.stack([x for x, _ in there]) if there else torch.empty(0)  # of no image nobody looks at the shape
    return Got(x, torch.tensor([label for _, label in there]), [each for _, _, bad in items for each in bad])


class _Plan:
    """The batches that torch's loader is to ask for; set before every epoch."""

    def __init__(self) -> None:
        self.batches: Iterator[list[Asked]] = iter(())

    def __iter__(self) -> Iterator[list[Asked]]:
        return self.batches


def _start_worker(_number: int) -> None:
    # Ctrl-C and a scheduler's SIGTERM reach the whole process group. The parent acts on them, and ends the workers. A
    # second SIGTERM acts: with it Python ends what it still finds when it exits.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _frame: signal.signal(number, signal.SIG_DFL))


def processors() -> int:
    """Worker processes where nobody says how many: one per processor; none in a process that may not have any."""
    if multiprocessing.current_process().daemon:  # such as a worker of `plausible compare`, of which there are many
        return 0
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


class StreamLoader:
    """What :class:`~plausible.data.Loader` is, for files: batches that are a function of (seed, epoch) alone.

    Order and the seed of every image's augmentation are drawn here and told to the workers, so that nothing depends
    on how many there are. An epoch entered in the middle goes on bit for bit; what was before is not read.

    Args:
        files: the split.
        batch_size: images per batch.
        size, resize, policy: see :class:`~plausible.data.Streamed`. In training batches, which all have one size,
            the next image of its class takes the place of one that is skipped; elsewhere its batch is smaller.
        mean, std: (3,), in units of 0-255.
        device: where the batches go.
        augment: a name in :data:`~plausible.data.CROPS`.
        seed, shuffle, drop_last: see :class:`~plausible.data.Loader`.
        workers: processes, 0 for none; by default :func:`processors`.

    Raises:
        ConfigurationError: the arguments do not fit the split; UnknownName for ``augment``.
    """

    def __init__(
        self,
        files: Files,
        batch_size: int,
        *,
        size: int,
        resize: int,
        policy: Policy,
        mean: Tensor,
        std: Tensor,
        device: torch.device | str = "cpu",
        augment: str = "none",
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        workers: int | None = None,
    ):
        if augment not in CROPS:
            raise unknown("augmentation of streamed images", augment, CROPS)
        require_batches(len(files), batch_size, seed, drop_last=drop_last)
        workers = processors() if workers is None else workers
        self.batch_size, self.seed, self.shuffle, self.drop_last = batch_size, seed, shuffle, drop_last
        self.share: tuple[int, int] = (0, 1)
        self.device = torch.device(device)
        self._policy = policy
        self._mean, self._std = mean.to(device).view(-1, 1, 1), std.to(device).view(-1, 1, 1)
        self._reader = Reader(files, CROPS[augment](size, resize), policy.skip and drop_last)
        self._plan = _Plan()
        self._workers = workers
        self._batches: DataLoader[Any] | None = None

    def __len__(self) -> int:
        """Batches in an epoch."""
        n = len(self._reader.files)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches ``start``, ``start + 1``, …: x (B, 3, size, size) float32 and y (B,) int64, on the device.

        Raises:
            DataError: an image cannot be read and is not to be skipped; its path, why, and the way out.
        """
        if self._batches is None:
            self._batches = self._open()
        self._plan.batches = self._ask(epoch, start, len(self))
        batches, there = iter(self._batches), start
        try:
            while (got := self._next(batches)) is not None:
                if len(self._note(got).y):
                    there += 1
                    yield self._shown(got)
        finally:
            del batches  # ends the workers that are not kept, also where a traceback holds this frame
        if not there:
            path, why = next(reversed(self._policy.skipped.items()))
            raise DataError(f"{path}: {why}, and so are all the other {len(self._reader.files) - 1} of this split.")

    def first(self) -> tuple[Tensor, Tensor]:
        """The first batch of the first epoch, without a worker."""
        (asked,) = self._ask(0, 0, 1)
        return self._shown(self._note(_together([self._reader[each] for each in asked])))

    def close(self) -> None:
        """End the workers; a next epoch starts others."""
        self._batches = None

    def _open(self) -> DataLoader[Any]:
        # Forked workers start at once and share the list of files. They touch no GPU and have one thread each.
        fork = "fork" if self._workers and "fork" in multiprocessing.get_all_start_methods() else None
        return DataLoader(
            self._reader,
            batch_sampler=self._plan,
            num_workers=self._workers,
            collate_fn=_together,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_start_worker,
            multiprocessing_context=fork,
            generator=torch.Generator(),  # else each epoch would take a number from the global one
            persistent_workers=self.drop_last and self._workers > 0,  # evaluations are rare: theirs would only wait
        )

    def _next(self, batches: Iterator[Got]) -> Got | None:
        try:
            return next(batches, None)
        except RuntimeError as error:  # what torch raises when a worker is gone
            raise DataError(
                f"A process that decodes images died ({error}). Often memory, also that in /dev/shm, is short: "
                "try fewer --workers, a smaller --batch-size, or --workers 0."
            ) from error

    def _ask(self, epoch: int, start: int, stop: int) -> Iterator[list[Asked]]:
        n, generator = len(self._reader.files), torch.Generator().manual_seed(mixed(self.seed, epoch))
        order = torch.randperm(n, generator=generator) if self.shuffle else torch.arange(n)
        seeds = torch.randint(2**63 - 1, (n,), generator=generator)
        for step in range(start, stop):
            batch = part(step * self.batch_size, min(n, (step + 1) * self.batch_size), self.share)
            yield list(zip(order[batch].tolist(), seeds[batch].tolist(), strict=True))

    def _note(self, got: Got) -> Got:
        if self._reader.substitute and len(got.y) < self.batch_size // self.share[1]:
            path, why = got.bad[-1]
            raise DataError(f"{path}: {why}. Not one image of its class is left: put some there, or remove the class.")
        for path, why in got.bad:
            self._policy.bad(path, why, "Replace it, or leave such files out: --set data_options.on_bad=skip.")
        return got

    def _shown(self, got: Got) -> tuple[Tensor, Tensor]:
        x, y = (part.to(self.device, non_blocking=True) for part in (got.x, got.y))
        return x.float().sub_(self._mean).div_(self._std), y
