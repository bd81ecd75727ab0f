"""Rules that learn while the stimulus lasts, from traces that run along with the activity.

The family owns the scan over time, the state that goes on from call to call, and the teaching signal of each step.
A rule says what one step does: to the model's state, to its own traces, and to the updates.

The error of a step is that of ``loss`` at the readout of this step, and the updates of the steps are summed: what a
sequence teaches does not depend on how it is cut into calls.
"""

import abc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from plausible.core.errors import ConfigurationError, CoverageError
from plausible.core.learner import Learner
from plausible.core.rule import Inputs, Loss, Outcome, Rule, Teacher

State = Any
"""A tensor with one row per stream, or a (named) tuple of states. All zero is the state at rest."""

Signal = Callable[[Tensor], Tensor]
"""Maps the readout of a step (N, n_out) to its error in the same shape, which has come over the teacher's wire."""


@runtime_checkable
class Stepped(Protocol):
    """A model that runs in time, step by step.

    Attributes:
        time_axis: the dimension of its inputs along which time runs.
        stepwise: whether its output, and so its target, has an entry for each step, along dimension 1.
    """

    time_axis: int
    stepwise: bool

    def rest(self, x: Tensor) -> State:
        """The state at rest, for the streams of ``x``."""
        ...

    def frames(self, x: Tensor) -> Iterator[Tensor]:
        """What drives the model at each step."""
        ...

    def step(self, state: State, x_t: Tensor) -> tuple[State, Tensor]:
        """One step: the new state, and the readout (N, n_out)."""
        ...

    def summary(self, readouts: Iterable[Tensor]) -> Tensor:
        """The model's output, from the readouts of all steps."""
        ...


@dataclass(frozen=True, kw_only=True)
class OnlineRule(Rule):
    """A rule that teaches at every step."""

    @abc.abstractmethod
    def rest(self, learner: "OnlineLearner", x: Tensor) -> State:
        """The traces of streams that have seen nothing, for inputs like ``x``."""

    @abc.abstractmethod
    def step(
        self, learner: "OnlineLearner", state: tuple[State, State], x_t: Tensor, signal_t: Signal
    ) -> tuple[tuple[State, State], Tensor, dict[str, Tensor]]:
        """One step of the model and of the traces.

        Args:
            learner: has the model, the wires and the feedback.
            state: of the model, and the traces.
            x_t: what drives the model.
            signal_t: gives the error of the readout.

        Returns:
            The new state, the readout, and what this step adds to the gradient of each parameter, by name.
        """


def stepped(model: nn.Module, rule: Rule) -> Stepped:
    """The model, if it runs in time.

    Raises:
        CoverageError: it does not.
    """
    if not isinstance(model, Stepped):
        raise CoverageError(
            f"{rule.name} learns in time, and the model, a {type(model).__name__}, does not run step by step: it needs "
            "time_axis, stepwise, rest, frames, step and summary, as plausible.models.build('rsnn', ...) has them."
        )
    return model


class OnlineLearner(Learner):
    """A scan over time without a graph.

    Attributes:
        time_axis: the model's.
        state: of the model, and the rule's traces, where the last call left them; None after a reset.
    """

    rule: OnlineRule

    def __init__(self, model: nn.Module, rule: OnlineRule, loss: Loss) -> None:
        super().__init__(model, rule, loss)
        self.time_axis = stepped(model, rule).time_axis
        self.state: tuple[State, State] | None = None

    @property
    def net(self) -> Stepped:
        """The model, as what binding has seen it to be."""
        return cast(Stepped, self.model)

    def forward(self, x: Inputs) -> Tensor:
        """The output for ``x``, which follows on from what was learned last; that state itself is left where it is."""
        x, model = self._tensor(x), self.net

        def readouts() -> Iterator[Tensor]:
            state = model.rest(x) if self.state is None else self.state[0]
            for x_t in model.frames(x):
                state, y = model.step(state, x_t)
                yield y

        return model.summary(readouts())

    def reset(self, streams: Tensor | None = None) -> None:
        """See :meth:`Learner.reset`."""
        if streams is None:
            self.state = None
        elif self.state is not None:
            rows = torch.where(streams)[0]
            self.state = each(lambda t: t.index_fill(0, rows.to(t.device), 0), self.state)

    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
        x, model = self._tensor(x), self.net
        updates: dict[str, Tensor] = {}
        with torch.no_grad():
            output = model.summary(self._scan(model, x, y, updates))
            loss = self.loss(output, y)
            for name, p in self.model.named_parameters():
                if name in updates and p.requires_grad:
                    p.grad = updates[name].to(p).contiguous() if p.grad is None else p.grad.add_(updates[name])
        return Outcome(loss, output)

    def _scan(self, model: Stepped, x: Tensor, y: Teacher, updates: dict[str, Tensor]) -> Iterator[Tensor]:
        state = self.state or (model.rest(x), self.rule.rest(self, x))
        for t, x_t in enumerate(model.frames(x)):
            target = y[:, t] if model.stepwise and isinstance(y, Tensor) else y

            def signal(readout: Tensor, target: Teacher = target) -> Tensor:
                with torch.enable_grad():
                    readout = readout.detach().requires_grad_()
                    (error,) = torch.autograd.grad(self.loss(readout, target), readout)
                return self.wire("error", error, "teacher", "output")

            state, readout, added = self.rule.step(self, state, x_t, signal)
            for name, update in added.items():
                updates[name] = updates[name].add_(update) if name in updates else update
            yield readout
        self.state = state

    def _tensor(self, x: Inputs) -> Tensor:
        if not isinstance(x, Tensor):
            raise ConfigurationError(
                f"{self.rule.name}: the input is one tensor, whose dimension {self.time_axis} is time; got a "
                f"{type(x).__name__}."
            )
        rows = None if self.state is None else len(first(self.state))
        if rows not in (None, len(x)):
            raise ConfigurationError(
                f"{self.rule.name}: the state is that of {rows} streams, and the input has {len(x)}, which would go on "
                "from it. If they are others, forget the state first: learner.reset()."
            )
        return x

    def _apply(self, fn: Any, recurse: bool = True) -> "OnlineLearner":
        self.state = self.state and each(fn, self.state)  # learner.double() moves the state too
        return super()._apply(fn, recurse)


def each(fn: Callable[[Tensor], Tensor], state: State) -> State:
    """``fn`` of every tensor of a state, in the state's own structure."""
    if isinstance(state, Tensor):
        return fn(state)
    parts = [each(fn, part) for part in state]
    return tuple(parts) if type(state) is tuple else type(state)(*parts)


def first(state: State) -> Tensor:
    """The first tensor of a state."""
    return state if isinstance(state, Tensor) else first(state[0])
