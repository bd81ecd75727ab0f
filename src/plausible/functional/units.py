"""Refuses what cannot be a time in seconds: above all, milliseconds."""

from math import isfinite


def seconds(name: str, value: float, *, zero: bool = False, most: float = 1.0) -> float:
    """``value``, a duration called ``name``.

    Args:
        name: what to call it in an error.
        value: in seconds.
        zero: whether it may be 0.
        most: the longest that can be meant; beyond it somebody has thought of milliseconds.

    Raises:
        ValueError: it is not positive, not finite, or longer than ``most``.
    """
    if not (isfinite(value) and (value > 0 or (zero and value == 0))):
        raise ValueError(f"{name} = {value!r}: a time in seconds is a finite number{'' if zero else ' above 0'}.")
    if value > most:
        raise ValueError(
            f"{name} = {value:g} would be {value:g} seconds, and more than {most:g} cannot be meant. All times are in "
            f"seconds: for {value:g} ms give {value / 1000:g}."
        )
    return value
