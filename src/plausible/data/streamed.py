"""A data set that does not fit into memory: images that are read, decoded and augmented while training goes on."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from plausible.core.errors import DataError
from plausible.data.stream import StreamLoader
from plausible.data.tree import Files, Policy

# Of ImageNet's training images scaled to 0-1; what everybody normalises by who uses torchvision's models.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class Streamed:
    """Three disjoint splits, like a :class:`~plausible.data.Dataset`, of images that stay where they are.

    name: of the data set.
    train, validation, test: what there is, in label order.
    names: of the classes, in label order.
    size: side in pixels of the square that a net is shown.
    resize: length in pixels of an image's shorter side before its centre is cut out, where it is not augmented.
    policy: what to do with images that cannot be decoded, and which were met.
    workers: processes that read and decode; None: one per processor. Batches do not depend on it.
    """

    name: str
    train: Files
    validation: Files
    test: Files
    names: list[str]
    size: int
    resize: int
    policy: Policy
    workers: int | None = None

    def __post_init__(self):
        if len(self.names) < 2:
            raise DataError(f"{self.name}: there is only class {self.names[0]!r}; at least two are needed.")

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.names)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example: (3, size, size)."""
        return 3, self.size, self.size

    @property
    def mean(self) -> Tensor:
        """(3,), ImageNet's, in units of 0-255: of no other data set either is it computed, which would read all."""
        return torch.tensor(MEAN) * 255

    @property
    def std(self) -> Tensor:
        """(3,), as :attr:`mean`."""
        return torch.tensor(STD) * 255

    @property
    def skipped(self) -> Mapping[str, str]:
        """Path -> why, of whatever was left out until now."""
        return self.policy.skipped

    @cached_property
    def fingerprint(self) -> str:
        """Of the names and labels of the training files: another list of files means other batches."""
        digest = hashlib.sha256(self.train.names.tobytes())
        digest.update(self.train.y.numpy().tobytes())
        return digest.hexdigest()[:16]

    def look(self, amount: int) -> tuple[int, dict[str, str]]:
        """Decode ``amount`` images, evenly spread over the splits, or with 0 all of them.

        Returns:
            How many were looked at; path -> why, of those that cannot be decoded. The policy is not asked.
        """
        parts = (self.train, self.validation, self.test)
        total, bad = sum(map(len, parts)), Policy(skip=True)
        looked_at = 0
        for files in parts:
            some = max(1, round(len(files) * min(1.0, amount / total))) if amount else len(files)
            files = files[torch.linspace(0, len(files) - 1, some).long()]
            batches = StreamLoader(
                files, 64, size=self.size, resize=self.resize, policy=bad, mean=self.mean, std=self.std,
                workers=self.workers,
            )  # fmt: skip
            for _ in batches.epoch():
                pass
            looked_at += len(files)
        return looked_at, bad.skipped

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
    ) -> StreamLoader:
        """Normalised batches of a split; see :class:`~plausible.data.StreamLoader`."""
        return StreamLoader(
            getattr(self, part),
            batch_size,
            size=self.size,
            resize=self.resize,
            policy=self.policy,
            mean=self.mean,
            std=self.std,
            device=device,
            augment=augment,
            seed=seed,
            shuffle=shuffle,
            drop_last=drop_last,
            workers=self.workers,
        )
