"""A rule bound to the user's own model: one call adds a descent direction to each taught ``p.grad``."""

import abc
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from plausible.core.attach import detach
from plausible.core.constraint import Constraints, feedback_weights, forward_weights
from plausible.core.context import Context
from plausible.core.errors import ConfigurationError
from plausible.core.ranks import Ranks
from plausible.core.rule import Inputs, Loss, Outcome, Rule, Teacher

# Where Xiao et al. (2018) leave a weight that tried to change its sign.
_BARELY = 1e-10
_OVERLAPPED = "_overlapped"


class Learner(nn.Module, abc.ABC):
    """A rule bound to a model.

    The model is the user's own: the same object, the same Parameters, the same ``state_dict`` keys.
    Everything the rule keeps for itself lies in ``learner.state_dict()`` alone.

    Attributes:
        model: the user's model.
        rule: the rule's hyper-parameters.
        loss: maps (output, teacher) to a scalar.
        context: the wires and the clock that the learner shares with its sites.
        constraints: what the medium does to the weights, forward and feedback.
        time_axis: the dimension of the inputs along which time runs, for learners of sequences.
    """

    time_axis: int | None = None
    one_backward: ClassVar[bool] = False
    """Whether a call of :meth:`learn` is one forward pass, and one backward pass of what it returned."""

    def __init__(self, model: nn.Module, rule: Rule, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.rule = rule
        self.loss = loss
        self.context = Context()
        self.constraints = Constraints()
        self._handles: list[Any] = []
        self._joined: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._added: list[tuple[Optimizer, dict[str, Any]]] = []
        self._released = self._overlap = False
        self._signs: list[tuple[nn.Parameter, Tensor]] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See :meth:`forward`, with the weights as their use finds them."""
        with self.reading():
            return super().__call__(*args, **kwargs)

    def forward(self, x: Inputs) -> Any:
        """The model's output for ``x``; every evaluation goes through here."""
        model = vars(self).get(_OVERLAPPED, self.model)
        if isinstance(x, Mapping):
            return model(**x)
        if isinstance(x, tuple):
            return model(*x)
        return model(x)

    def learn(self, x: Inputs, y: Teacher = None) -> Outcome:
        """Add a descent direction to the ``grad`` of every parameter that the rule teaches.

        It adds, as ``backward`` does: zero the gradients between steps. A parameter that the rule does not
        teach keeps ``grad = None``. The rule's state persists from call to call.

        Raises:
            ConfigurationError: the learner has been released.
        """
        if self._released:
            raise ConfigurationError(
                f"This {self.rule.name} learner has been released, so it would back-propagate. Bind the model again."
            )
        with self.reading():
            outcome = self._learn(x, y)
        if self.context.ranks.count > 1:
            self._agree()
        self.context.iteration += 1
        return outcome

    @abc.abstractmethod
    def _learn(self, x: Inputs, y: Teacher) -> Outcome: ...

    def distribute(self, group: dist.ProcessGroup, *, overlap: bool) -> None:
        """See :func:`plausible.distribute`."""
        self.context.ranks = ranks = Ranks(group)
        ranks.unite([*self.parameters(), *self.buffers()])
        self._overlap = overlap and self.one_backward

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Within, gradients of other ranks are not waited for: for all but the last of the calls that accumulate."""
        overlapped = vars(self).get(_OVERLAPPED)
        self.context.ranks.apart = True
        try:
            with nullcontext() if overlapped is None else overlapped.no_sync():
                yield
        finally:
            self.context.ranks.apart = False

    def _agree(self) -> None:
        """Leave the same gradients, and the same running averages, on all ranks."""
        ranks, done = self.context.ranks, vars(self).get(_OVERLAPPED)
        if not ranks.apart:
            mine = {id(p) for p in done.parameters()} if done is not None else set()
            ranks.average_grads([p for p in self.parameters() if p.requires_grad and id(p) not in mine])
        ranks.unite(self.model.buffers())
        if (
            self._overlap
            and done is None
            and all(p.grad is not None for p in self.model.parameters() if p.requires_grad)
        ):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # its new name for broadcast_buffers is not everywhere
                overlapped = DistributedDataParallel(self.model, process_group=ranks.group, broadcast_buffers=False)
            vars(self)[_OVERLAPPED] = overlapped  # no module of this one, for its parameters are the model's

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile what is computed again and again: the model's forward pass, or a step where a learner runs in time.

        Arguments are those of :func:`torch.compile`. Numbers change by rounding, which in spikes may add up.
        """
        self.model.compile(*args, **kwargs)

    def reset(self, streams: Tensor | None = None) -> None:
        """Forget the state of the given streams, or of all. Rules for static inputs have none to forget.

        Args:
            streams: (N,) bool, the streams to forget; None for all.
        """
        return

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Within, the streams are others, at rest; afterwards those of before go on where they were."""
        yield

    def before_step(self) -> None:
        """Called once per optimiser step, after accumulation and all-reduce."""
        if self.rule.batch_manhattan:
            for p in self._taught():
                assert p.grad is not None
                p.grad.sign_()
        if self.rule.no_sign_change:
            self._signs = [(p, torch.signbit(p)) for p in self._taught() if p.dim() > 1]

    def after_step(self) -> None:
        """Called once after each optimiser step."""
        for p, negative in self._signs:
            with torch.no_grad():
                barely = torch.where(negative, -_BARELY, _BARELY).to(p.dtype)
                p.copy_(torch.where(torch.signbit(p) == negative, p, barely))
        self._signs = []
        self.context.step += 1

    def reading(self) -> AbstractContextManager[None]:
        """Within, all weights are what a use finds under the constraints; afterwards what is stored, to the last bit.

        It is entered by every call; enter it to take a gradient after the call whose output it is of.
        """
        return self.constraints.reading(self.weights(), self.context.iteration)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """What constraints act on, by name: the model's weights, and the feedback weights that are stored."""
        yield from forward_weights(self.model)
        yield from feedback_weights(self)

    def param_groups(self) -> list[dict[str, Any]]:
        """What else is trained besides the model, as groups for an optimiser.

        A group may say under ``"like"`` which of the model's parameters it must be stepped with; it then gives
        the names of its own under ``"param_names"``.
        """
        return []

    def wire(self, name: str, message: Tensor, source: str, target: str) -> Tensor:
        """Identity through which every teaching message passes, so that it can be observed, delayed, clamped."""
        return self.context.wire(name, message, source, target)

    def report(self) -> dict[str, Any]:
        """Which layers the rule teaches (``covered``), whose gradient stays exact (``exact``), and which
        are left to back-propagation (``backprop``); with a ``note`` for the reader of a report."""
        return {"covered": [], "exact": [], "backprop": [], "note": ""}

    def feedback_weights(self) -> dict[str, tuple[Tensor, Tensor]]:
        """(W, B) of each layer whose feedback weight is in use, both in W's shape, by the layer's name."""
        return {}

    def hook(self, optimizer: Optimizer) -> None:
        """Let ``optimizer`` call :meth:`before_step` and :meth:`after_step`, and train what else is trained.

        What goes "like" a model's parameter joins that parameter's group, so that learning rate, schedule
        and decay are the same by construction.
        """
        for group in self.param_groups():
            like = group.get("like")
            home = next((g for g in optimizer.param_groups if any(p is like for p in g["params"])), None)
            if like is None:
                named = all("param_names" in g for g in optimizer.param_groups)
                own = group if named else {k: v for k, v in group.items() if k != "param_names"}
                optimizer.add_param_group(own)
                self._added.append((optimizer, optimizer.param_groups[-1]))
            elif home is not None:
                for key in {"params", "param_names"} & home.keys():
                    home[key] = [*home[key], *group[key]]
                self._joined.append((home, group))
        self._handles += [
            optimizer.register_step_pre_hook(lambda *_: self.before_step()),
            optimizer.register_step_post_hook(lambda *_: self.after_step()),
        ]
        if self.constraints.entries:  # after all that the rule does to the weights
            self._handles += [
                optimizer.register_step_pre_hook(lambda *_: self.constraints.before_step(self.weights())),
                optimizer.register_step_post_hook(
                    lambda *_: self.constraints.after_step(self.weights(), self.context.step)
                ),
            ]

    def release(self) -> nn.Module:
        """Take the rule off the model and its hooks off the optimiser; return the plain model."""
        for handle in self._handles:
            handle.remove()
        for home, group in self._joined:
            for key in {"params", "param_names"} & home.keys():
                mine = {id(member) for member in group[key]}
                home[key] = [member for member in home[key] if id(member) not in mine]
        for optimizer, group in self._added:
            optimizer.param_groups[:] = [g for g in optimizer.param_groups if g is not group]
        self._handles, self._joined, self._added, self._released = [], [], [], True
        vars(self).pop(_OVERLAPPED, None)
        detach(self.model)
        return self.model

    def get_extra_state(self) -> dict[str, Any]:
        """The learner's clock, which a resumed run must not lose."""
        return {"iteration": self.context.iteration, "step": self.context.step}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the clock."""
        self.context.iteration, self.context.step = state["iteration"], state["step"]

    def __getstate__(self) -> dict[str, Any]:
        # Neither a copy nor a pickle is hooked to the optimiser of the original, nor waits for its other ranks.
        own = {key: value for key, value in self.__dict__.items() if key != _OVERLAPPED}
        return {**own, "_handles": [], "_joined": [], "_added": [], "_overlap": False}

    def _taught(self) -> Iterator[nn.Parameter]:
        return (p for p in self.model.parameters() if p.grad is not None)


def differentiable(rule: Rule, output: Any) -> Tensor:
    """The output as a tensor, for rules that send its error somewhere.

    Raises:
        ConfigurationError: the model returns something else than one tensor, or one with nothing in it.
    """
    if not isinstance(output, Tensor):
        raise ConfigurationError(
            f"{rule.name}: the model returned a {type(output).__name__}, and the rule needs one tensor whose error "
            "it can send on. Wrap the model in a module whose forward returns the tensor the loss is taken of."
        )
    if not output.numel():
        raise ConfigurationError(
            f"{rule.name}: the model's output has the shape {tuple(output.shape)}, so there is no example whose error "
            "could be sent on. Leave out batches that are empty."
        )
    return output
