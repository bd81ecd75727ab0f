"""Small convolutional networks without shortcuts."""

from collections import OrderedDict

from torch import nn

from plausible.models.checks import fraction, image_shape, one_of, whole
from plausible.models.perceptron import ACTIVATIONS


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


def avg_conv(
    *,
    shape: tuple[int, ...],
    classes: int,
    width: int = 32,
    kernel: int = 3,
    activation: str = "relu",
    dropout: float = 0.5,
) -> nn.Sequential:
    """Three convolutions, average pooling after the first two, dropout before the readout: with the activation of a
    neuron, nothing that :func:`plausible.models.to_spikes` cannot turn into spikes.

    conv ``width`` - pool - conv 2 ``width`` - pool - conv 2 ``width`` - dropout - readout. Convolutions keep the
    image's size, pools halve it. After the nets of Hunsberger & Eliasmith (2016), who crop CIFAR to 24x24 and have
    two locally connected layers in the place of the third convolution. kernel: side of the first two convolutions,
    odd; the third has 3. activation: as for :func:`plausible.models.perceptron.mlp`. dropout: the part of what the
    readout sees that is dropped in training. PyTorch's default initialisation.
    """
    channels, height, side = image_shape(shape, "avg-conv", smallest=4)
    whole("width", width, 1)
    one_of("kernel", kernel, (1, 3, 5, 7))
    one_of("activation", activation, ACTIVATIONS)
    fraction("dropout", dropout)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (filters, size) in enumerate(((width, kernel), (2 * width, kernel), (2 * width, 3)), start=1):
        layers[f"conv{i}"] = nn.Conv2d(channels, filters, size, padding=size // 2)
        layers[f"{activation}{i}"] = ACTIVATIONS[activation]()
        if i < 3:
            layers[f"pool{i}"] = nn.AvgPool2d(2)
        channels = filters
    layers["flatten"] = nn.Flatten()
    layers["dropout"] = nn.Dropout(dropout)
    layers["readout"] = nn.Linear(channels * (height // 4) * (side // 4), classes)
    return nn.Sequential(layers)
