"""Residual networks: He et al. (2016) for CIFAR, and torchvision's ResNet-18."""

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from plausible.models.checks import image_shape, one_of

LARGEST_CIFAR = 64  # pixels; larger images get the ImageNet stem


class PadShortcut(nn.Module):
    """He's option A: every ``stride``-th pixel, and zeros in the new channels; nothing to learn."""

    def __init__(self, channels_in: int, channels_out: int, stride: int):
        super().__init__()
        self.extra, self.stride = channels_out - channels_in, stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride), sides rounded up."""
        return F.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


def projection(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    """He's option B: a 1x1 convolution with batch normalisation."""
    conv = nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(channels_out)))


SHORTCUTS = {"A": PadShortcut, "B": projection}


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut around them; ``stride`` is that of the first."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, shortcut: str):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        same = channels_in == channels_out and stride == 1
        self.shortcut = nn.Identity() if same else SHORTCUTS[shortcut](channels_in, channels_out, stride)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """relu(F(x) + shortcut(x)): (B, C_in, H, W) -> (B, C_out, H / stride, W / stride), rounded up."""
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + self.shortcut(x))


def _cifar_resnet(name: str, blocks: int, shape: tuple[int, ...], classes: int, shortcut: str) -> nn.Sequential:
    channels, _, _ = image_shape(shape, name)
    one_of("shortcut", shortcut, SHORTCUTS)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(channels, 16, 3, padding=1, bias=False), bn1=nn.BatchNorm2d(16), relu1=nn.ReLU()
    )
    before = 16
    for stage, width in enumerate((16, 32, 64), start=1):
        strides = [1 if stage == 1 else 2] + [1] * (blocks - 1)
        layers[f"stage{stage}"] = nn.Sequential(
            *(Block(before if i == 0 else width, width, stride, shortcut) for i, stride in enumerate(strides))
        )
        before = width
    layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["readout"] = nn.Linear(64, classes)
    model = nn.Sequential(layers)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            _he(module)
    return model


def _he(conv: nn.Conv2d) -> nn.Conv2d:
    """He's start, also torchvision's: N(0, 2 / (k·k·C_out))."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def resnet20(*, shape: tuple[int, ...], classes: int, shortcut: str = "A") -> nn.Sequential:
    """ResNet-20 for small images: 3x3 stem, three stages of 3 blocks with 16, 32 and 64 channels.

    Convolutions start as He's, N(0, 2 / (k·k·C_out)); the readout as PyTorch's.
    shortcut: where the width changes, "A" pads with zeros (He's choice on CIFAR), "B" projects by a 1x1
    convolution.
    """
    return _cifar_resnet("resnet20", 3, shape, classes, shortcut)


def resnet56(*, shape: tuple[int, ...], classes: int, shortcut: str = "A") -> nn.Sequential:
    """ResNet-56: as :func:`resnet20`, with stages of 9 blocks."""
    return _cifar_resnet("resnet56", 9, shape, classes, shortcut)


def resnet18(*, shape: tuple[int, ...], classes: int, stem: str | None = None) -> nn.Module:
    """torchvision's ResNet-18, untrained, with ReLUs that do not work in place.

    stem: "imagenet" is torchvision's own (7x7, stride 2, then a max pool); "cifar" a 3x3 convolution of
    stride 1 and no pool. By default "cifar" for images of up to 64 pixels, "imagenet" for larger ones.
    """
    from torchvision.models import resnet18 as torchvision_resnet18  # here: it takes seconds to import

    channels, height, width = image_shape(shape, "resnet18")
    stem = stem or ("cifar" if max(height, width) <= LARGEST_CIFAR else "imagenet")
    one_of("stem", stem, ("cifar", "imagenet"))
    model = torchvision_resnet18(weights=None, num_classes=classes)
    if stem == "cifar":
        model.conv1 = _he(nn.Conv2d(channels, 64, 3, padding=1, bias=False))
        model.register_module("maxpool", nn.Identity())
    elif channels != 3:
        model.conv1 = _he(nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False))
    for module in model.modules():
        if isinstance(module, nn.ReLU):  # in place, it would change what a rule holds by detach()
            module.inplace = False
    return model
