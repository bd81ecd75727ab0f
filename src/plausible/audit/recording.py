"""Watches what passes through the weight layers of a model, and in which order."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor, nn

from plausible.core.attach import LAYERS


@dataclass
class Recording:
    """What the weight layers met, call by call.

    Attributes:
        inputs: by layer, what entered it (its presynaptic activity): a tensor for each call.
        outputs: by layer, what left it.
        events: the layers' names in the order of their calls.
    """

    inputs: dict[str, list[Tensor]] = field(default_factory=dict)
    outputs: dict[str, list[Tensor]] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)

    @property
    def order(self) -> list[str]:
        """The layers in the order of their first calls: upstream first."""
        return list(dict.fromkeys(self.events))


def weight_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The linear and convolutional layers with a weight of their own, by name.

    Classes derived from them count, whatever their ``forward`` does: foreign code puts its backward pass there.
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, LAYERS) and "weight" in module._parameters
    }


@contextmanager
def recorded(model: nn.Module) -> Iterator[Recording]:
    """Record every call of every weight layer of ``model`` until the end of the block."""
    found = Recording()
    handles = []
    for name, layer in weight_layers(model).items():

        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, name: str = name) -> None:
            found.events.append(name)
            found.inputs.setdefault(name, []).append(inputs[0].detach().clone())
            found.outputs.setdefault(name, []).append(output.detach().clone())

        handles.append(layer.register_forward_hook(hook))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
