"""Put a rule onto the layers of the user's own model, in place, and take it off again.

A layer is attached by changing its class to a subclass of its own class, whose ``forward`` asks a *site*.
The Parameters, the ``state_dict`` keys, the hooks and ``isinstance`` stay as they were, and so does an
optimiser that was built before. The site is held by the learner; the layer only refers to it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol

import torch
from torch import nn

from plausible.core.errors import ConfigurationError

SITE = "_plausible_site"

LAYERS: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""The layers with a weight that families know how to teach."""

EXACT: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.Embedding,
)
"""Trainable layers that carry no error across a weight matrix: their gradient stays exact (Xiao et al. 2018)."""


class Site(Protocol):
    """Stands where a layer's forward was.

    Attributes:
        called: whether a forward pass has come by yet.
    """

    called: bool

    def run(self, layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """The layer's response to its arguments."""
        ...

    def _apply(self, fn: Any, recurse: bool = True) -> Any: ...


class Attached(nn.Module):
    """Mixed into a layer's class while a rule is bound to it."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The layer's response, through its site."""
        return self.__dict__[SITE].run(self, *args, **kwargs)

    def _apply(self, fn: Any, recurse: bool = True) -> "Attached":
        # model.to(...) must move the feedback too, although the model does not own it.
        self.__dict__[SITE]._apply(fn)
        return super()._apply(fn, recurse)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # The class is made at run time, so pickle and deepcopy are told how to make it again.
        return _revive, (_plain_class(type(self)),), self.__dict__


@cache
def _attached_class(plain: type[nn.Module]) -> type[nn.Module]:
    return type(plain.__name__, (Attached, plain), {"__module__": plain.__module__, "__doc__": plain.__doc__})


def _plain_class(attached: type[nn.Module]) -> type[nn.Module]:
    return attached.__mro__[2]


def _revive(plain: type[nn.Module]) -> nn.Module:
    cls = _attached_class(plain)
    return cls.__new__(cls)


def attach(layer: nn.Module, site: Site) -> None:
    """Let ``site`` stand where the forward of ``layer`` was."""
    layer.__dict__[SITE] = site
    layer.__class__ = _attached_class(type(layer))


def detach(model: nn.Module) -> None:
    """Give every attached layer of ``model`` its own class and forward back."""
    for layer in model.modules():
        if isinstance(layer, Attached):
            layer.__class__ = _plain_class(type(layer))  # pyright: ignore[reportAttributeAccessIssue]
            del layer.__dict__[SITE]


def plain_forward(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """What the layer would answer if it were not attached."""
    return _plain_class(type(layer)).forward(layer, *args, **kwargs)


def layer_type(module: nn.Module) -> type[nn.Module] | None:
    """The entry of :data:`LAYERS` whose mathematics ``module`` does, or None.

    A subclass counts if it does the same: if it overrides neither ``forward`` nor ``_conv_forward``, and its
    weight is a Parameter of its own, rather than computed from others (weight or spectral normalisation).
    """
    cls = type(module)
    if "weight" not in module._parameters:
        return None
    for base in LAYERS:
        if issubclass(cls, base):
            methods = ("forward", "_conv_forward") if issubclass(base, nn.modules.conv._ConvNd) else ("forward",)
            same = all(getattr(unattached(cls), m) is getattr(base, m) for m in methods)
            return base if same else None
    return None


def unattached(cls: type[nn.Module]) -> type[nn.Module]:
    """The class that a layer has without a site."""
    return _plain_class(cls) if issubclass(cls, Attached) else cls


def trainable_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module with trainable parameters of its own, once, with its name, in order of registration."""
    for name, module in model.named_modules():
        if any(p.requires_grad for p in module.parameters(recurse=False)):
            yield name, module


def refuse_if_bound(model: nn.Module) -> None:
    """A model obeys one rule at a time."""
    if any(isinstance(module, Attached) for module in model.modules()):
        raise ConfigurationError(
            "This model is bound to a rule already. Give it back with plausible.release(learner) first, "
            "or bind the new rule to a copy.deepcopy of it made before."
        )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards each module's own again."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def full_name(module: str, key: str) -> str:
    """The model's name of what a module of that name calls ``key``."""
    return f"{module}.{key}" if module else key


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters live."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))
