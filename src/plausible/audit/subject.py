"""What is audited: something that learns, of which the experiment gets as many identical copies as it wants.

A copy may be intervened on, taught and thrown away; the original is never touched. Copies of learners work in
float64, so that "unchanged" can mean unchanged to rounding, and each replays the same random numbers.
"""

import abc
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from plausible.core.attach import device_of
from plausible.core.context import Tap
from plausible.core.learner import Learner
from plausible.functional.random import random_state, replayed


class Specimen(abc.ABC):
    """One copy of a subject, to be experimented on.

    Attributes:
        model: the network; its modules and parameters may be changed in place.
        optimizers: with which its updates may be applied.
    """

    model: nn.Module
    optimizers: tuple[type[Optimizer], ...] = (torch.optim.SGD,)

    @abc.abstractmethod
    def learn(self, x: Tensor, y: Tensor) -> None:
        """One step's learning from examples ``x`` (N, …) with labels ``y`` (N,); state goes on from the last call."""

    @abc.abstractmethod
    def updates(self) -> dict[str, Tensor]:
        """What has been added to the gradient of each taught parameter since :meth:`clear`, by name; copies."""

    @abc.abstractmethod
    def clear(self) -> None:
        """Forget the updates so far."""

    @abc.abstractmethod
    def respond(self, x: Tensor) -> Tensor:
        """The output for ``x`` (N, …), without learning: (N, classes)."""

    @abc.abstractmethod
    def reset(self) -> None:
        """Forget the state of all streams (membranes, traces, relaxed activity), if there is any."""

    @abc.abstractmethod
    def optimizer(self, lr: float, kind: type[Optimizer] = torch.optim.SGD) -> Optimizer:
        """An optimiser, one of :attr:`optimizers`, on what is taught, which calls what the rule wants called."""

    @abc.abstractmethod
    def feedback_weights(self) -> dict[str, tuple[Tensor, Tensor]]:
        """(W, B) of each layer whose feedback weights are known, both in W's shape, by the layer's name."""

    @abc.abstractmethod
    def tap(self, tap: Tap | None) -> None:
        """Let ``tap`` see, and replace, every message on the wires; None to stop."""

    def update(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The updates of one call of :meth:`learn`."""
        self.clear()
        self.learn(x, y)
        return self.updates()


class Subject(abc.ABC):
    """Something that learns.

    Attributes:
        name: for tables.
        wired: whether its teaching messages pass through wires; otherwise some criteria cannot be measured.
        time_axis: the dimension of ``x`` along which time runs, if it does.
        dtype: in which copies compute.
    """

    name: str
    wired: bool
    time_axis: int | None
    dtype: torch.dtype

    @abc.abstractmethod
    def copy(self) -> Specimen:
        """A fresh copy; all copies are alike, to the last random number."""


class LearnerSubject(Subject):
    """A learner of this package. It is copied once, at the start, and never touched."""

    wired = True
    dtype = torch.float64

    def __init__(self, learner: Learner, name: str | None = None) -> None:
        self._original = deepcopy(learner).double()
        self._original.zero_grad()
        self._random = random_state(device_of(learner.model))
        self.name = name or learner.rule.name
        self.time_axis = learner.time_axis

    def copy(self) -> "LearnerSpecimen":
        """A fresh copy."""
        return LearnerSpecimen(deepcopy(self._original), self._random)


class LearnerSpecimen(Specimen):
    """A copy of a learner, with a stream of random numbers of its own."""

    optimizers = (torch.optim.SGD, torch.optim.AdamW)

    def __init__(self, learner: Learner, random: list[Tensor]) -> None:
        self.learner, self.model = learner, learner.model
        self._random = random

    def learn(self, x: Tensor, y: Tensor) -> None:
        """See :meth:`Specimen.learn`."""
        with self._replayed():
            self.learner.learn(_double(x), self.learner.rule.teacher(y))

    def updates(self) -> dict[str, Tensor]:
        """See :meth:`Specimen.updates`."""
        return {name: p.grad.detach().clone() for name, p in self.model.named_parameters() if p.grad is not None}

    def clear(self) -> None:
        """See :meth:`Specimen.clear`."""
        self.learner.zero_grad()

    def respond(self, x: Tensor) -> Tensor:
        """See :meth:`Specimen.respond`."""
        with self._replayed(), torch.no_grad():
            return self.learner(_double(x))

    def reset(self) -> None:
        """See :meth:`Specimen.reset`."""
        self.learner.reset()

    def optimizer(self, lr: float, kind: type[Optimizer] = torch.optim.SGD) -> Optimizer:
        """On everything that the learner trains, with its step hooks."""
        # Decay is there for rules that need it, and small enough not to matter to the others.
        optimizer = kind(self.model.parameters(), lr=lr, weight_decay=1e-4)  # type: ignore[call-arg]
        self.learner.hook(optimizer)
        return optimizer

    def feedback_weights(self) -> dict[str, tuple[Tensor, Tensor]]:
        """See :meth:`Specimen.feedback_weights`."""
        return self.learner.feedback_weights()

    def tap(self, tap: Tap | None) -> None:
        """See :meth:`Specimen.tap`."""
        self.learner.context.tap = tap

    @contextmanager
    def _replayed(self) -> Iterator[None]:
        device = device_of(self.model)
        with replayed(device, self._random):
            yield
            self._random = random_state(device)


def _double(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


def change(before: dict[str, Tensor], after: dict[str, Tensor]) -> float:
    """‖after − before‖ / ‖before‖ over all entries together; an entry that only one of them has counts whole.

    Returns:
        0 if both are zero, infinity if only ``before`` is.
    """
    keys = before.keys() | after.keys()
    nothing = torch.zeros(())
    moved = sum(float((after.get(k, nothing) - before.get(k, nothing)).square().sum()) for k in keys) ** 0.5
    size = sum(float(value.square().sum()) for value in before.values()) ** 0.5
    return moved / size if size else (float("inf") if moved else 0.0)
