"""What stands where weights meet activity outside of layers: in recurrent nets, and in functions of a module's own."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plausible.core import recurrent
from plausible.core.attach import full_name, plain_forward
from plausible.core.errors import CoverageError
from plausible.core.products import Product, cast, fan_scale
from plausible.core.uses import Kept, Watch, Weight, Within, constants, parameter
from plausible.functional import asymmetric
from plausible.functional.asymmetric import Feedback

_untraced = torch.compiler.disable(
    plain_forward, reason="the module makes a weight by a function that torch.compile does not show to modes"
)


class Stand(Protocol):
    """Stands where one weight meets activity."""

    def answer(self, product: Product, kept: Kept | None, plain: Callable[[], Tensor]) -> Tensor:
        """The response. ``kept`` brings what stands for the Parameter into shape; ``plain`` is torch's own response."""
        ...

    def _apply(self, fn: Any, recurse: bool = True) -> Any: ...


class Making(Protocol):
    """Makes what stands for a weight; the same, if asked for the same Parameter twice."""

    def __call__(
        self, name: str, weight: Tensor, scale: float, made_of: tuple[str, ...], *, computed: bool = False
    ) -> Stand:
        """For a weight, of which ``scale`` is that of :class:`Product`, made of the Parameters with these names."""
        ...


class RecurrentSite:
    """Stands where the forward of one of torch's recurrent layers or cells was.

    Args:
        layer: it.
        name: its name in the model.
        make: makes what stands for each of its weights.
    """

    def __init__(self, layer: nn.Module, name: str, make: Making) -> None:
        self.called = False
        self.stands: dict[str, Stand] = {}
        for key in recurrent.recurrent_weights(layer):
            weight, full = layer.get_parameter(key), full_name(name, key)
            self.stands[key] = make(full, weight, fan_scale(weight.shape[1]), (full,))

    def run(self, layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """What the layer's own forward returns."""
        self.called = True

        def linear(name: str, x: Tensor) -> Tensor:
            weight, bias = getattr(layer, f"weight_{name}"), getattr(layer, f"bias_{name}", None)

            def run(feedback: Feedback, x: Tensor) -> Tensor:
                return asymmetric.linear(*cast(x, weight, bias), feedback)

            product = Product(weight, (x,), 1.0, run)
            return self.stands[f"weight_{name}"].answer(product, None, lambda: F.linear(x, weight, bias))

        return recurrent.run(layer, linear, *args, **kwargs)

    def _apply(self, fn: Any, recurse: bool = True) -> None:
        for stand in self.stands.values():
            stand._apply(fn)


class UsesSite:
    """Stands where the forward of a module was that uses weights in functions of its own.

    Args:
        model: the whole.
        name: of the module.
        within: what the example has shown of it.
        make: makes what stands for each weight.
    """

    def __init__(self, model: nn.Module, name: str, within: Within, make: Making) -> None:
        self.called = False
        uses, self.traced = within
        layer = model.get_submodule(name)
        kept = {use.names[0]: use.scale for use in uses if not use.computed}
        self.places: list[tuple[nn.Module, str, str, Stand | None]] = []
        for full in dict.fromkeys(name for use in uses for name in use.names):
            where, _, key = full.rpartition(".")
            stand = make(full, model.get_parameter(full), kept[full], (full,)) if full in kept else None
            self.places.append((model.get_submodule(where), key, full, stand))
        self.computed = [
            make(full_name(name, f"computed-{k}"), use.weight, use.scale, use.names, computed=True)
            for k, use in enumerate(use for use in uses if use.computed)
        ]
        self.constants = [where for where, _ in constants(layer)]

    def run(self, layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """What the module's own forward returns, with somebody's answer where it multiplies activity by a weight."""
        self.called = True
        stands = {name: stand for _, _, name, stand in self.places}
        left = list(self.computed)

        def answer(product: Product, weight: Weight, plain: Callable[[], Any]) -> Any:
            stand = stands.get(weight.names[0]) if weight.kept is not None else left.pop(0) if left else None
            if stand is None:
                raise CoverageError(
                    f"{type(layer).__name__} multiplies activity by a weight made of {', '.join(weight.names)}, which "
                    "the example at binding did not show. Bind with an example that takes the same way."
                )
            return stand.answer(product, weight.kept, plain)

        weights = [parameter(getattr(owner, key), name) for owner, key, name, _ in self.places]
        with Watch(weights, [getattr(owner, key) for owner, key in self.constants], answer):
            return (plain_forward if self.traced else _untraced)(layer, *args, **kwargs)

    def _apply(self, fn: Any, recurse: bool = True) -> None:
        for stand in (*(place[3] for place in self.places), *self.computed):
            if stand is not None:
                stand._apply(fn)
