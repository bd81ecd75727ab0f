"""What a field of a run may hold: small functions that return the canonical value or refuse it."""

import math
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from plausible.core.errors import ConfigurationError

DEPTH = 32
"""How deep lists and mappings may lie in each other in an option: what is deeper is no setting that anybody wrote."""

Check = Callable[[str, Any], Any]
"""``check(field, value)`` returns the canonical value, or raises :class:`ConfigurationError`."""


def refusal(field: str, value: object, allowed: str) -> ConfigurationError:
    """The error that names the field, its value and what is allowed."""
    return ConfigurationError(f"{field} = {value!r} is not allowed: it must be {allowed}.")


def nearest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` with the nearest known name, or nothing."""
    lowered = {other.lower(): other for other in known}
    near = get_close_matches(name.lower(), lowered, n=1)
    return f" Did you mean {lowered[near[0]]!r}?" if near else ""


def text(field: str, value: Any) -> str:
    """A string that is not empty."""
    if not isinstance(value, str) or not value:
        raise refusal(field, value, "a string that is not empty")
    return value


def truth(field: str, value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise refusal(field, value, "true or false")
    return value


def choice(*known: str) -> Check:
    """One of a few names."""

    def check(field: str, value: Any) -> str:
        if value not in known:
            allowed = "one of " + ", ".join(map(repr, known))
            hint = nearest(value, known) if isinstance(value, str) else ""
            raise ConfigurationError(f"{refusal(field, value, allowed)}{hint}")
        return value

    return check


def whole(low: int, high: int | None = None) -> Check:
    """A whole number of at least ``low`` and, where given, at most ``high``."""
    allowed = f"a whole number of at least {low}" + (f" and at most {high}" if high is not None else "")

    def check(field: str, value: Any) -> int:
        if type(value) is not int or value < low or (high is not None and value > high):
            raise refusal(field, value, allowed)
        return value

    return check


def number(*, low: float = -math.inf, above: float = -math.inf) -> Check:
    """A finite number of at least ``low`` and greater than ``above``; whole numbers become floats."""
    bounds = [f"at least {low:g}"] * (low > -math.inf) + [f"greater than {above:g}"] * (above > -math.inf)
    allowed = " ".join(["a finite number", *bounds])

    def check(field: str, value: Any) -> float:
        if type(value) not in (int, float) or not -1e300 < value < 1e300 or value < low or value <= above:
            raise refusal(field, value, allowed)
        return float(value)

    return check


def optional(check: Check) -> Check:
    """``None``, or what ``check`` allows."""
    return lambda field, value: None if value is None else check(field, value)


def options(field: str, value: Any) -> dict[str, Any]:
    """A mapping from names to plain values: what JSON can hold, copied, with tuples as lists."""
    if not isinstance(value, Mapping):
        raise refusal(field, value, "a mapping from option names to values")
    return _plain(field, value)


def entries(field: str, value: Any) -> list[dict[str, dict[str, Any]]]:
    """A list of names with their options, each a mapping from one name to a mapping."""
    if not isinstance(value, list | tuple):
        raise refusal(field, value, "a list such as [{'quantised': {'bits': 4}}]")
    found = [options(f"{field}[{k}]", item) for k, item in enumerate(value)]
    for k, item in enumerate(found):
        if len(item) != 1 or not isinstance(next(iter(item.values())), dict):
            raise refusal(f"{field}[{k}]", item, "one name with its options, such as {'quantised': {'bits': 4}}")
    return found


def _plain(where: str, value: Any, room: int = DEPTH) -> Any:
    if isinstance(value, Mapping | list | tuple) and not room:
        raise ConfigurationError(f"{where.partition('.')[0].partition('[')[0]} is nested deeper than {DEPTH} times.")
    if isinstance(value, Mapping):
        for key in value:
            text(f"a name in {where}", key)
        return {key: _plain(f"{where}.{key}", item, room - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(f"{where}[{i}]", item, room - 1) for i, item in enumerate(value)]
    if type(value) is float and not math.isfinite(value):
        raise refusal(where, value, "finite")
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise refusal(where, value, "a plain value (true or false, a number, a string, a list or a mapping)")
