"""A folder of images, one subfolder per class, into memory at one size."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from plausible.core.errors import DataError
from plausible.data.dataset import Split
from plausible.data.tree import Policy, listing


def read(folder: Path, size: int, classes: list[str] | None = None) -> tuple[Split, list[str]]:
    """All images below ``folder/CLASS/`` as (N, 3, size, size) uint8, and the class names in label order.

    Images are scaled so that the shorter side fits, then cropped at the centre; grey ones become RGB. Hidden
    files are passed over. ``classes``: the names of the training folder, if labels must agree with it.

    Raises :class:`DataError` that names the file or folder: a stray file, an unreadable image, an empty
    class, or a class that ``classes`` lacks.
    """
    files, classes = listing(folder, Policy(), classes)
    x = torch.empty(len(files), 3, size, size, dtype=torch.uint8)

    def fill(i: int) -> None:
        x[i] = _decode(files.path(i), size)

    with ThreadPoolExecutor() as pool:  # decoding releases the interpreter lock
        list(pool.map(fill, range(len(files))))
    return Split(x, files.y), classes


def _decode(path: str, size: int) -> torch.Tensor:
    try:
        with Image.open(path) as image:
            fitted = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BILINEAR)
    except Exception as error:  # a damaged file makes its decoder fail in any way
        raise DataError(f"{path}: cannot be read as an image ({error}). Replace or delete it.") from error
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1)
