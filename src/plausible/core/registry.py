"""Where rules and constraints are found by name: our own, and those that installed packages offer.

Our own are the modules below :mod:`plausible.rules` and :mod:`plausible.constraints`. Another package offers a rule
through the entry point group ``plausible.rules``, whose value names the module that defines it, and a constraint
likewise:

    [project.entry-points."plausible.rules"]
    my-rule = "my_package.my_rule"
"""

import re
import sys
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from inspect import cleandoc
from pkgutil import walk_packages
from typing import Any, Generic, TypeVar

from plausible.core.constraint import Constraint
from plausible.core.errors import ConfigurationError, unknown
from plausible.core.rule import Registered, Rule

T = TypeVar("T", bound=Registered)
C = TypeVar("C", bound=type[Any])


@cache
def _discover(kind: str, group: str) -> None:
    # By name: the layers below may not import the rules.
    package = import_module(group)
    for module in walk_packages(package.__path__, package.__name__ + "."):
        import_module(module.name)
    for entry in entry_points(group=group):
        try:
            entry.load()
        except Exception as error:
            raise ConfigurationError(
                f"The {kind} {entry.name!r} of another package could not be loaded from {entry.value}: {error}. "
                "Repair or uninstall that package."
            ) from error


class Registry(Generic[T]):
    """Dataclasses of one kind, by their names.

    Attributes:
        kind: what they are, in words.
        group: the package that holds our own, and the entry point group of others'.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind, self.group = kind, group
        self._classes: dict[str, Any] = {}

    def register(self, cls: C) -> C:
        """Class decorator: make a class known by its ``name``.

        Raises:
            ConfigurationError: another one has that name.
        """
        other = self._classes.get(cls.name)
        if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ConfigurationError(
                f"Two {self.kind}s are named {cls.name!r}: {other.__module__}.{other.__qualname__} and "
                f"{cls.__module__}.{cls.__qualname__}. Rename one of them."
            )
        self._classes[cls.name] = cls
        return cls

    def names(self) -> list[str]:
        """The names of all there are, sorted."""
        _discover(self.kind, self.group)
        return sorted(self._classes)

    def get(self, name: str) -> type[T]:
        """The class of that name.

        Raises:
            UnknownName: there is none; the message suggests the nearest.
        """
        _discover(self.kind, self.group)
        if name not in self._classes:
            raise unknown(self.kind, name, self._classes)
        return self._classes[name]

    def make(self, name: str, /, **options: object) -> T:
        """An instance with some of its fields set.

        Raises:
            UnknownName: there is no such class.
            ConfigurationError: it has no such field, or the field cannot take that value.
        """
        cls = self.get(name)
        known = {f.name for f in fields(cls)}
        for option in options:
            if option not in known:
                near = get_close_matches(option, known, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ConfigurationError(f"{name} has no option {option!r}.{hint} It has: {', '.join(sorted(known))}.")
        return cls(**options)  # pyright: ignore[reportArgumentType]


rules = Registry[Rule]("rule", "plausible.rules")
constraints = Registry[Constraint]("constraint", "plausible.constraints")

register, names, get, make = rules.register, rules.names, rules.get, rules.make


def header(name: str) -> str:
    """The header of the file that defines the rule: what, equation, what travels, departures, reference."""
    return cleandoc(sys.modules[get(name).__module__].__doc__ or "")


def title(name: str) -> tuple[str, str]:
    """The rule's full and short name in print, which open its header: ``Feedback alignment (FA): …``."""
    found = re.match(r"([^:(]+?)(?: \(([^)]+)\))?:", header(name))
    full, short = found.groups() if found else (name, None)
    return full, short or full


def summary(name: str) -> str:
    """The first sentence of the header."""
    return header(name).split("\n\n")[0].replace("\n", " ")


def citation(name: str) -> str:
    """The BibTeX entry of the paper that introduced the rule.

    The entry stands in the header of one rule of that paper; the others give its key.

    Raises:
        ConfigurationError: no header has an entry with the key that the rule claims.
    """
    key = get(name).claims.paper
    for other in names():
        entry = re.search(rf"^@\w+\{{{re.escape(key)},.*?^\}}", header(other), re.MULTILINE | re.DOTALL)
        if entry:
            return entry.group()
    raise ConfigurationError(
        f"{name} claims the paper {key!r}, but no rule's header has a BibTeX entry with that key. Add it to the header."
    )
