"""Tuned settings: what a study found best for each rule on one data set × model pair, and where they are kept.

Those of the shipped pairs lie in the package as ``tuned/<data>-<model>.toml``, each beside a ``.csv`` with every trial
of the study that found them. ``plausible tune`` writes both.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Self

import tomli_w

from plausible.core import registry
from plausible.core.errors import ConfigurationError
from plausible.train import Run


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The best trial of one rule.

    Attributes:
        lr: learning rate.
        weight_decay: weight decay; 0 where it was not searched.
        rule_options: options of the rule that were searched.
        validation_accuracy: that it reached, a fraction of 1. Being the best of several, it is biased upwards.
    """

    lr: float
    weight_decay: float
    rule_options: Mapping[str, Any]
    validation_accuracy: float

    @property
    def overrides(self) -> dict[str, Any]:
        """The setting as fields of a :class:`~plausible.train.Run`."""
        own = {"rule_options": dict(self.rule_options)} if self.rule_options else {}
        return {"lr": self.lr, "weight_decay": self.weight_decay} | own


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What a study found.

    Attributes:
        study: its name.
        command: the command that ran it.
        trials: number of trials of each rule.
        epochs: length of a trial's run.
        seed: of the sampler and of the trials' runs.
        base: fields of the run that the settings are for, apart from what differs by rule and from the seed.
        rules: entry, as it was given (``fa``, ``fa:last_layer=backprop``) → best setting.
    """

    study: str
    command: str
    trials: int
    epochs: int
    seed: int
    base: Mapping[str, Any]
    rules: Mapping[str, Setting]

    def applies(self, run: Run) -> bool:
        """Whether the settings were found for a run like this: same data, model, optimiser and batch size."""
        alike = ("data", "data_options", "model", "model_options", "optimizer", "batch_size")
        return all(getattr(run, name) == self.base[name] for name in alike)

    def overrides(self, rule: str, entry: str = "") -> dict[str, Any] | None:
        """The fields of a run with ``rule`` as tuned (:attr:`Rule.tuned_as` says as what), or as its ``entry`` of a
        comparison was, if that was tuned; None if neither was."""
        setting = self.rules.get(entry) or self.rules.get(registry.get(rule).tuned_as or rule)
        return setting and setting.overrides

    def to_toml(self) -> str:
        """The settings as a TOML document."""
        values = asdict(self)
        values["base"] = {name: value for name, value in self.base.items() if value is not None}  # TOML has no null
        return tomli_w.dumps(values)

    @classmethod
    def from_toml(cls, document: str) -> Self:
        """The settings that :meth:`to_toml` wrote.

        Raises:
            ConfigurationError: the document is something else.
        """
        try:
            values = tomllib.loads(document)
            rules = {rule: Setting(**setting) for rule, setting in values.pop("rules").items()}
            return cls(**{**values, "rules": rules})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ConfigurationError(f"These are not tuned settings ({type(error).__name__}: {error}).") from error


def read(path: Path) -> Tuned:
    """The settings in a file that ``plausible tune`` wrote.

    Raises:
        ConfigurationError: it cannot be read, or is something else; the message names the file.
    """
    try:
        return Tuned.from_toml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ConfigurationError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
        raise ConfigurationError(f"{path}: {why}. Give a .toml that `plausible tune` has written.") from error


def stem(data: str, model: str) -> str:
    """The name, without its ending, of the file of a pair; a name that points into user's code loses its colons."""
    return re.sub(r"[^\w.-]+", "_", f"{data}-{model}")


def tuned(data: str, model: str) -> Tuned | None:
    """The settings shipped for this data set × model pair, or None.

    Raises:
        ConfigurationError: the shipped file is damaged.
    """
    file = resources.files("plausible.compare") / "tuned" / f"{stem(data, model)}.toml"
    return Tuned.from_toml(file.read_text(encoding="utf-8")) if file.is_file() else None
