"""The same activity under other weights: an intervention that needs no null space.

A forward pass is recorded, operation by operation, below autograd. Run again, each operation whose answer depends on
the input gives the recorded one, whatever the weights are now; what is computed from weights alone is computed anew. So
activity is the same to the last bit, and an update that changes has read a weight on its way back.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from plausible.core.attach import layer_type


class Trajectory:
    """Of a model's forward passes, in order.

    What a layer answers is activity, even to a constant, such as a table of positions.

    Args:
        inputs: what all other activity depends on.

    Attributes:
        passes: how many there were, when they were last recorded or repeated.
    """

    def __init__(self, inputs: Any) -> None:
        self.inputs = [t for t in tree_leaves(inputs) if isinstance(t, Tensor)]
        self.passes = 0
        self._answers: list[Tensor] = []

    @contextmanager
    def recorded(self, model: nn.Module) -> Iterator[None]:
        """Within, what happens in the forward of ``model`` is remembered."""
        self._answers, self.passes = [], 0
        with self._during_forward(model, _Pass(self.inputs, lambda answer: self._answers.append(answer.clone()))):
            yield

    @contextmanager
    def repeated(self, model: nn.Module) -> Iterator[None]:
        """Within, the same happens in the forward of ``model``, a copy of the one that was recorded."""
        left, self.passes = iter(self._answers), 0
        with self._during_forward(model, _Pass(self.inputs, lambda answer: answer.copy_(next(left)))):
            yield

    @contextmanager
    def _during_forward(self, model: nn.Module, mode: "_Pass") -> Iterator[None]:
        def enter(*_: Any) -> None:
            mode.__enter__()
            self.passes += 1

        def leave(*_: Any) -> None:
            mode.__exit__(None, None, None)

        def answered(_module: nn.Module, _inputs: Any, answer: Tensor) -> None:
            mode.activity(answer.data)  # not seen by autograd, which has recorded the layer

        handles = [
            model.register_forward_pre_hook(enter, prepend=True),
            *(layer.register_forward_hook(answered, prepend=True) for layer in model.modules() if layer_type(layer)),
            model.register_forward_hook(leave, always_call=True),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _Pass(TorchDispatchMode):
    """Hands over every answer that depends on the inputs."""

    def __init__(self, inputs: list[Tensor], hand: Any) -> None:
        super().__init__()
        self._hand = hand
        self._kept: list[Tensor] = []  # or another tensor would be given the address of a freed one
        self._active: set[int] = set()
        self._note(inputs)

    def _note(self, tensors: list[Tensor]) -> None:
        self._kept += tensors
        self._active |= {t.untyped_storage()._cdata for t in tensors}

    def activity(self, answer: Tensor) -> None:
        """What else must be held."""
        if answer.untyped_storage()._cdata not in self._active:
            self._hand(answer)
            self._note([answer])

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        taken = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        if not any(t.untyped_storage()._cdata in self._active for t in taken):
            return found
        here = {t.untyped_storage()._cdata for t in taken}
        answers = [t for t in tree_leaves(found) if isinstance(t, Tensor)]
        for answer in answers:
            # A view shows what its base holds, and that has been handed over already.
            if func._schema.is_mutable or answer.untyped_storage()._cdata not in here:
                self._hand(answer)
        self._note(answers)
        return found
