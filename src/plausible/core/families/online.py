"""Rules that learn while the stimulus lasts, from traces that run along with the activity.

The family owns the scan over time, the state that goes on from call to call, and the teaching signal of each step.
A rule says what one step does: to the model's state, to its own traces, and to the updates.

The updates of the steps are summed: what a sequence teaches does not depend on how it is cut into calls. What the
teacher says comes step by step (:class:`Teaching`): an error at the readout, a target, or a reward for an action.
"""

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from plausible.core.errors import CheckpointError, ConfigurationError, CoverageError
from plausible.core.learner import Learner
from plausible.core.rule import Inputs, Loss, Outcome, Rule, Teacher
from plausible.functional.denormals import flushed

State = Any
"""A tensor with one row per stream, or a (named) tuple of states."""

TOGETHER = 32
"""Steps whose outer products are taken in one: large products are faster than many small ones."""


class Outer(NamedTuple):
    """An update postᵀ pre (n, m), summed over the streams.

    Attributes:
        post: (N, n).
        pre: (N, m).
    """

    post: Tensor
    pre: Tensor


class Teaching:
    """What the teacher says in one call, step by step, over wires of the learner.

    Attributes:
        step: which step it is, from 0.
        steps: how many there are.
        reward: (N,), what the world has answered; None before it was asked.
    """

    def __init__(self, learner: "OnlineLearner", y: Teacher, steps: int) -> None:
        self._learner, self._y = learner, y
        self.step, self.steps = 0, steps
        self.reward: Tensor | None = None

    @property
    def _now(self) -> Teacher:
        if self._learner.net.stepwise and isinstance(self._y, Tensor):
            return self._y[:, self.step]
        return self._y

    def error(self, readout: Tensor) -> Tensor:
        """The gradient of the learner's loss at a readout (N, n_out), in its shape."""
        with torch.enable_grad():
            readout = readout.detach().requires_grad_()
            (error,) = torch.autograd.grad(self._learner.loss(readout, self._now), readout)
        return self._learner.wire("error", error, "teacher", "output")

    def target(self, readout: Tensor) -> Tensor:
        """What the readout (N, n_out) should be: 1 for the label and 0 for the others, or the target itself."""
        y = self._now
        if not isinstance(y, Tensor):
            raise ConfigurationError(
                f"{self._learner.rule.name} is taught by labels (N,) or targets (N, n_out), and got a "
                f"{type(y).__name__}."
            )
        told = y if y.is_floating_point() else torch.zeros_like(readout).scatter_(1, y.unsqueeze(1), 1.0)
        return self._learner.wire("target", told.to(readout), "teacher", "error")

    def act(self, action: Tensor) -> None:
        """Act (N,), once in a call; the world's answer is there from then on."""
        if not callable(self._y):
            raise ConfigurationError(
                f"{self._learner.rule.name} is taught by a world, which maps actions (N,) to rewards (N,), and got a "
                f"{type(self._y).__name__}. For labels that is learner.rule.teacher(y)."
            )
        self.reward = self._y(action)
        if self.reward.shape != action.shape:
            raise ConfigurationError(
                f"{self._learner.rule.name}: the world answered {tuple(action.shape)} actions with rewards "
                f"{tuple(self.reward.shape)}; each action has one."
            )

    def rewarded(self, like: Tensor) -> Tensor:
        """The reward (N,) as it is felt at this step; 0 while there is none."""
        felt = like.new_zeros(len(like)) if self.reward is None else self.reward.to(like)
        return self._learner.wire("reward", felt, "teacher", "error")

    def loss(self, output: Tensor) -> Tensor:
        """What the call came to: the learner's loss, or for a world what is missing to a reward of 1."""
        if self.reward is not None:
            return 1 - self.reward.to(output).mean()
        return output.new_zeros(()) if self._y is None else self._learner.loss(output, self._y)


@runtime_checkable
class Stepped(Protocol):
    """A model that runs in time, step by step.

    Attributes:
        time_axis: the dimension of its inputs along which time runs; None for inputs that stand still.
        stepwise: whether its output, and so its target, has an entry for each step, along dimension 1.
    """

    time_axis: int | None
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
        self, learner: "OnlineLearner", state: tuple[State, State], x_t: Tensor, teaching: Teaching
    ) -> tuple[tuple[State, State], Tensor, Mapping[str, Tensor | Outer]]:
        """One step of the model and of the traces.

        Args:
            learner: has the model, the wires and the feedback.
            state: of the model, and the traces.
            x_t: what drives the model.
            teaching: what the teacher says.

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
        self._loaded: list[Tensor] = []
        self._compiled: dict[Callable[..., Any], Callable[..., Any]] = {}

    @property
    def net(self) -> Stepped:
        """The model, as what binding has seen it to be."""
        return cast(Stepped, self.model)

    def forward(self, x: Inputs) -> Tensor:
        """The output for ``x``, which follows on from what was learned last; that state itself is left where it is."""
        x, model = self._tensor(x), self.net

        def readouts() -> Iterator[Tensor]:
            state, step = self._begin(x)[0], self._fast(type(model).step)
            for x_t in model.frames(x):
                state, y = step(model, state, x_t)
                yield y

        with flushed():
            return model.summary(readouts())

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """See :meth:`Learner.compile`: a step of the rule, and of the model."""
        steps = (type(self.rule).step, type(self.net).step)
        self._compiled = {step: torch.compile(step, *args, **kwargs) for step in steps}

    def _fast(self, step: Callable[..., Any]) -> Callable[..., Any]:
        return self._compiled.get(step, step)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_compiled": {}}  # as modules do: what is compiled cannot be pickled

    def reset(self, streams: Tensor | None = None) -> None:
        """See :meth:`Learner.reset`."""
        if streams is None:
            self.state, self._loaded = None, []
        elif self.state is not None:
            like = first(self.state)
            rest, chosen = self._rest(like), streams.to(like.device)
            self.state = each(lambda new, old: _rows(chosen, new, old), rest, self.state)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """See :meth:`Learner.aside`."""
        kept = self.state, self._loaded
        self.reset()
        try:
            yield
        finally:
            self.state, self._loaded = kept

    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
        x, model = self._tensor(x), self.net
        updates = _Updates()
        with torch.no_grad(), flushed():
            frames = list(model.frames(x))
            teaching = Teaching(self, y, len(frames))
            output = model.summary(self._scan(x, frames, teaching, updates))
            loss = teaching.loss(output)
            found = updates.sums()
            for name, p in self.model.named_parameters():
                if name in found and p.requires_grad:
                    p.grad = found[name].to(p).contiguous() if p.grad is None else p.grad.add_(found[name])
        return Outcome(loss, output)

    def _scan(self, x: Tensor, frames: list[Tensor], teaching: Teaching, updates: "_Updates") -> Iterator[Tensor]:
        state, step = self._begin(x), self._fast(type(self.rule).step)
        for teaching.step, x_t in enumerate(frames):
            state, readout, added = step(self.rule, self, state, x_t, teaching)
            updates.add(added)
            yield readout
        self.state, self._loaded = state, []

    def _begin(self, x: Tensor) -> tuple[State, State]:
        """Where the last call left off; at rest, or where a checkpoint was made."""
        if self.state is not None:
            return self.state
        rest, loaded = self._rest(x), list(self._loaded)
        if not loaded:
            return rest
        if [t.shape for t in flat(rest)] != [t.shape for t in loaded]:
            raise CheckpointError(
                f"The checkpoint has streams of {self.rule.name} whose state this version does not know: it was "
                "made by another. Forget them (learner.reset()), or start the run afresh (resume=False)."
            )
        return each(lambda t: loaded.pop(0).to(t), rest)

    def _rest(self, x: Tensor) -> tuple[State, State]:
        return self.net.rest(x), self.rule.rest(self, x)

    def get_extra_state(self) -> dict[str, Any]:
        """See :meth:`Learner.get_extra_state`; of streams that go on, the state too."""
        kept = flat(self.state) if self.rule.continuous and self.state is not None else []
        return {**super().get_extra_state(), "state": kept or self._loaded}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """See :meth:`Learner.set_extra_state`."""
        super().set_extra_state(state)
        self.state, self._loaded = None, state["state"]

    def _tensor(self, x: Inputs) -> Tensor:
        if not isinstance(x, Tensor):
            raise ConfigurationError(
                f"{self.rule.name}: the input is one tensor, whose dimension {self.time_axis} is time; got a "
                f"{type(x).__name__}."
            )
        rows = len(first(self.state)) if self.state is not None else len(self._loaded[0]) if self._loaded else None
        if rows not in (None, len(x)):
            raise ConfigurationError(
                f"{self.rule.name}: the state is that of {rows} streams, and the input has {len(x)}, which would go on "
                "from it. If they are others, forget the state first: learner.reset()."
            )
        return x

    def _apply(self, fn: Any, recurse: bool = True) -> "OnlineLearner":
        self.state = self.state and each(fn, self.state)  # learner.double() moves the state too
        return super()._apply(fn, recurse)


class _Updates:
    """The updates of a call, as they come."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._waiting: dict[str, list[Outer]] = {}

    def add(self, added: Mapping[str, Tensor | Outer]) -> None:
        """Those of one step."""
        for name, update in added.items():
            if isinstance(update, Tensor):
                self._sums[name] = self._sums[name].add_(update) if name in self._sums else update
                continue
            waiting = self._waiting.setdefault(name, [])
            waiting.append(update)
            if len(waiting) == TOGETHER:
                self._multiply(name)

    def sums(self) -> dict[str, Tensor]:
        """Of all steps, by parameter."""
        for name in self._waiting:
            self._multiply(name)
        return self._sums

    def _multiply(self, name: str) -> None:
        if waiting := self._waiting[name]:
            post, pre = (torch.cat(each) for each in zip(*waiting, strict=True))
            self._waiting[name] = []
            self.add({name: post.t() @ pre})


def each(fn: Callable[..., Tensor], *states: State) -> State:
    """``fn`` of every tensor of a state, and of its like in others, in the state's own structure."""
    if isinstance(states[0], Tensor):
        return fn(*states)
    parts = [each(fn, *part) for part in zip(*states, strict=True)]
    return tuple(parts) if type(states[0]) is tuple else type(states[0])(*parts)


def _rows(chosen: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(chosen.view(-1, *[1] * (old.dim() - 1)), new.to(old), old)


def flat(state: State) -> list[Tensor]:
    """The tensors of a state, in order."""
    return [state] if isinstance(state, Tensor) else [t for part in state for t in flat(part)]


def first(state: State) -> Tensor:
    """The first tensor of a state."""
    return state if isinstance(state, Tensor) else first(state[0])
