"""Where data comes from: a name -> a :class:`Dataset`."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from plausible.core.errors import ConfigurationError, DataError, unknown
from plausible.core.names import check_options, resolve
from plausible.data.dataset import Dataset, Split, hold_out

TEST_FRACTION, TEST_SEED = 0.2, 0  # where a source has no official test set: the same one for every seed


@dataclass(frozen=True)
class Request:
    """What was asked for: see :func:`load`."""

    name: str
    root: Path
    download: bool
    validation: float | int
    seed: int

    def cut(self, train: Split, test: Split) -> Dataset:
        """The data set whose validation split is cut from ``train``."""
        what = f"{self.name}, validation from train"
        rest, validation = hold_out(train, self.validation, self.seed, what)
        return Dataset(self.name, rest, validation, test)

    def cut_all(self, everything: Split) -> Dataset:
        """The data set of a source that has no official test set: all three splits are cut from one."""
        train, test = hold_out(everything, TEST_FRACTION, TEST_SEED, f"{self.name}, test from all")
        return self.cut(train, test)


def load(
    name: str,
    *,
    root: Path | str | None = None,
    download: bool = False,
    validation: float | int = 0.1,
    seed: int = 0,
    **options: Any,
) -> Dataset:
    """The data set of that name, with three disjoint splits.

    name: a built-in (:func:`names`); ``folder:PATH``, images as PATH/CLASS/IMAGE or
        PATH/{train,val,test}/CLASS/IMAGE; or ``package.module:callable``, which returns a :class:`Dataset`,
        or (train, test), each a pair (x, y) of tensors or arrays.
    root: the folder that holds the built-in sets as torchvision lays them out; by default the environment
        variable PLAUSIBLE_DATA, else ``~/.cache/plausible``.
    download: fetch a set that is missing. Nothing is ever fetched without it.
    validation: fraction (float) or number (int) of training examples held out, stratified; not used where a
        source has a validation set of its own.
    seed: which ones are held out. The test set never depends on it.
    options: ``size`` for folders, side length in pixels of the square every image becomes (32); for a
        callable, its keyword arguments.

    Raises :class:`UnknownName`, :class:`ConfigurationError` for options, :class:`DataError` for what is
    missing, unreadable or no valid data set.
    """
    if not 0 <= seed < 2**32:
        raise ConfigurationError(f"data set {name!r}: seed is {seed}; it must be from 0 to 2**32 - 1.")
    default = os.environ.get("PLAUSIBLE_DATA") or "~/.cache/plausible"
    request = Request(name, Path(root or default).expanduser(), download, validation, seed)
    prefix, colon, rest = name.partition(":")
    if colon and prefix == "folder":
        check_options(_folder, options, kind=f"data set {name!r}", supplied=("request", "path"))
        return _folder(request, Path(rest).expanduser(), **options)
    if colon:
        return _user(request, options)
    if name not in _BUILT_IN:
        raise unknown("data set", name, [*_BUILT_IN, "folder:PATH", "package.module:callable"])
    check_options(_BUILT_IN[name], options, kind=f"data set {name!r}", supplied=("request",))
    return _BUILT_IN[name](request)


def names() -> list[str]:
    """The built-in data sets."""
    return sorted(_BUILT_IN)


def _digits(request: Request) -> Dataset:
    """1,797 handwritten digits of 8x8 pixels, embedded in scikit-learn."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    x = torch.from_numpy(bunch.images).float().div_(16).unsqueeze(1)  # pixels are counts 0-16
    return request.cut_all(Split(x, torch.from_numpy(bunch.target).long()))


def _torchvision(class_name: str, folder: str) -> Callable[[Request], Dataset]:
    def source(request: Request) -> Dataset:
        import torchvision.datasets

        where = request.root / folder
        try:
            found = any(where.iterdir())
        except OSError:  # no such folder, or not ours to read
            found = False
        if not found and not request.download:
            raise DataError(
                f"There is no readable {request.name} in {where}. Fetch it with --download (download=True in "
                "Python), or set PLAUSIBLE_DATA to the folder that holds it."
            )
        kind = getattr(torchvision.datasets, class_name)
        try:
            train, test = (
                _images(kind(request.root, train=train, download=request.download)) for train in (True, False)
            )
        except Exception as error:  # a damaged file, or a failed download, may surface as anything
            raise DataError(
                f"{request.name} in {where} cannot be read ({type(error).__name__}: {error}). If files are "
                "missing or damaged, delete that folder and fetch it again with --download (download=True in "
                "Python), or set PLAUSIBLE_DATA to another folder that holds it."
            ) from error
        return request.cut(train, test)

    return source


def _images(source: Any) -> Split:
    x = torch.as_tensor(source.data)
    x = x.unsqueeze(1) if x.ndim == 3 else x.permute(0, 3, 1, 2)
    return Split(x.contiguous(), torch.as_tensor(source.targets, dtype=torch.int64))


_BUILT_IN: dict[str, Callable[[Request], Dataset]] = {
    "digits": _digits,
    "mnist": _torchvision("MNIST", "MNIST/raw"),
    "fashion-mnist": _torchvision("FashionMNIST", "FashionMNIST/raw"),
    "cifar10": _torchvision("CIFAR10", "cifar-10-batches-py"),
    "cifar100": _torchvision("CIFAR100", "cifar-100-python"),
}


def _folder(request: Request, path: Path, size: int = 32) -> Dataset:
    from plausible.data.folder import read, visible

    if not isinstance(size, int) or size < 1:
        raise ConfigurationError(f"data set {request.name!r}: size is {size!r}; it must be a whole number of pixels.")
    parts = {entry.name for entry in visible(path)}
    if not {"train", "test"} <= parts:
        if parts <= {"train", "val", "test"}:
            raise DataError(
                f"{path} has only {', '.join(sorted(parts)) or 'nothing'} in it. Expected are train/ and "
                "test/ (and val/, otherwise cut from train/), or class folders, to be split here."
            )
        return request.cut_all(read(path, size)[0])
    if strange := sorted(parts - {"train", "val", "test"}):
        raise DataError(f"{path / strange[0]}: stray beside train/, val/ and test/. Move or delete it.")
    train, classes = read(path / "train", size)
    test, _ = read(path / "test", size, classes)
    if "val" not in parts:
        return request.cut(train, test)
    return Dataset(request.name, train, read(path / "val", size, classes)[0], test)


def _user(request: Request, options: dict[str, Any]) -> Dataset:
    function = resolve(request.name, "data set")
    check_options(function, options, kind=f"data set {request.name!r}")
    try:
        made = function(**options)
    except Exception as error:  # the user's code may fail in any way
        raise DataError(f"data set {request.name!r} raised {type(error).__name__}: {error}") from error
    if isinstance(made, Dataset):
        return made
    try:
        (train_x, train_y), (test_x, test_y) = made
    except (TypeError, ValueError) as error:
        raise DataError(
            f"data set {request.name!r} returned a {type(made).__name__}; expected is a "
            "plausible.data.Dataset, or (train, test), each a pair (x, y) of tensors or arrays."
        ) from error
    return request.cut(_split(request.name, "train", train_x, train_y), _split(request.name, "test", test_x, test_y))


def _split(name: str, part: str, x: Any, y: Any) -> Split:
    try:
        x, y = torch.as_tensor(x).detach().cpu(), torch.as_tensor(y).cpu()
        if x.is_floating_point():
            x = x.float()
        if not (y.is_floating_point() or y.is_complex()):
            y = y.long()
        return Split(x, y)
    except (TypeError, ValueError, RuntimeError, DataError) as error:
        raise DataError(f"data set {name!r}, {part}: {error}") from error
