"""The door for code that is not ours: anything with a model and a step that fills ``.grad`` or moves the weights.

The user gives a factory. Each copy is the factory called anew under the same seeds (torch, NumPy, ``random``), so
nothing needs to be copied that was not made to be. Its messages pass through no wires, so some criteria cannot be
measured; those that look at updates can.
"""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor

from plausible.audit.criterion import Batch, Unmeasurable, rounding
from plausible.audit.foreign_specimen import Foreign, ForeignSpecimen, moves_along, native
from plausible.audit.streams import RandomStreams
from plausible.audit.subject import Subject, change
from plausible.core.errors import ConfigurationError
from plausible.core.names import resolve

__all__ = ["Foreign", "ForeignSubject"]

# A relative change of the weights to which float64 answers in proportion, and float32 not at all, or by jumps.
_NUDGE = 1e-9


class ForeignSubject(Subject):
    """Foreign code to be audited. It runs in float64 if it can, which is tried once, here.

    Args:
        factory: called without arguments; or ``package.module:factory``.
        batch: examples that the step can learn from.
        name: for tables; that of the factory by default.
        seed: of the random numbers that each copy is made with and learns with.
        hold_weights: put the weights back after each step that moves them, so that, as with ``.grad``, a sequence of
            steps learns from the same weights; else they go on moving.

    Raises:
        ConfigurationError: the factory or its step fails, or it returns the same model twice.
    """

    wired = False

    def __init__(
        self,
        factory: Callable[[], object] | str,
        batch: Batch,
        *,
        name: str | None = None,
        seed: int = 0,
        hold_weights: bool = True,
    ) -> None:
        self._factory = resolve(factory, "audit target") if isinstance(factory, str) else factory
        self.name = name or (factory if isinstance(factory, str) else getattr(factory, "__name__", "foreign code"))
        self._seed, self._hold = seed, hold_weights
        self._shared: set[int] = set()
        self._along = False
        made_in, self.time_axis, self._along = self._first(batch)
        self.dtype = torch.float64 if made_in == torch.float64 or self._precise(batch) else made_in
        self._fault = self._examine(batch)

    def copy(self) -> "ForeignSpecimen":
        """A fresh copy.

        Raises:
            Unmeasurable: copies are not alike, or do not learn.
        """
        if self._fault:
            raise Unmeasurable(self._fault)
        return self._make(self.dtype)

    def _make(self, dtype: torch.dtype | None) -> "ForeignSpecimen":
        streams = RandomStreams(self._seed)
        with streams():
            foreign = Foreign.of(self._factory(), self.name)
        for parent in [*foreign.model.modules()]:
            for name, child in parent.named_children():
                if id(child) in self._shared:
                    parent._modules[name] = deepcopy(child)
        dtype = dtype or native(foreign.model)
        return ForeignSpecimen(foreign, streams, dtype, hold=self._hold, along=self._along)

    def _first(self, batch: Batch) -> tuple[torch.dtype, int | None, bool]:
        """Try it as it comes: the precision it was made in, its axis of time, and whether it moves along gradients."""
        try:
            first, second = self._make(None), self._make(None)
            along = moves_along(*first.step(batch.x, batch.y))
        except ConfigurationError:
            raise
        except Exception as error:
            shape = f"x {tuple(batch.x.shape)}, y {tuple(batch.y.shape)}"
            raise ConfigurationError(
                f"audit target {self.name} failed on a batch of {shape} with {type(error).__name__}: {error}. "
                "The factory takes no arguments; what it returns must learn from such a batch."
            ) from error
        if {id(p) for p in first.model.parameters()} & {id(p) for p in second.model.parameters()}:
            raise ConfigurationError(
                f"audit target {self.name}: called twice, the factory returned the same model. It must build a new "
                "one at each call, for experiments change their copy and throw it away."
            )
        # A default argument, such as an activation, may be one object for all: what is done to one copy's is its own.
        self._shared = {id(m) for m in first.model.modules()} & {id(m) for m in second.model.modules()}
        return first.dtype, first.time_axis, along

    def _precise(self, batch: Batch) -> bool:
        """Whether it really computes in float64 when its model is: a part of its own may be float32 throughout."""
        try:
            plain, once, twice = (self._nudged(batch, by) for by in (0.0, _NUDGE, 2 * _NUDGE))
            first = {name: once[name] - plain[name] for name in plain}
            second = {name: (twice[name] - plain[name]) / 2 for name in plain}
            return any(bool(each.any()) for each in first.values()) and change(first, second) < 0.1
        except Exception:  # foreign code may fail in any way in a precision it was not written for
            return False

    def _nudged(self, batch: Batch, by: float) -> dict[str, Tensor]:
        """The update in float64, with every weight changed by ``by`` of itself, more or less."""
        specimen = self._make(torch.float64)
        with torch.no_grad():
            for p in specimen.model.parameters():
                p *= 1 + by * torch.randn(p.shape, generator=torch.Generator().manual_seed(0), dtype=p.dtype).to(p)
        return specimen.update(batch.x, batch.y)

    def _examine(self, batch: Batch) -> str:
        """Why there is nothing to measure; empty if there is."""
        updates = [self._make(self.dtype).update(batch.x, batch.y) for _ in range(2)]
        if not any(bool(update.any()) for update in updates[0].values()):
            return "After a step no gradient was filled, or all were zero, and no weight had moved."
        moved = change(*updates)
        if not moved <= rounding(self.dtype):
            return (
                "Two copies from the factory, made and taught under the same seeds, learned differently (by "
                f"{moved:.2g} of the update): nothing that an experiment changes could be told from that."
            )
        return ""
