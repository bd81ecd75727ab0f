"""What a learning rule is: its hyper-parameters, and what it claims about itself."""

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from torch import Tensor, nn

from plausible.core.errors import ConfigurationError

if TYPE_CHECKING:
    from plausible.core.learner import Learner

Inputs = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]
"""What a model is called with: one tensor, positional tensors, or named tensors."""

Teacher = Tensor | Callable[[Tensor], Tensor] | None
"""What a learner is taught by: labels or targets; a world that maps an action to a reward; nothing."""

Loss = Callable[[Any, Any], Tensor]
"""Maps (output, teacher) to a scalar."""


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What a rule is supposed to need: hypotheses, which the audit tests.

    Attributes:
        reads: the teaching signals it reads, in words.
        forward_weights: what of the forward weights reaches the feedback path.
        derivatives_travel: whether a neuron's derivative travels beyond its own synapses.
        phases: number of distinct phases of one learning step.
        online: whether it can learn while the stimulus lasts, without storing the past.
        additive: whether the update of a batch is the sum over its examples (batch statistics aside).
        paper: BibTeX key of the paper that introduced it.
        feedback: what carries the teaching messages: signed numbers without bound ("linear"), signed and bounded
            ones ("bounded"), non-negative and bounded ones, as rates and spikes are ("rates"), or one number for all
            cells ("scalar").
        events: what travels as spikes: nothing, what goes forward, or every message.
        tolerates_delay: whether it still learns when its teacher is late by a small part of a stimulus.
        told: what it is told of the right answer: the label, whether an action was right, nothing.
        stores_sequence: whether the update of a sequence needs the whole of it; None if it learns no sequences.
        one_sign: whether every neuron's outgoing weights keep one sign.
        local: whether a synapse's change depends on the two cells it joins, and what reaches them, alone.
    """

    reads: str
    forward_weights: Literal["none", "signs", "full"]
    derivatives_travel: bool
    phases: int
    online: bool
    additive: bool
    paper: str
    feedback: Literal["linear", "bounded", "rates", "scalar"] = "linear"
    events: Literal["none", "forward", "all"] = "none"
    tolerates_delay: bool = False
    told: Literal["label", "reward", "nothing"] = "label"
    stores_sequence: bool | None = None
    one_sign: bool = False
    local: bool = True


PROBLEMS = (
    "weight transport",
    "derivative transport",
    "linear feedback",
    "spiking",
    "timing",
    "target",
    "weight sharing",
    "BPTT",
    "Dale's law",
)
"""What critics of back-propagation name, in the order of tables; the first six are the classical ones."""

_MARKS = {"Y": "solved", "~": "partly", "N": "violated", "–": "does not apply"}


def held(marks: str) -> dict[str, str]:
    """What the literature holds of a rule, from a row such as ``"Y N N N N N Y Y N"``.

    Args:
        marks: one for each of :data:`PROBLEMS`: Y solved, ~ partly, N violated, – does not apply, ? says nothing.
    """
    row = dict(zip(PROBLEMS, marks.split(), strict=True))
    return {problem: _MARKS[mark] for problem, mark in row.items() if mark != "?"}


@dataclass(frozen=True)
class Tunable:
    """The range over which tuning may search a hyper-parameter."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Outcome:
    """What one call of :meth:`Learner.learn` saw.

    Attributes:
        loss: scalar, detached.
        output: the model's output, detached where it is a tensor.
        signals: whatever else the rule has to show, by name.
    """

    loss: Tensor
    output: Any
    signals: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Registered(abc.ABC):
    """Options that a registry knows by a name.

    Attributes:
        seed: seed of everything it draws.

    Raises:
        ConfigurationError: an option has a value that is not of its type.
    """

    name: ClassVar[str]

    seed: int = 0

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for f in fields(self):
            _check(self.name, f.name, getattr(self, f.name), hints[f.name])


@dataclass(frozen=True, kw_only=True)
class Rule(Registered):
    """The hyper-parameters of a learning rule; binding it to a model gives a :class:`Learner`.

    Attributes:
        batch_manhattan: replace the accumulated update by its sign before each optimiser step
            (Liao, Leibo & Poggio 2016; Xiao et al. 2018, ``--bm``).
        no_sign_change: after each step, set a weight that changed its sign to ±1e-10, with the sign it
            had (Xiao et al. 2018, ``--nsc``). Weights are the parameters of two or more dimensions.
    """

    claims: ClassVar[Claims]
    control: ClassVar[str] = ""
    """What it controls for, if the rule is there to be compared with and not to be recommended."""
    tuned_as: ClassVar[str] = ""
    """The rule whose tuned settings it runs with, if not its own: a control, or what must come to the same, runs as
    that rule does."""
    model: ClassVar[str] = "mlp"
    """The kind of model (see :mod:`plausible.models`) that it is shown and audited on unless told otherwise."""
    continuous: ClassVar[bool] = False
    """Whether in training one stimulus follows the other in the same stream, and nothing is forgotten in between."""
    literature: ClassVar[Mapping[str, str]] = {}
    """What the literature holds: problem → "solved", "partly", "violated" or "does not apply"."""
    because: ClassVar[Mapping[str, str]] = {}
    """Where the audit measures something else than the literature or the claims hold: problem → the cause."""

    batch_manhattan: bool = False
    no_sign_change: bool = False

    @abc.abstractmethod
    def bind(self, model: nn.Module, loss: Loss, example: Inputs | None = None) -> "Learner":
        """Bind the rule to ``model``, in place. See :func:`plausible.bind`, which also hooks an optimiser."""

    def teacher(self, y: Tensor) -> Teacher:
        """What ``learn`` is given where the right answers are the labels ``y`` (N,): these, unless the rule learns
        from less, such as a world that only rewards."""
        return y

    @property
    def needs_optimizer(self) -> bool:
        """Whether learning is wrong unless the optimiser calls the learner around each step."""
        return self.batch_manhattan or self.no_sign_change

    @property
    def divisible(self) -> bool:
        """Whether what is learned from a batch is the mean of what is learned from its parts, so that ranks of
        ``torch.distributed`` can share one."""
        return self.claims.additive

    @classmethod
    def tunables(cls) -> dict[str, Tunable]:
        """The hyper-parameters, besides the learning rate, that tuning may search: see :func:`tunable`."""
        return {f.name: f.metadata["tunable"] for f in fields(cls) if "tunable" in f.metadata}


def tunable(default: float, low: float, high: float, *, log: bool = False) -> Any:
    """A rule's field with a default value and the range over which tuning may search it."""
    return field(default=default, metadata={"tunable": Tunable(low, high, log)})


def require(ok: bool, owner: Registered, name: str, why: str) -> None:
    """Raise a :class:`ConfigurationError` about the owner's field ``name`` unless ``ok``."""
    if not ok:
        raise ConfigurationError(f"{owner.name}: {name} = {getattr(owner, name)!r}: {why}.")


def _check(rule: str, name: str, value: object, hint: Any) -> None:
    if get_origin(hint) is Literal:
        ok, allowed = value in get_args(hint), " or ".join(map(repr, get_args(hint)))
    elif hint is float:
        ok, allowed = isinstance(value, (int, float)) and not isinstance(value, bool), "a number"
    elif hint is int:
        ok, allowed = isinstance(value, int) and not isinstance(value, bool), "a whole number"
    elif hint is bool:
        ok, allowed = isinstance(value, bool), "true or false"
    else:
        return  # a rule of another package may have fields of its own types
    if not ok:
        raise ConfigurationError(f"{rule}: {name} = {value!r}: it must be {allowed}.")
