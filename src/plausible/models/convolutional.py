"""Small convolutional networks without shortcuts."""

from collections import OrderedDict

from torch import nn

from plausible.models.checks import image_shape, whole


def lenet(*, shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """BioTorch's LeNet for CIFAR (Sanfiz & Akrout 2021): no normalisation, valid 3x3 convolutions.

    conv 32 - pool - conv 64 - pool - conv 128 - average over positions - 256 - readout, ReLU throughout,
    PyTorch's default initialisation. Images of any size from 18x18: below, the third convolution has no
    place.
    """
    channels, _, _ = image_shape(shape, "lenet", smallest=18)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 32, 3),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(32, 64, 3),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            conv3=nn.Conv2d(64, 128, 3),
            relu3=nn.ReLU(),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            linear1=nn.Linear(128, 256),
            relu4=nn.ReLU(),
            readout=nn.Linear(256, classes),
        )
    )


def small_conv(*, shape: tuple[int, ...], classes: int, width: int = 16, batch_norm: bool = True) -> nn.Sequential:
    """Three strided 3x3 convolutions of ``width``, 2 and 4 times as many channels, and a linear readout.

    Every layer halves the image (rounding up), so that any size works; an epoch of Fashion-MNIST takes some
    seconds on one core. batch_norm: normalise before each ReLU; the convolution then has no bias of its own.
    PyTorch's default initialisation.
    """
    channels, height, side = image_shape(shape, "small-conv")
    whole("width", width, 1)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, filters in enumerate((width, 2 * width, 4 * width), start=1):
        layers[f"conv{i}"] = nn.Conv2d(channels, filters, 3, stride=2, padding=1, bias=not batch_norm)
        if batch_norm:
            layers[f"bn{i}"] = nn.BatchNorm2d(filters)
        layers[f"relu{i}"] = nn.ReLU()
        channels, height, side = filters, -(-height // 2), -(-side // 2)
    layers["flatten"] = nn.Flatten()
    layers["readout"] = nn.Linear(channels * height * side, classes)
    return nn.Sequential(layers)
