"""Where data comes from: a name -> a :class:`Dataset`."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import torch

from plausible.core.errors import ConfigurationError, DataError, unknown
from plausible.core.names import check_options, resolve
from plausible.data.dataset import Dataset, Split, cut, hold_out

if TYPE_CHECKING:  # else only where it is wanted: it imports torchvision, which takes a second
    from plausible.data.streamed import Streamed

AnyDataset: TypeAlias = Union[Dataset, "Streamed"]
"""In memory or streamed: both have name, shape, classes, mean, std and batches."""

TEST_FRACTION, TEST_SEED = 0.2, 0  # where a source has no official test set: the same one for every seed


@dataclass(frozen=True)
class Request:
    """What was asked for: see :func:`load`."""

    name: str
    root: Path
    download: bool
    validation: float | int
    seed: int
    workers: int | None = None

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
    workers: int | None = None,
    **options: Any,
) -> AnyDataset:
    """The data set of that name, with three disjoint splits.

    name: a built-in (:func:`names`); ``folder:PATH``, images as PATH/CLASS/IMAGE or
        PATH/{train,val,test}/CLASS/IMAGE, read into memory; ``stream:PATH``, the same, read while training goes on;
        or ``package.module:callable``, which returns a :class:`Dataset`, or (train, test), each a pair (x, y) of
        tensors or arrays.
    root: the folder that holds the built-in sets as torchvision lays them out; by default the environment
        variable PLAUSIBLE_DATA, else ``~/.cache/plausible``.
    download: fetch a set that is missing. Nothing is ever fetched without it.
    validation: fraction (float) or number (int) of training examples held out, stratified; not used where a
        source has a validation set of its own.
    seed: which ones are held out. The test set never depends on it.
    workers: processes that decode what is streamed; by default one per processor. Batches do not depend on it.
    options: ``size`` for folders, side length in pixels of the square every image becomes (32); for what is streamed
        ``size`` (224), ``resize`` (size · 256 / 224) and ``on_bad`` ("refuse" or "skip"), see
        :class:`~plausible.data.streamed.Streamed`; for a callable, its keyword arguments.

    Raises :class:`UnknownName`, :class:`ConfigurationError` for options, :class:`DataError` for what is
    missing, unreadable or no valid data set.
    """
    if not 0 <= seed < 2**32:
        raise ConfigurationError(f"data set {name!r}: seed is {seed}; it must be from 0 to 2**32 - 1.")
    default = os.environ.get("PLAUSIBLE_DATA") or "~/.cache/plausible"
    request = Request(name, Path(root or default).expanduser(), download, validation, seed, workers)
    prefix, colon, rest = name.partition(":")
    if colon and prefix == "folder":
        check_options(_folder, options, kind=f"data set {name!r}", supplied=("request", "path"))
        return _folder(request, Path(rest).expanduser(), **options)
    if colon and prefix == "stream":
        check_options(_stream, options, kind=f"data set {name!r}", supplied=("request", "path"))
        return _stream(request, Path(rest).expanduser(), **options)
    if colon:
        return _user(request, options)
    if name not in _BUILT_IN:
        raise unknown("data set", name, [*_BUILT_IN, "folder:PATH", "stream:PATH", "package.module:callable"])
    check_options(_BUILT_IN[name], options, kind=f"data set {name!r}", supplied=("request",))
    return _BUILT_IN[name](request, **options)


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


def _imagenet(request: Request, size: int = 224, resize: int | None = None, on_bad: str = "refuse") -> "Streamed":
    """ILSVRC 2012 as torchvision's ImageNet unpacks it: what is trained on from train/, the test set is val/."""
    near = request.root / request.name
    where = near if near.is_dir() else request.root
    if not (where / "train").is_dir() or not (where / "val").is_dir():
        raise DataError(
            f"There is no imagenet in {where}: expected are {where / 'train'} and {where / 'val'}, each with a folder "
            "per class. It cannot be fetched without an account at image-net.org; unpack its archives with "
            "torchvision.datasets.ImageNet, and say where with --data-dir."
        )
    return _streamed(request, where, ("train", "val"), size, resize, on_bad)


_BUILT_IN: dict[str, Callable[..., AnyDataset]] = {
    "digits": _digits,
    "mnist": _torchvision("MNIST", "MNIST/raw"),
    "fashion-mnist": _torchvision("FashionMNIST", "FashionMNIST/raw"),
    "cifar10": _torchvision("CIFAR10", "cifar-10-batches-py"),
    "cifar100": _torchvision("CIFAR100", "cifar-100-python"),
    "imagenet": _imagenet,
}


def _folder(request: Request, path: Path, size: int = 32) -> Dataset:
    from plausible.data.folder import read
    from plausible.data.tree import visible

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


def _stream(
    request: Request, path: Path, size: int = 224, resize: int | None = None, on_bad: str = "refuse"
) -> "Streamed":
    from plausible.data.tree import visible

    parts = {entry.name for entry in visible(path)}
    if "train" not in parts or not {"val", "test"} & parts:
        raise DataError(f"{path} has no train/ with val/ or test/ beside it, each with a folder of images per class.")
    asked = tuple(part for part in ("train", "val", "test") if part in parts)
    return _streamed(request, path, asked, size, resize, on_bad, sorted(parts - set(asked)))


def _streamed(
    request: Request,
    path: Path,
    parts: tuple[str, ...],
    size: int,
    resize: int | None,
    on_bad: str,
    strays: Sequence[str] = (),
) -> "Streamed":
    """The data set in ``path``: the last of ``parts`` is its test set, one between the validation set."""
    from plausible.data.streamed import Streamed
    from plausible.data.tree import Files, Policy, listing

    resize = round(size * 256 / 224) if resize is None and type(size) is int else resize
    for option, value in (("size", size), ("resize", resize)):
        if not isinstance(value, int) or value < (1 if option == "size" else size):
            least = "a whole number of pixels" if option == "size" else f"a whole number of pixels, at least {size}"
            raise ConfigurationError(f"data set {request.name!r}: {option} is {value!r}; it must be {least}.")
    if on_bad not in ("refuse", "skip"):
        raise ConfigurationError(f"data set {request.name!r}: on_bad is {on_bad!r}; it must be 'refuse' or 'skip'.")
    assert resize is not None  # of a size that is a number
    policy = Policy(skip=on_bad == "skip")
    for stray in strays:
        policy.bad(path / stray, "stray beside train/, val/ and test/", "Move or delete it.")
    train, classes = listing(path / "train", policy)
    others: list[Files] = []
    for part in parts[1:]:
        files, _ = listing(path / part, policy, classes)
        if absent := set(range(len(classes))) - set(files.y.unique().tolist()):
            why = f"not there; {part}/ lacks {len(absent)} of the {len(classes)} classes of train/"
            policy.bad(path / part / classes[min(absent)], why, "Add it, or remove it from train/ too.")
        others.append(files)
    if len(others) == 1:
        rest, held = cut(train.y, request.validation, request.seed, f"{request.name}, validation from train")
        others, train = [train[held], *others], train[rest]
    validation, test = others
    return Streamed(request.name, train, validation, test, classes, size, resize, policy, request.workers)


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
