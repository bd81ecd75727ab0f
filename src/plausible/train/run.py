"""One experiment, complete: a frozen configuration in JSON or TOML, whose hash is its id."""

import dataclasses
import hashlib
import inspect
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import tomli_w
import torch

from plausible.core import registry
from plausible.core.errors import ConfigurationError, PlausibleError
from plausible.core.names import check_options
from plausible.train import schedules
from plausible.train.checks import (
    Check,
    choice,
    entries,
    nearest,
    number,
    optional,
    options,
    refusal,
    text,
    truth,
    whole,
)

FORMAT = 1
"""Version of the written form; a file with a higher one is refused."""


_OPTIONS = {"check": options}

# What the callers of data.load, models.build and registry.make give themselves.
_RESERVED = {
    "data_options": {"name", "root", "download", "workers"},
    "model_options": {"name", "shape", "classes"},
    "rule_options": {"name"},
}


def _setting(default: Any, check: Check) -> Any:
    return field(default=default, metadata={"check": check})


def _device(name: str, value: Any) -> str:
    try:
        device = torch.device(text(name, value))
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise refusal(name, value, "'cpu', 'cuda' or 'cuda:N'")
    return value


def optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    """Every class of ``torch.optim`` that needs neither a closure nor sparse gradients, by name."""
    found = {name: value for name, value in vars(torch.optim).items() if isinstance(value, type)}
    return {
        name: value
        for name, value in found.items()
        if issubclass(value, torch.optim.Optimizer) and name not in ("Optimizer", "LBFGS", "SparseAdam")
    }


def _optimizer(name: str, value: Any) -> str:
    return choice(*sorted(optimizers()))(name, value)


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One training run. Two runs are equal if their ids are.

    Options are passed by name to what they belong to; values are what JSON can hold. Do not change an option
    mapping in place: use :meth:`replace`.

    Raises:
        ConfigurationError: a field has a value it cannot take; the message names the field, the value and
            what is allowed. Data set and model are looked up when training starts.
        UnknownName: there is no such rule.
    """

    data: str = _setting("digits", text)
    """A name that :func:`plausible.data.load` knows, ``folder:PATH`` or ``package.module:callable``."""
    data_options: dict[str, Any] = field(default_factory=dict, metadata=_OPTIONS)
    """For :func:`plausible.data.load`, such as ``validation`` and ``seed`` of the split."""
    model: str = _setting("mlp", text)
    """A name that :func:`plausible.models.build` knows, or ``package.module:callable``."""
    model_options: dict[str, Any] = field(default_factory=dict, metadata=_OPTIONS)
    rule: str = _setting("backprop", text)
    rule_options: dict[str, Any] = field(default_factory=dict, metadata=_OPTIONS)
    """For the rule; its ``seed`` is the run's unless given here."""
    constraints: list[dict[str, dict[str, Any]]] = field(default_factory=list, metadata={"check": entries})
    """What the medium does to the weights, in order: the name of each constraint with its options, as in
    ``[{"quantised": {"bits": 4}}]``; its ``seed`` is the run's unless given here."""
    optimizer: str = _setting("AdamW", _optimizer)
    """Name of a class in ``torch.optim``."""
    lr: float = _setting(1e-3, number(above=0.0))
    """Base learning rate."""
    weight_decay: float = _setting(1e-2, number(low=0.0))
    optimizer_options: dict[str, Any] = field(default_factory=dict, metadata=_OPTIONS)
    """What else the optimiser takes, such as ``momentum`` or ``betas``."""
    schedule: str = _setting("cosine", choice(*schedules.SCHEDULES))
    """How the learning rate goes after the warm-up: one of :data:`plausible.train.schedules.SCHEDULES`."""
    schedule_options: dict[str, Any] = field(default_factory=dict, metadata=_OPTIONS)
    """``floor`` for cosine; ``milestones`` (in epochs) and ``gamma`` for step."""
    warmup_epochs: float = _setting(0.0, number(low=0.0))
    """Epochs over which the learning rate rises linearly to its base."""
    epochs: int = _setting(10, whole(1))
    batch_size: int = _setting(64, whole(1))
    """Examples per step; the rest of an epoch that does not fill a batch is dropped."""
    augment: str = _setting("none", text)
    """Augmentation of the training images, by the name that :class:`plausible.data.Loader` knows."""
    clip: float | None = _setting(None, optional(number(above=0.0)))
    """Greatest Euclidean norm of all ``grad`` together, or ``None``."""
    seed: int = _setting(0, whole(0, 2**32 - 1))
    """Of the initial weights, the order of the data, the feedback and all else that is random."""
    device: str = _setting("cpu", _device)
    threads: int = _setting(1, whole(1))
    """CPU threads of torch; results are bit-identical only for the same number."""
    precision: str = _setting("float32", choice("float32", "tf32", "bfloat16"))
    """``float32``; ``tf32``: float32 with TensorFloat-32 products on CUDA; ``bfloat16``: under autocast."""
    compile: bool = _setting(False, truth)
    """Whether :func:`torch.compile` makes the steps faster; to make them ready takes seconds to a minute."""
    probe_every: int = _setting(0, whole(0))
    """Steps between probes; 0: at the ends of epochs. Step 0 and the end are probed too."""
    probe_size: int = _setting(64, whole(0))
    """Validation examples that a probe looks at; 0: no probes."""

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            object.__setattr__(self, f.name, f.metadata["check"](f.name, getattr(self, f.name)))
        for name, reserved in _RESERVED.items():
            if taken := reserved & getattr(self, name).keys():
                raise ConfigurationError(f"{name} may not hold {min(taken)!r}, which is set elsewhere.")
        registry.make(self.rule, **self.rule_options)
        for entry in self.constraints:
            for name, own in entry.items():
                registry.constraints.make(name, **own)
        schedules.check(self.schedule, self.schedule_options)
        if self.warmup_epochs >= self.epochs:
            raise refusal("warmup_epochs", self.warmup_epochs, f"less than epochs, which is {self.epochs}")
        cls = optimizers()[self.optimizer]
        own = ("params", "lr", "weight_decay")
        check_options(cls, self.optimizer_options, kind=f"optimizer {self.optimizer!r}", supplied=own)
        if self.weight_decay and not self.decays:
            raise refusal("weight_decay", self.weight_decay, f"0, since {self.optimizer} has no weight decay")

    @property
    def decays(self) -> bool:
        """Whether the optimiser takes a weight decay."""
        return "weight_decay" in inspect.signature(optimizers()[self.optimizer]).parameters

    @property
    def id(self) -> str:
        """12 hexadecimal digits of the SHA-256 of the canonical JSON of all fields."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def replace(self, **changes: Any) -> Self:
        """A copy with other values in some fields, checked as a new run is."""
        return self.from_dict({**self.to_dict(), **changes})

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values, in the order of the class; the latest only where they say something."""
        # Runs from before there were these fields keep their ids.
        latest = ("constraints", "compile")
        return {key: value for key, value in dataclasses.asdict(self).items() if value or key not in latest}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """A run from some or all of its fields; the others keep their defaults.

        Raises:
            ConfigurationError: an unknown field, a value that is not allowed, or a newer format.
        """
        values = dict(values)
        written = values.pop("format", FORMAT)
        if type(written) is not int:
            raise ConfigurationError(f"format must be a whole number, not a {type(written).__name__}.")
        if written > FORMAT:
            raise ConfigurationError(
                f"This configuration has format {written!r}, and this version of plausible reads formats up "
                f"to {FORMAT}: it was written by a newer version. Upgrade plausible to read it."
            )
        known = [f.name for f in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise ConfigurationError(
                    f"A run has no field {name!r}.{nearest(name, known)} Its fields: {', '.join(known)}."
                )
        try:
            return cls(**values)
        except RecursionError as error:
            raise ConfigurationError("This configuration is nested too deeply to be one.") from error

    def to_json(self) -> str:
        """The run as a JSON document."""
        return json.dumps({"format": FORMAT, **self.to_dict()}, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, document: str) -> Self:
        """The run that a JSON document describes.

        Raises:
            ConfigurationError: not JSON, or not a run; see :meth:`from_dict`.
        """
        try:
            values = json.loads(document)
        except (ValueError, RecursionError) as error:  # also of numbers too long, and nesting too deep, to be read
            raise ConfigurationError(f"This configuration is not valid JSON: {error}.") from error
        if not isinstance(values, dict):
            raise ConfigurationError("This configuration is not a JSON object with the fields of a run.")
        return cls.from_dict(values)

    def to_toml(self) -> str:
        """The run as a TOML document. TOML has no null, so ``clip`` is left out where it is ``None``.

        Raises:
            ConfigurationError: an option is ``None``.
        """
        values = {name: value for name, value in self.to_dict().items() if value is not None}
        try:
            return tomli_w.dumps({"format": FORMAT, **values})
        except TypeError as error:
            why = "one of its options is None, and TOML has no null. Use JSON"
            raise ConfigurationError(f"Run {self.id} cannot be written as TOML: {why}.") from error

    @classmethod
    def from_toml(cls, document: str) -> Self:
        """The run that a TOML document describes.

        Raises:
            ConfigurationError: not TOML, or not a run; see :meth:`from_dict`.
        """
        try:
            values = tomllib.loads(document)
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"This configuration is not valid TOML: {error}.") from error
        return cls.from_dict(values)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The run in a ``.json`` or ``.toml`` file.

        Raises:
            ConfigurationError: the file cannot be read or is not a run; the message names the file.
        """
        path = Path(path)
        readers = {".json": cls.from_json, ".toml": cls.from_toml}
        if path.suffix not in readers:
            raise ConfigurationError(f"{path} is no configuration: its name must end in .json or .toml.")
        try:
            return readers[path.suffix](path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path} cannot be read: {error}.") from error
        except PlausibleError as error:
            raise type(error)(f"{path}: {error}") from error
