"""The multi-layer perceptron."""

from collections import OrderedDict
from math import prod

from torch import nn

from plausible.models.checks import one_of, whole
from plausible.models.soft_lif import SoftLIF

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "soft-lif": SoftLIF,
}


def mlp(
    *,
    shape: tuple[int, ...],
    classes: int,
    width: int = 256,
    depth: int = 2,
    activation: str = "relu",
    batch_norm: bool = False,
) -> nn.Sequential:
    """``depth`` hidden layers of ``width`` units and a linear readout, with PyTorch's default initialisation.

    shape: of one example, flattened first. depth 0 is a linear classifier. activation: relu, tanh, sigmoid, or
    soft-lif, the noisy rates of LIF neurons, which :func:`plausible.models.to_spikes` turns into spiking ones.
    batch_norm: normalise before each activation; the layer then has no bias of its own.
    """
    whole("width", width, 1)
    whole("depth", depth, 0)
    one_of("activation", activation, ACTIVATIONS)
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    fan_in = prod(shape)
    for i in range(1, depth + 1):
        layers[f"linear{i}"] = nn.Linear(fan_in, width, bias=not batch_norm)
        if batch_norm:
            layers[f"bn{i}"] = nn.BatchNorm1d(width)
        layers[f"{activation}{i}"] = ACTIVATIONS[activation]()
        fan_in = width
    layers["readout"] = nn.Linear(fan_in, classes)
    return nn.Sequential(layers)
