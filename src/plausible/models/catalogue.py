"""A name -> a model for images of a given shape and a number of classes."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from plausible.core.errors import ConfigurationError, unknown
from plausible.core.names import check_options, resolve
from plausible.models.alexnet import alexnet
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
    "alexnet": alexnet,
    "resnet18": resnet18,
    "resnet20": resnet20,
    "resnet56": resnet56,
    "rsnn": rsnn,
    "lif-mlp": lif_mlp,
}


THEIRS = {"weights", "pretrained"}
"""What builders of torchvision and timm take, besides options that they hand on."""


def build(name: str, *, shape: tuple[int, ...], classes: int, **options: Any) -> nn.Module:
    """A freshly initialised model that maps (B, *shape) float32 to logits (B, classes).

    name: a built-in (:func:`names`), or ``package.module:callable``, which is called with ``shape=`` and ``classes=``,
        or, if it names neither, as in torchvision and timm, with ``num_classes=``; and with the options. It returns a
        module.
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


def _supplied(function: Callable[..., Any], shape: tuple[int, ...], classes: int) -> dict[str, Any]:
    """What a user's callable is told of the data."""
    ours = {"shape": shape, "classes": classes}
    try:
        named = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some callables written in C do not tell
        return ours
    any_name = any(p.kind is p.VAR_KEYWORD for p in named.values())
    if not ours.keys() & named.keys() and ("num_classes" in named or (any_name and named.keys() & THEIRS)):
        return {"num_classes": classes}
    return ours


def _user(name: str, shape: tuple[int, ...], classes: int, options: dict[str, Any]) -> nn.Module:
    function = resolve(name, "model")
    supplied = _supplied(function, shape, classes)
    check_options(function, options, kind=f"model {name!r}", supplied=tuple(supplied))
    try:
        model = function(**supplied, **options)
    except Exception as error:  # the user's code may fail in any way
        called = ", ".join(f"{key}={value}" for key, value in supplied.items())
        raise ConfigurationError(
            f"model {name!r}, called with {called} and its options, raised {type(error).__name__}: {error}"
        ) from error
    if not isinstance(model, nn.Module):
        raise ConfigurationError(f"model {name!r} returned a {type(model).__name__}; expected is a torch.nn.Module.")
    return model
