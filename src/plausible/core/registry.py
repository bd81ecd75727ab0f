"""Where rules are found by name: our own, and those that installed packages offer.

Our own are the modules below :mod:`plausible.rules`. Another package offers a rule through the entry point
group ``plausible.rules``, whose value names the module that defines it:

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
from typing import TypeVar

from plausible.core.errors import ConfigurationError, unknown
from plausible.core.rule import Rule

GROUP = "plausible.rules"

R = TypeVar("R", bound=Rule)

_rules: dict[str, type[Rule]] = {}


def register(cls: type[R]) -> type[R]:
    """Class decorator: make a rule known by its ``name``.

    Raises:
        ConfigurationError: another rule has that name.
    """
    other = _rules.get(cls.name)
    if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ConfigurationError(
            f"Two rules are named {cls.name!r}: {other.__module__}.{other.__qualname__} and "
            f"{cls.__module__}.{cls.__qualname__}. Rename one of them."
        )
    _rules[cls.name] = cls
    return cls


@cache
def _discover() -> None:
    # By name: the layers below may not import the rules.
    package = import_module("plausible.rules")
    for module in walk_packages(package.__path__, package.__name__ + "."):
        import_module(module.name)
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:
            raise ConfigurationError(
                f"The rule {entry.name!r} of another package could not be loaded from {entry.value}: {error}. "
                "Repair or uninstall that package."
            ) from error


def names() -> list[str]:
    """The names of all rules, sorted."""
    _discover()
    return sorted(_rules)


def get(name: str) -> type[Rule]:
    """The rule's class.

    Raises:
        UnknownName: there is no such rule; the message suggests the nearest.
    """
    _discover()
    if name not in _rules:
        raise unknown("rule", name, _rules)
    return _rules[name]


def make(name: str, **options: object) -> Rule:
    """A rule with some of its fields set.

    Raises:
        UnknownName: there is no such rule.
        ConfigurationError: it has no such field, or the field cannot take that value.
    """
    cls = get(name)
    known = {f.name for f in fields(cls)}
    for option in options:
        if option not in known:
            near = get_close_matches(option, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigurationError(f"{name} has no option {option!r}.{hint} It has: {', '.join(sorted(known))}.")
    return cls(**options)  # pyright: ignore[reportArgumentType]


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
