"""A name -> a model for images of a given shape and a number of classes."""

from collections.abc import Callable
from typing import Any

from torch import nn

from plausible.core.errors import ConfigurationError, unknown
from plausible.core.names import check_options, resolve
from plausible.models.convolutional import avg_conv, lenet, small_conv
from plausible.models.lif_mlp import lif_mlp
from plausible.models.perceptron import mlp
from plausible.models.residual import resnet18, resnet20, resnet56
from plausible.models.spiking import rsnn

_BUILT_IN: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "lenet": lenet,
    "small-conv": small_conv,
    "avg-conv": avg_conv,
    "resnet18": resnet18,
    "resnet20": resnet20,
    "resnet56": resnet56,
    "rsnn": rsnn,
    "lif-mlp": lif_mlp,
}


def build(name: str, *, shape: tuple[int, ...], classes: int, **options: Any) -> nn.Module:
    """A freshly initialised model that maps (B, *shape) float32 to logits (B, classes).

    name: a built-in (:func:`names`), or ``package.module:callable``, which is called with ``shape=``,
        ``classes=`` and the options and returns a module.
    shape: of one example: (C, H, W), or (D,) for vectors, which only ``mlp`` takes.
    options: see the model's own function.

    Weights come from PyTorch's global random state: seed it first. Raises :class:`UnknownName`, or
    :class:`ConfigurationError` for options, values or shapes that the model cannot take.
    """
    if ":" in name:
        return _user(name, shape, classes, options)
    if name not in _BUILT_IN:
        raise unknown("model", name, [*_BUILT_IN, "package.module:callable"])
    check_options(_BUILT_IN[name], options, kind=f"model {name!r}", supplied=("shape", "classes"))
    return _BUILT_IN[name](shape=shape, classes=classes, **options)


def names() -> list[str]:
    """The built-in models."""
    return sorted(_BUILT_IN)


def _user(name: str, shape: tuple[int, ...], classes: int, options: dict[str, Any]) -> nn.Module:
    function = resolve(name, "model")
    check_options(function, options, kind=f"model {name!r}", supplied=("shape", "classes"))
    try:
        model = function(shape=shape, classes=classes, **options)
    except Exception as error:  # the user's code may fail in any way
        raise ConfigurationError(
            f"model {name!r}, called with shape={shape}, classes={classes} and its options, raised "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(model, nn.Module):
        raise ConfigurationError(f"model {name!r} returned a {type(model).__name__}; expected is a torch.nn.Module.")
    return model
