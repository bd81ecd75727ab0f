"""What a medium does to the weights it keeps, whichever rule teaches them.

A rule says how weights change; a constraint says what becomes of them: what is stored when something is written, at
binding and after each optimiser step, and what is found when a weight is used. It is asked about one weight at a time,
forward weight or stored feedback weight alike, and knows neither rule nor model: that is why it composes with all.

What a use finds is put in the weight's place for one call of the learner (of ``learn``, or of an evaluation), and taken
back at its end. All that happens in the call, forward and backward, in every phase and at every time step, so sees the
same weight, and what is learned there is applied to the stored one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from plausible.core.errors import ConfigurationError
from plausible.core.rule import Registered
from plausible.functional.random import generator

MODEL = "model."
"""What the names of forward weights begin with in a learner; all others are the rule's own."""


class Access(NamedTuple):
    """One writing or reading of one weight.

    Attributes:
        kept: what the constraint keeps of the weight, by name.
        generator: of ``device``, for what is drawn now: the same on every rank and after every resume.
    """

    kept: Mapping[str, Tensor]
    generator: Callable[..., torch.Generator]


@dataclass(frozen=True, kw_only=True)
class Constraint(Registered):
    """The options of a constraint. It acts on weights, which are the tensors of two or more dimensions.

    Attributes:
        on: whether it acts on the forward weights, the model's; on the feedback weights that the rule stores (feedback
            that is computed from the forward weights is constrained with them); or on both.
    """

    on: Literal["both", "forward", "feedback"] = "both"

    def keep(self, name: str, weight: Tensor) -> dict[str, Tensor]:
        """What is to be kept of a weight, by name; called once, at binding."""
        return {}

    def first(self, before: Tensor, after: Tensor, access: Access) -> Tensor:
        """What is stored at binding: as at any other time, unless a constraint says otherwise. ``before`` is the weight
        that was bound, ``after`` what the constraints before this one have made of it."""
        return self.store(before, after, access)

    def store(self, before: Tensor, after: Tensor, access: Access) -> Tensor:
        """What is stored where ``before`` was to become ``after``."""
        return after

    def use(self, stored: Tensor, access: Access) -> Tensor:
        """What is found where ``stored`` is used."""
        return stored

    @property
    def needs_optimizer(self) -> bool:
        """Whether it acts after each optimiser step."""
        return type(self).store is not Constraint.store


def scale_of(constraint: Constraint, name: str, weight: Tensor) -> Tensor:
    """The root mean square of a weight, without dimensions: the unit of ranges and of noise.

    Raises:
        ConfigurationError: it is zero.
    """
    scale = weight.detach().double().square().mean().sqrt()
    if not scale > 0:
        raise ConfigurationError(
            f"{constraint.name}: all of {name!r} is zero at binding, and its scale is that of the weight at binding. "
            'Initialise it otherwise, or let the constraint act elsewhere, with on="forward" or on="feedback".'
        )
    return scale.cpu()


class Constraints(nn.Module):
    """The constraints on one learner, in their order. Its buffers are what they keep.

    Attributes:
        entries: the constraints.
    """

    def __init__(self, entries: Sequence[Constraint] = ()) -> None:
        super().__init__()
        self.entries = tuple(entries)
        self._keys: dict[tuple[int, str], tuple[str, ...]] = {}
        self._before: dict[str, Tensor] = {}
        self._reading = False

    @torch.no_grad()
    def program(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Take note of weights, and let them be stored for the first time."""
        for name, weight in weights:
            for index, constraint in self._on(name):
                kept = constraint.keep(name, weight)
                self._keys[index, name] = tuple(kept)
                for key, value in kept.items():
                    self.register_buffer(_buffer(index, name, key), value)
            self._store(name, weight, weight, 0, first=True)

    @torch.no_grad()
    def before_step(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Remember the weights."""
        self._before = {name: weight.clone() for name, weight in weights if any(self._on(name))}

    @torch.no_grad()
    def after_step(self, weights: Iterable[tuple[str, Tensor]], step: int) -> None:
        """Let what has become of the weights be stored."""
        for name, weight in weights:
            if name in self._before:
                self._store(name, self._before[name], weight, step, first=False)
        self._before = {}

    @contextmanager
    def reading(self, weights: Iterable[tuple[str, Tensor]], iteration: int) -> Iterator[None]:
        """Within, the weights are what their use finds; a reading within a reading finds the same."""
        if self._reading or not self.entries:
            yield
            return
        stored: list[tuple[Tensor, Tensor]] = []
        self._reading = True
        try:
            with torch.no_grad():
                for name, weight in weights:
                    found = weight
                    for index, constraint in self._on(name):
                        found = constraint.use(found, self._access(index, name, "use", iteration))
                    if found is not weight:
                        stored.append((weight, weight.clone()))
                        weight.copy_(found)
            yield
        finally:
            with torch.no_grad():
                for weight, value in stored:
                    weight.copy_(value)
            self._reading = False

    def _store(self, name: str, before: Tensor, weight: Tensor, step: int, *, first: bool) -> None:
        after = weight
        for index, constraint in self._on(name):
            write = constraint.first if first else constraint.store
            after = write(before, after, self._access(index, name, "store", step))
        if after is not weight:
            weight.copy_(after)

    def _on(self, name: str) -> Iterator[tuple[int, Constraint]]:
        where = "forward" if name.startswith(MODEL) else "feedback"
        return ((k, constraint) for k, constraint in enumerate(self.entries) if constraint.on in (where, "both"))

    def _access(self, index: int, name: str, what: str, clock: int) -> Access:
        constraint = self.entries[index]
        kept = {key: self.get_buffer(_buffer(index, name, key)) for key in self._keys[index, name]}
        return Access(kept, partial(generator, constraint.seed, constraint.name, index, name, what, clock))


@contextmanager
def programmed(model: nn.Module, constraints: Constraints) -> Iterator[Constraints]:
    """Let the weights of ``model`` be stored for the first time; if what follows fails, they are as they were."""
    stored = [(weight, weight.detach().clone()) for _, weight in forward_weights(model) if constraints.entries]
    try:
        constraints.program(forward_weights(model))
        yield constraints
    except BaseException:
        with torch.no_grad():
            for weight, value in stored:
                weight.copy_(value)
        raise


def forward_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The weights of a model, by the names they have in a learner."""
    return ((MODEL + name, p) for name, p in model.named_parameters() if _is_weight(p))


def feedback_weights(learner: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The weights that a learner has besides the model's, trained (parameters) or not (buffers)."""
    elsewhere = (MODEL, "constraints.")
    for name, tensor in (*learner.named_parameters(), *learner.named_buffers()):
        if not name.startswith(elsewhere) and _is_weight(tensor):
            yield name, tensor


def _is_weight(tensor: Tensor) -> bool:
    return tensor.dim() > 1 and tensor.is_floating_point()


def _buffer(index: int, name: str, key: str) -> str:
    # A buffer's name may not contain a dot.
    return f"{index}/{name.replace('.', '/')}/{key}"
