"""The bytes of an image file -> its pixels, in three channels of eight bits."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_dtype

from plausible.core.errors import DataError

try:
    from torchvision.io import decode_image
except ImportError:  # torchvision means to give it up; Pillow decodes to the same values, in half as long again
    decode_image = None

_THEIRS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF")
"""How the files begin that torchvision decodes: JPEG, PNG, GIF, WebP. The name does not matter."""


def decode(content: bytes) -> Tensor:
    """(3, H, W) uint8, of any file that torchvision or Pillow can read.

    Grey, CMYK and palettes become RGB; transparency is dropped; 16 bits are scaled to 8; of an animation the first
    picture is taken; how the camera was held (EXIF) is not looked at, as in torchvision's ImageFolder.

    Raises:
        DataError: it cannot be decoded. Damage that the decoder bridges goes unnoticed.
    """
    try:
        if decode_image is not None and content.startswith(_THEIRS):
            encoded = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            x = decode_image(encoded, mode="RGB")  # pyright: ignore[reportArgumentType]
            return to_dtype(x if x.ndim == 3 else x[0], torch.uint8, scale=True)
        return by_pillow(content)
    except Exception as error:  # a damaged file makes its decoder fail in any way
        raise DataError(f"cannot be decoded as an image ({_reason(content, error)})") from error


def by_pillow(content: bytes) -> Tensor:
    """As :func:`decode`, by Pillow alone; whatever it raises."""
    with Image.open(io.BytesIO(content)) as image:
        if image.mode.startswith("I;16"):  # which Pillow would cut off at 255
            return to_dtype(torch.from_numpy(np.array(image)).expand(3, -1, -1), torch.uint8, scale=True)
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def _reason(content: bytes, error: Exception) -> str:
    if not content:
        return "it is empty"
    # torchvision begins with where in its source that was, Pillow ends with where in ours.
    said = str(error).splitlines()[0].rpartition(".cpp:")[2].partition(", ")[2] or str(error)
    return "no known format" if "cannot identify" in said else said.rstrip(".").lower()
