"""Images in folders, one subfolder per class: what is there, and what should not be."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from plausible.core.errors import DataError

_TURNED = (
    " ImageNet's val comes like this: move each image into the folder of its class, as torchvision.datasets.ImageNet "
    "does when it unpacks the archives."
)


@dataclass(frozen=True)
class Policy:
    """What is done with files and folders that are no data.

    skip: pass over them and keep their names; otherwise the first is refused.
    skipped: path -> why, in the order in which they were met.
    """

    skip: bool = False
    skipped: dict[str, str] = field(default_factory=dict)

    def bad(self, path: str | Path, why: str, way_out: str) -> None:
        """Refuse the path, with the way out, or note it; :class:`DataError` if it is refused."""
        if not self.skip:
            raise DataError(f"{path}: {why}. {way_out}")
        self.skipped[str(path)] = why


@dataclass(frozen=True, eq=False)
class Files:
    """Image files and their labels; they are read when they are wanted.

    root: the folder that ``names`` start from.
    names: (N,) bytes: in one piece of memory, which a million names as Python strings are not, so that worker
        processes share it.
    y: (N,) int64.
    """

    root: Path
    names: np.ndarray
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: Tensor) -> "Files":
        """The files at ``index`` (K,) int64."""
        return Files(self.root, self.names[index.numpy()], self.y[index])

    def path(self, i: int) -> str:
        """Where the i-th file lies."""
        return f"{self.root}{os.sep}{os.fsdecode(self.names[i])}"


def listing(folder: Path, policy: Policy, classes: list[str] | None = None) -> tuple[Files, list[str]]:
    """All images below ``folder/CLASS/``, in the order of their names, and the class names in label order.

    Hidden files are passed over, links are followed, folders within a class belong to it.

    Args:
        folder: where to look.
        policy: what to do with a stray file, an empty class, or a class that ``classes`` lacks.
        classes: the names of the training folder, if labels must agree with it.

    Raises:
        DataError: a folder that cannot be listed or has no classes, and whatever the policy refuses.
    """
    known = None if classes is None else {name: label for label, name in enumerate(classes)}
    found: list[str] = []
    names: list[bytes] = []
    labels: list[int] = []
    for entry in visible(folder):
        if not entry.is_dir():
            if _is_image(entry.name) and not any(each.is_dir() for each in visible(folder)):
                raise DataError(f"{folder}: images, but no class folders.{_TURNED if classes else ''}")
            why = "a stray file where only class folders are expected"
            policy.bad(entry.path, why, "Move or delete it.")
            continue
        if known is not None and entry.name not in known:
            policy.bad(entry.path, "no such class in the training folder", "Add it there, or remove this.")
            continue
        own = [os.fsencode(path[len(str(folder)) + 1 :]) for path in _images(entry.path, policy)]
        if not own:
            policy.bad(entry.path, "this class has no images", "Add some, or remove the folder.")
            continue
        labels += [len(found) if known is None else known[entry.name]] * len(own)
        names += own
        found.append(entry.name)
    if not found:
        raise DataError(f"{folder}: no class folders. Images are expected as {folder}/CLASS/IMAGE.")
    return Files(folder, np.array(names), torch.tensor(labels)), classes or found


def visible(folder: Path | str) -> list[os.DirEntry[str]]:
    """What lies in the folder, sorted, without hidden files; :class:`DataError` if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise DataError(f"{folder}: {os.strerror(error.errno or 0)}. A folder of images was expected here.") from error


def _images(folder: str, policy: Policy) -> Iterator[str]:
    for entry in visible(folder):
        if entry.is_dir():
            yield from _images(entry.path, policy)
        elif _is_image(entry.name):
            yield entry.path
        else:
            policy.bad(entry.path, f"not an image ({', '.join(IMG_EXTENSIONS)})", "Move or delete it.")


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMG_EXTENSIONS)
