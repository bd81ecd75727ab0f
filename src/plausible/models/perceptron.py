"""The multi-layer perceptron."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from torch import nn

from plausible.core.errors import ConfigurationError
from plausible.core.names import check_options
from plausible.functional.lif import Cell
from plausible.functional.lif_rate import LIFRate
from plausible.models.checks import one_of, whole
from plausible.models.soft_lif import CELL, SoftLIF


def lif(
    *,
    tau_rc: float = 0.02,
    tau_ref: float = 0.002,
    amplitude: float = CELL.amplitude,
    derivative: str = "step",
    height: float = 1.0,
    bias: float = 1.0,
) -> LIFRate:
    """Rates of LIF cells; with these constants 1 at twice the threshold. See :class:`LIFRate`."""
    return LIFRate(Cell(tau_rc=tau_rc, tau_ref=tau_ref, amplitude=amplitude), derivative, height, bias)


ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "lif": lif,
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
    activation_options: Mapping[str, Any] | None = None,
) -> nn.Sequential:
    """``depth`` hidden layers of ``width`` units and a linear readout, with PyTorch's default initialisation.

    shape: of one example, flattened first. depth 0 is a linear classifier. activation: relu, tanh, sigmoid, lif, or
    soft-lif, the noisy rates of LIF neurons, which :func:`plausible.models.to_spikes` turns into spiking ones.
    batch_norm: normalise before each activation; the layer then has no bias of its own. activation_options: of lif, the
    constants of its cells (tau_rc and tau_ref in seconds, amplitude) and the derivative to learn by; of soft-lif, its
    own.
    """
    whole("width", width, 1)
    whole("depth", depth, 0)
    one_of("activation", activation, ACTIVATIONS)
    given = dict(activation_options or {})
    check_options(ACTIVATIONS[activation], given, kind=f"activation {activation!r}")
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    fan_in = prod(shape)
    for i in range(1, depth + 1):
        layers[f"linear{i}"] = nn.Linear(fan_in, width, bias=not batch_norm)
        if batch_norm:
            layers[f"bn{i}"] = nn.BatchNorm1d(width)
        try:
            layers[f"{activation}{i}"] = ACTIVATIONS[activation](**given)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"activation {activation!r}: {error}") from error
        fan_in = width
    layers["readout"] = nn.Linear(fan_in, classes)
    return nn.Sequential(layers)
