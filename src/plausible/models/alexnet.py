"""AlexNet as Xiao et al. (2018) trained it: normalised, without dropout."""

from collections import OrderedDict

from torch import nn

from plausible.models.checks import image_shape

CONVOLUTIONS = (
    (64, 11, 4, 2, True),
    (192, 5, 1, 2, True),
    (384, 3, 1, 1, False),
    (256, 3, 1, 1, False),
    (256, 3, 1, 1, True),
)
"""(channels, kernel, stride, padding, whether a pooling follows)."""

SMALLEST = 63
"""Pixels that leave the last pooling something to pool."""


def alexnet(*, shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """torchvision's AlexNet (Krizhevsky 2014, "one weird trick") with batch normalisation before every ReLU.

    As in the code of Xiao et al. (2018): no bias before a normalisation, no dropout; weights start as PyTorch's.
    """
    channels, _, _ = image_shape(shape, "alexnet", SMALLEST)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    before = channels
    for number, (width, kernel, stride, padding, pooled) in enumerate(CONVOLUTIONS, start=1):
        layers[f"conv{number}"] = nn.Conv2d(before, width, kernel, stride, padding, bias=False)
        layers[f"bn{number}"], layers[f"relu{number}"] = nn.BatchNorm2d(width), nn.ReLU()
        if pooled:
            layers[f"pool{number}"] = nn.MaxPool2d(3, 2)
        before = width
    layers["avgpool"], layers["flatten"] = nn.AdaptiveAvgPool2d(6), nn.Flatten()
    for number, (inputs, width) in enumerate(((256 * 6 * 6, 4096), (4096, 4096)), start=6):
        layers[f"fc{number}"] = nn.Linear(inputs, width, bias=False)
        layers[f"bn{number}"], layers[f"relu{number}"] = nn.BatchNorm1d(width), nn.ReLU()
    layers["readout"] = nn.Linear(4096, classes)
    return nn.Sequential(layers)
