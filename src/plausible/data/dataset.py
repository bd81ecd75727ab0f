"""A data set in memory: three disjoint splits, checked once, when they are put together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from plausible.core.errors import ConfigurationError, DataError
from plausible.data.loader import Loader

CHUNK = 2**16  # values taken to float64 at a time when moments are computed; they stay in the cache


@dataclass(frozen=True, eq=False)
class Split:
    """Examples and their labels.

    x: (N, C, H, W) images or (N, D) vectors; float32, or uint8 with values 0-255.
    y: (N,) labels, int64.

    Raises :class:`DataError` if the two do not fit these descriptions, or each other, or x is not finite.
    """

    x: Tensor
    y: Tensor

    def __post_init__(self):
        x, y = self.x, self.y
        if x.dtype not in (torch.float32, torch.uint8):
            raise DataError(f"x is {x.dtype}; it must be float32 or uint8: convert it with x.float().")
        if x.ndim not in (2, 4):
            raise DataError(
                f"x has shape {tuple(x.shape)}; it must be (N, C, H, W) for images or (N, D) for vectors: "
                "grey images need a channel dimension, x.unsqueeze(1)."
            )
        if y.dtype != torch.int64 or y.ndim != 1:
            raise DataError(f"y is {y.dtype} of shape {tuple(y.shape)}; labels must be int64 of shape (N,).")
        if len(x) != len(y):
            raise DataError(f"x has {len(x)} examples but y has {len(y)} labels.")
        if x.numel() == 0:
            raise DataError(f"x has shape {tuple(x.shape)}: it is empty.")
        if x.is_floating_point() and not (finite := x.isfinite()).all():
            first = int((~finite).flatten(1).any(1).nonzero()[0])
            raise DataError(f"x holds NaN or infinite values, first in example {first}: remove or repair it.")

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: Tensor) -> "Split":
        """The examples at ``index`` (K,) int64, as a copy."""
        return Split(self.x[index], self.y[index])


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three disjoint splits of one classification problem with labels 0 … classes-1.

    Nothing is ever selected on ``test``. Raises :class:`DataError`, with the data set's name, if the splits
    do not belong together.
    """

    name: str
    train: Split
    validation: Split
    test: Split

    skipped: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Nothing is left out: what is in memory was checked as a whole. (Compare :class:`~plausible.data.Streamed`.)"""
    fingerprint: ClassVar[str] = ""
    """Of a list of files, which there is not."""

    def __post_init__(self):
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        labels = self.train.y.unique()  # sorted
        gaps = (labels != torch.arange(len(labels))).nonzero()
        if len(gaps):
            first = int(gaps[0])
            raise DataError(
                f"{self.name}: labels must be 0 … C-1, each present in training, but among the training labels "
                f"{int(labels[first])} comes where {first} was expected. Renumber them, or add examples."
            )
        if len(labels) < 2:
            raise DataError(f"{self.name}: every training example has label 0; at least two classes are needed.")
        for part, split in parts.items():
            wrong = (~torch.isin(split.y, labels)).nonzero()
            if len(wrong):
                raise DataError(
                    f"{self.name}, {part}: example {int(wrong[0])} has label {int(split.y[wrong[0]])}. "
                    f"Labels must be 0 … C-1, and the largest of the training split is {self.classes - 1}."
                )
            if split.x.shape[1:] != self.train.x.shape[1:] or split.x.dtype != self.train.x.dtype:
                raise DataError(
                    f"{self.name}: {part} examples are {split.x.dtype} of shape {tuple(split.x.shape[1:])}, "
                    f"training examples {self.train.x.dtype} of shape {self.shape}. They must agree."
                )
        for (one, a), (other, b) in combinations(parts.items(), 2):
            if a.x.data_ptr() == b.x.data_ptr():
                raise DataError(
                    f"{self.name}: {one} and {other} are the same tensor. The three splits must be disjoint: "
                    "return (train, test) instead and validation is cut from train."
                )

    @cached_property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.train.y.max()) + 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example: (C, H, W), or (D,) for vectors."""
        return tuple(self.train.x.shape[1:])

    @cached_property
    def mean(self) -> Tensor:
        """Mean of the training split, float32 in the units of x (0-255 for uint8).

        (C,), one per channel, or (D,), one per feature of vectors.
        """
        return _channel_mean(self.train.x, lambda chunk: chunk).float()

    @cached_property
    def std(self) -> Tensor:
        """Standard deviation of the training split, shaped like :attr:`mean` and in the same units.

        A channel or feature that never varies gets 1, so that normalising leaves it at 0.
        """
        mean = self.mean.double().view(-1, *[1] * (self.train.x.ndim - 2))
        std = _channel_mean(self.train.x, lambda chunk: (chunk - mean).square_()).sqrt().float()
        return torch.where(std > 0, std, 1.0)

    def batches(
        self,
        part: Literal["train", "validation", "test"],
        batch_size: int,
        *,
        device: torch.device | str = "cpu",
        augment: str = "none",
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
    ) -> Loader:
        """Normalised batches of a split; see :class:`~plausible.data.Loader`."""
        return Loader(
            getattr(self, part),
            batch_size,
            mean=self.mean,
            std=self.std,
            device=device,
            augment=augment,
            seed=seed,
            shuffle=shuffle,
            drop_last=drop_last,
        )


def _channel_mean(x: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
    """Mean of ``of(x)`` over everything but dimension 1, in float64, without a float64 copy of all of x."""
    others = [d for d in range(x.ndim) if d != 1]
    chunks = x.split(max(1, CHUNK // x[0].numel()))
    total = torch.stack([of(chunk.double()).sum(others) for chunk in chunks]).sum(0)
    return total * x.shape[1] / x.numel()


def hold_out(split: Split, amount: float | int, seed: int, what: str) -> tuple[Split, Split]:
    """Cut a stratified part off: (the rest, the part held out), both in their original order.

    For the arguments and errors see :func:`cut`.
    """
    rest, held = cut(split.y, amount, seed, what)
    return split[rest], split[held]


def cut(y: Tensor, amount: float | int, seed: int, what: str) -> tuple[Tensor, Tensor]:
    """Indices (K,) int64, ascending, of two stratified parts of examples with labels y (N,): the rest, what is cut off.

    amount: a fraction between 0 and 1, or a number of examples (int).
    seed: the same seed holds out the same examples.
    what: begins the error messages; say what is being cut from what.

    Raises :class:`ConfigurationError` if the amount is impossible, :class:`DataError` if a class is too small
    to be in both parts.
    """
    from sklearn.model_selection import train_test_split  # here: it takes most of a second to import

    n, (labels, counts) = len(y), y.unique(return_counts=True)
    if not isinstance(amount, int | float) or not 0 < amount < (n if isinstance(amount, int) else 1):
        raise ConfigurationError(
            f"{what}: cannot hold out {amount!r} of {n} examples; give a fraction between 0. and 1., or a count."
        )
    if int(counts.min()) < 2:
        raise DataError(f"{what}: class {int(labels[counts.argmin()])} has one example; two parts need two.")
    count = amount if isinstance(amount, int) else round(amount * n)
    if not len(labels) <= count <= n - len(labels):
        raise ConfigurationError(
            f"{what}: holding out {count} of {n} examples leaves one of the parts without some of the "
            f"{len(labels)} classes; hold out {len(labels)} to {n - len(labels)}."
        )
    rest, held = train_test_split(np.arange(n), test_size=count, stratify=y.numpy(), random_state=seed)
    return torch.from_numpy(np.sort(rest)), torch.from_numpy(np.sort(held))
