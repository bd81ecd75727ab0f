"""Random crops and flips of a whole batch at once, on whatever device it is."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


@dataclass(frozen=True)
class Augmentation:
    """What is done to every training image, each with its own random numbers.

    flip: mirror left-right with probability one half.
    pad: shift by up to so many pixels in each direction, zeros coming in (a random crop of the padded image).
    """

    flip: bool = False
    pad: int = 0

    def draw(self, n: int, generator: Generator) -> Tensor:
        """The choices for n images, (n, 3) int64: row and column of the crop, 0 … 2·pad; flip, 0 or 1."""
        corner = torch.randint(2 * self.pad + 1, (n, 2), generator=generator)
        flip = torch.randint(1 + self.flip, (n, 1), generator=generator)
        return torch.cat([corner, flip], 1)

    def apply(self, x: Tensor, choices: Tensor) -> Tensor:
        """Images (B, C, H, W) of any dtype -> images of the same shape; choices (B, 3) as drawn."""
        row, column, flip = choices.unbind(1)
        if self.pad:
            height, width = x.shape[-2:]
            # Every crop of every padded image as a view; indexing then copies one per image.
            crops = F.pad(x, (self.pad,) * 4).unfold(2, height, 1).unfold(3, width, 1)
            x = crops[torch.arange(len(x), device=x.device), :, row, column]
        if self.flip:
            x = torch.where(flip.bool().view(-1, 1, 1, 1), x.flip(-1), x)
        return x


AUGMENTATIONS = {
    "none": Augmentation(),
    "flip": Augmentation(flip=True),
    "crop-flip": Augmentation(flip=True, pad=4),
}
