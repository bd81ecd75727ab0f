"""What a streamed image of any size becomes: a square, the centre of it or a random piece."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

Transform = Callable[[Tensor], Tensor]
"""(3, H, W) uint8 -> (3, size, size) uint8; what is random in it comes from torch's global generator."""

# Pieces of 8 to 100 % of the area and 3:4 to 4:3 in shape: torchvision's defaults, after Szegedy et al. (2015).
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def centre(size: int, resize: int) -> Transform:
    """The centre of the image, whose shorter side has ``resize`` pixels."""
    return v2.Compose([v2.Resize(resize, InterpolationMode.BILINEAR, antialias=True), v2.CenterCrop(size)])


def _flip(size: int, resize: int) -> Transform:
    return v2.Compose([centre(size, resize), v2.RandomHorizontalFlip()])


def _resized_crop_flip(size: int, resize: int) -> Transform:
    del resize  # the piece has a random size
    return v2.Compose([v2.RandomResizedCrop(size, AREA, RATIO, antialias=True), v2.RandomHorizontalFlip()])


CROPS: dict[str, Callable[[int, int], Transform]] = {
    "none": centre,
    "flip": _flip,
    "resized-crop-flip": _resized_crop_flip,
}
"""Augmentations of streamed images by name: (size, resize) -> transform."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's global CPU generator seeded within the block, and afterwards as it was."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)  # unlike torch.manual_seed, touches no GPU
    try:
        yield
    finally:
        torch.set_rng_state(before)
