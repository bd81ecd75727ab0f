"""What is compared: the same run under several rules, each with the same seeds."""

import dataclasses
import hashlib
import itertools
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from plausible.core import registry
from plausible.core.errors import ConfigurationError
from plausible.train import Run

RUN_FIELDS = frozenset(f.name for f in dataclasses.fields(Run))


def literal(text: str) -> Any:
    """The value that ``text`` writes: a TOML literal (``2``, ``1e-3``, ``true``, ``[1, 2]``), else a plain string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def parse(entry: str, kind: str) -> tuple[str, list[tuple[str, Any]]]:
    """Read ``name`` or ``name:option=value:option=value``; ``kind`` says in messages what is named.

    Raises:
        ConfigurationError: a part after the first is not ``option=value``.
    """
    name, *parts = entry.strip().split(":")
    options: list[tuple[str, Any]] = []
    for part in parts:
        option, equals, value = part.partition("=")
        if not (option and equals and value):
            example = "fa:last_layer=backprop" if kind == "rule" else "quantised:bits=4"
            raise ConfigurationError(
                f"In the {kind} entry {entry!r}, {part!r} is not of the form name=value. "
                f"An entry is a {kind}, or a {kind} with options, such as {example}."
            )
        options.append((option, literal(value)))
    return name, options


def reference(bibtex: str) -> str:
    """``Xiao et al. (2019)`` from a BibTeX entry; its key where it has no authors or no year."""
    found = {
        name: re.search(rf"^\s*{name}\s*=\s*[{{\"]?(.+?)[}}\"]?\s*,?\s*$", bibtex, re.MULTILINE | re.IGNORECASE)
        for name in ("author", "year")
    }
    if not (found["author"] and found["year"]):
        return re.sub(r"^@\w+\{([^,]*),.*", r"\1", bibtex, flags=re.DOTALL)
    authors = [name.partition(",")[0].split()[-1].strip("{}") for name in found["author"].group(1).split(" and ")]
    who = authors[0] if len(authors) == 1 else " & ".join(authors) if len(authors) == 2 else f"{authors[0]} et al."
    return f"{who} ({found['year'].group(1)})"


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One entry of a comparison: a rule, and what it has of its own.

    Attributes:
        label: its name in tables and figures; unique in the comparison.
        rule: a registered rule.
        overrides: fields of the :class:`~plausible.train.Run` that differ from the comparison's base, such as ``lr``.
    """

    label: str
    rule: str
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, entry: str) -> Self:
        """Read ``rule`` or ``rule:name=value:name=value``; a name is an option of the rule or a field of the run.

        Raises:
            ConfigurationError: a part after the first is not ``name=value``.
        """
        rule, options = parse(entry, "rule")
        contender = cls(label=entry.strip(), rule=rule)
        for name, value in options:
            contender = contender.having(name, value)
        return contender

    def having(self, name: str, value: Any) -> Self:
        """The same contender with one more setting: a field of the run, else an option of the rule."""
        # `seed` is a field of both: here it is the feedback's, for the runs' seeds are the comparison's.
        if name in RUN_FIELDS - {"seed"}:
            return dataclasses.replace(self, overrides={**self.overrides, name: value})
        options = {**self.overrides.get("rule_options", {}), name: value}
        return dataclasses.replace(self, overrides={**self.overrides, "rule_options": options})

    def applied(self, run: Run, **changes: Any) -> Run:
        """``run`` with this rule and its overrides, and with ``changes``."""
        return run.replace(**{**self.overrides, "rule": self.rule, **changes})

    def under(self, overrides: Mapping[str, Any]) -> Self:
        """The same contender on top of ``overrides``: what it sets itself wins, option by option."""
        mine = dict(self.overrides)
        if options := {**overrides.get("rule_options", {}), **mine.get("rule_options", {})}:
            mine["rule_options"] = options
        return dataclasses.replace(self, overrides={**overrides, **mine})


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Several rules on the same data, model, settings and seeds.

    Attributes:
        base: what all runs have in common (its ``rule`` and ``seed`` are replaced in each).
        contenders: the rules, in the order of the report.
        seeds: every contender is run with each of them, so that differences are paired.
        title: of the report; by default made from data and model.

    Raises:
        ConfigurationError: no contender, no seed, something twice, or a run that cannot be (see ``Run``).
        UnknownName: a contender's rule is not registered.
    """

    base: Run
    contenders: tuple[Contender, ...]
    seeds: tuple[int, ...]
    title: str = ""

    def __post_init__(self) -> None:
        if not self.contenders or not self.seeds:
            raise ConfigurationError("A comparison needs at least one rule and at least one seed.")
        if not isinstance(self.title, str):
            raise ConfigurationError(f"The title of a comparison is a string, not a {type(self.title).__name__}.")
        rules = "a learning rule" if len(self.contenders) == 1 else f"{len(self.contenders)} learning rules"
        object.__setattr__(self, "title", self.title or f"{self.base.model} on {self.base.data}: {rules}")
        labels = [contender.label for contender in self.contenders]
        for what, values in (("rule entry", labels), ("seed", self.seeds)):
            if twice := next((value for value in values if list(values).count(value) > 1), None):
                raise ConfigurationError(f"The {what} {twice!r} is given twice; every one may occur once.")
        seen: dict[str, str] = {}
        for (label, seed), run in self.runs().items():  # checks every run, before anything is started
            if (other := seen.setdefault(run.id, label)) != label:
                raise ConfigurationError(
                    f"{other!r} and {label!r} are the same run under two names (seed {seed}): leave one of them out."
                )

    @property
    def id(self) -> str:
        """8 hexadecimal digits that identify what is compared, apart from title and seeds.

        Seeds are left out so that more of them can be added to a comparison that exists.
        """
        plain = {name: value for name, value in self.to_dict().items() if name not in ("title", "seeds")}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:8]

    def run(self, contender: Contender, seed: int) -> Run:
        """The run of ``contender`` with ``seed``."""
        return contender.applied(self.base, seed=seed)

    def runs(self) -> dict[tuple[str, int], Run]:
        """All runs by (label, seed), seed by seed: a comparison that is stopped early is still a paired one."""
        pairs = itertools.product(self.seeds, self.contenders)
        return {(contender.label, seed): self.run(contender, seed) for seed, contender in pairs}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, of which :meth:`from_dict` makes the comparison again."""
        return {
            "title": self.title,
            "base": self.base.to_dict(),
            "contenders": [dataclasses.asdict(contender) for contender in self.contenders],
            "seeds": list(self.seeds),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The comparison that :meth:`to_dict` wrote; what a comparison.json holds besides is left aside.

        Raises:
            ConfigurationError: something is missing, or not what a comparison allows.
        """
        try:
            return cls(
                title=values["title"],
                base=Run.from_dict(values["base"]),
                contenders=tuple(
                    Contender(label=entry["label"], rule=entry["rule"], overrides=entry["overrides"])
                    for entry in values["contenders"]
                ),
                seeds=tuple(values["seeds"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ConfigurationError(f"This is not a comparison ({type(error).__name__}: {error}).") from error

    def describe(self) -> dict[str, Any]:
        """:meth:`to_dict`, and for the reader of comparison.json the rules' claims and papers and the runs' ids."""
        plain = self.to_dict()
        for entry in plain["contenders"]:
            entry["full"], entry["short"] = registry.title(entry["rule"])
            entry["control"] = registry.get(entry["rule"]).control
            entry["summary"] = registry.summary(entry["rule"])
            entry["claims"] = dataclasses.asdict(registry.get(entry["rule"]).claims)
            entry["reference"] = reference(registry.citation(entry["rule"]))
        ids: dict[str, dict[str, str]] = {contender.label: {} for contender in self.contenders}
        for (label, seed), run in self.runs().items():
            ids[label][str(seed)] = run.id
        return {**plain, "runs": ids}
