"""A folder of images, one subfolder per class, into memory at one size."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.datasets.folder import IMG_EXTENSIONS

from plausible.core.errors import DataError
from plausible.data.dataset import Split


def read(folder: Path, size: int, classes: list[str] | None = None) -> tuple[Split, list[str]]:
    """All images below ``folder/CLASS/`` as (N, 3, size, size) uint8, and the class names in label order.

    Images are scaled so that the shorter side fits, then cropped at the centre; grey ones become RGB. Hidden
    files are passed over. ``classes``: the names of the training folder, if labels must agree with it.

    Raises :class:`DataError` that names the file or folder: a stray file, an unreadable image, an empty
    class, or a class that ``classes`` lacks.
    """
    found = [entry.name for entry in visible(folder) if _is_class(entry)]
    classes = found if classes is None else classes
    if strange := sorted(set(found) - set(classes)):
        raise DataError(f"{folder / strange[0]}: no such class in the training folder. Add it there, or remove this.")
    if not found:
        raise DataError(f"{folder}: no class folders. Images are expected as {folder}/CLASS/IMAGE.")
    files = [(path, classes.index(name)) for name in found for path in _images(folder / name)]
    x = torch.empty(len(files), 3, size, size, dtype=torch.uint8)

    def fill(i: int) -> None:
        x[i] = _decode(files[i][0], size)

    with ThreadPoolExecutor() as pool:  # decoding releases the interpreter lock
        list(pool.map(fill, range(len(files))))
    return Split(x, torch.tensor([label for _, label in files])), classes


def visible(folder: Path) -> list[Path]:
    """What lies in the folder, sorted, without hidden files; :class:`DataError` if it cannot be listed."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: {os.strerror(error.errno or 0)}. A folder of images was expected here.") from error


def _is_class(entry: Path) -> bool:
    if not entry.is_dir():
        raise DataError(f"{entry}: a stray file where only class folders are expected. Move or delete it.")
    return True


def _images(folder: Path) -> list[Path]:
    files: list[Path] = []
    for entry in visible(folder):
        if entry.is_dir():
            files += _images(entry)
        elif entry.suffix.lower() in IMG_EXTENSIONS:
            files.append(entry)
        else:
            raise DataError(f"{entry}: not an image ({', '.join(IMG_EXTENSIONS)}). Move or delete it.")
    if not files:
        raise DataError(f"{folder}: this class has no images. Add some, or remove the folder.")
    return files


def _decode(path: Path, size: int) -> torch.Tensor:
    try:
        with Image.open(path) as image:
            fitted = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BILINEAR)
    except Exception as error:  # a damaged file makes its decoder fail in any way
        raise DataError(f"{path}: cannot be read as an image ({error}). Replace or delete it.") from error
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1)
