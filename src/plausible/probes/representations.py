"""What the layers of a net answer to a batch, by name: for CKA, RSA and other people's tools."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from plausible.core.attach import device_of, evaluating
from plausible.core.errors import ConfigurationError, unknown
from plausible.core.learner import Learner
from plausible.core.rule import Inputs
from plausible.functional.random import random_state, replayed


def representations(learner: Learner, x: Inputs, layers: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Show a batch to a copy of the learner, in evaluation mode and without gradients, and keep what its layers answer.

    The learner and the random state stay as they are.

    Args:
        learner: of any model.
        x: inputs, as ``learner.learn`` takes them.
        layers: names of modules of ``learner.model``; by default all that have no module within, such as weight layers,
            normalisation and activation functions. What a model computes in functions no module shows.

    Returns:
        By the module's name, in the order in which they answered, a contiguous tensor that shares no memory: what
        safetensors and NumPy store as they are. Of a tuple it is the first entry. A module that is called again
        answers under ``name:2``, ``name:3``, …

    Raises:
        UnknownName: the model has no module of that name.
        ConfigurationError: a module that was asked for was not called, or answered with something else than a tensor.
    """
    device = device_of(learner.model)
    with replayed(device, random_state(device)):
        copy = deepcopy(learner)
        copy.reset()
        modules = dict(copy.model.named_modules())
        if layers is None:
            wanted = [name for name, module in modules.items() if not any(module.children())]
        else:
            wanted = list(layers)
            for name in wanted:
                if name not in modules:
                    raise unknown("module of this model", name, filter(None, modules))
        with evaluating(copy.model), torch.no_grad(), _heard({name: modules[name] for name in wanted}) as found:
            copy(x)
    if layers is not None and (silent := [name for name in wanted if name not in found]):
        raise ConfigurationError(
            f"{', '.join(silent)}: not called in this forward pass, or answered with something else than a tensor. "
            "Ask for the modules within, or leave the names out to see which answer."
        )
    return found


@contextmanager
def _heard(modules: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    found: dict[str, Tensor] = {}
    calls = dict.fromkeys(modules, 0)

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hear(module: nn.Module, inputs: Any, answer: Any) -> None:
            answer = answer[0] if isinstance(answer, tuple) and answer else answer
            if isinstance(answer, Tensor):
                calls[name] += 1
                key = name if calls[name] == 1 else f"{name}:{calls[name]}"
                # A copy, for an activation function after it may work in place.
                found[key] = answer.detach().clone(memory_format=torch.contiguous_format)

        return hear

    handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
