"""One copy of foreign code, behind the same face as a copy of a learner."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from plausible.audit.criterion import Unmeasurable
from plausible.audit.streams import RandomStreams
from plausible.audit.subject import Specimen
from plausible.core.context import Tap
from plausible.core.errors import ConfigurationError


@dataclass(frozen=True)
class Foreign:
    """What a factory returns; ``(model, step)`` and any object with these two attributes will do as well.

    Attributes:
        model: the network.
        step: one step's learning from (x, y); it fills ``p.grad``, or moves the weights. What it returns is ignored.
        respond: the output for ``x``, if that is not ``model(x)``.
        reset: forgets the state of all streams, if there is any.
        time_axis: the dimension of ``x`` along which time runs, if it does.
    """

    model: nn.Module
    step: Callable[[Tensor, Tensor], object]
    respond: Callable[[Tensor], Tensor] | None = None
    reset: Callable[[], object] | None = None
    time_axis: int | None = None

    @classmethod
    def of(cls, found: Any, name: str) -> Self:
        """What the factory called ``name`` returned, as a :class:`Foreign`.

        Raises:
            ConfigurationError: there is no model, or no step.
        """
        if isinstance(found, cls):
            return found
        if isinstance(found, tuple):
            found = cls(*found) if 2 <= len(found) <= 5 else None
        optional = {key: getattr(found, key, None) for key in ("respond", "reset", "time_axis")}
        made = cls(getattr(found, "model", None), getattr(found, "step", None), **optional)  # pyright: ignore[reportArgumentType]
        if not isinstance(made.model, nn.Module) or not callable(made.step):
            raise ConfigurationError(
                f"audit target {name}: the factory must return (model, step), or an object with a torch module as "
                "its `model` and a method `step(x, y)` that fills p.grad or moves the weights."
            )
        return made


class ForeignSpecimen(Specimen):
    """One copy of foreign code, with random streams of its own.

    Its update is what its step does to the weights, if it moves weights that got a gradient, or if there are no
    gradients at all: an optimiser may apply something else than it found in ``.grad``. Where it moves them ``along``
    their gradients, these stand for what it does, which a normalising optimiser, such as Adam, would blur. Otherwise it
    is the gradients, and other weights that moved, such as the rule's own feedback, are left as they are.
    """

    optimizers = (torch.optim.SGD, torch.optim.AdamW)

    def __init__(
        self, foreign: Foreign, streams: RandomStreams, dtype: torch.dtype, *, hold: bool, along: bool
    ) -> None:
        self._foreign, self._streams, self._hold, self._along = foreign, streams, hold, along
        self.model, self.dtype, self.time_axis = foreign.model.to(dtype), dtype, foreign.time_axis

    def learn(self, x: Tensor, y: Tensor) -> None:
        """See :meth:`Specimen.learn`."""
        so_far, before = self.updates(), {name: p.detach().clone() for name, p in self.model.named_parameters()}
        update, moved = self.step(x, y)
        after = dict(self.model.named_parameters())  # anew: a step may replace a Parameter
        if moved and (not update or moved.keys() & update.keys()):
            update = {name: update[name] for name in moved} if self._along and moved.keys() <= update.keys() else moved
            if self._hold:
                with torch.no_grad():
                    for name in moved:
                        after[name].copy_(before[name])
        self.clear()
        for name in so_far.keys() | update.keys():
            parts = [part[name] for part in (so_far, update) if name in part]
            after[name].grad = parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def step(self, x: Tensor, y: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Its own step and nothing else: the gradients it leaves, and by how much it moves weights against them."""
        self.clear()  # so that a gradient that is there afterwards is this step's
        before = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        with self._streams(), torch.enable_grad():
            self._foreign.step(self._cast(x), y)
        moved = {name: before[name] - p.detach() for name, p in self.model.named_parameters()}
        return self.updates(), {name: by for name, by in moved.items() if by.any()}

    def updates(self) -> dict[str, Tensor]:
        """See :meth:`Specimen.updates`."""
        return {name: p.grad.detach().clone() for name, p in self.model.named_parameters() if p.grad is not None}

    def clear(self) -> None:
        """See :meth:`Specimen.clear`."""
        for p in self.model.parameters():
            p.grad = None

    def respond(self, x: Tensor) -> Tensor:
        """See :meth:`Specimen.respond`."""
        with self._streams(), torch.no_grad():
            return (self._foreign.respond or self.model)(self._cast(x))

    def reset(self) -> None:
        """See :meth:`Specimen.reset`."""
        if self._foreign.reset:
            self._foreign.reset()

    def optimizer(self, lr: float, kind: type[torch.optim.Optimizer] = torch.optim.SGD) -> torch.optim.Optimizer:
        """On the whole model; whatever its own optimiser does happens in its step."""
        return kind(self.model.parameters(), lr=lr, weight_decay=0.0)  # type: ignore[call-arg]

    def feedback_weights(self) -> dict[str, tuple[Tensor, Tensor]]:
        """None are known."""
        return {}

    def tap(self, tap: Tap | None) -> None:
        """See :meth:`Specimen.tap`.

        Raises:
            Unmeasurable: there are no wires to tap.
        """
        if tap is not None:
            raise Unmeasurable(
                "The messages of foreign code pass through no wires, so nobody can watch or change them."
            )

    def _cast(self, x: Tensor) -> Tensor:
        return x.to(self.dtype) if x.is_floating_point() else x


def moves_along(gradients: dict[str, Tensor], moved: dict[str, Tensor]) -> bool:
    """Whether all that moved did so against the sign of its gradient; a little decay of the weights is overlooked."""
    signs = [(gradients[name].sign() == by.sign())[by != 0] for name, by in moved.items() if name in gradients]
    return bool(signs) and len(signs) == len(moved) and all(bool(same.double().mean() >= 0.99) for same in signs)


def native(model: nn.Module) -> torch.dtype:
    """The precision that the model was made in."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
