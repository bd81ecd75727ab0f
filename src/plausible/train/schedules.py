"""Learning-rate schedules: pure functions of the step, so that a resumed run needs no state to go on exactly.

A schedule gives the factor on the base learning rate ``at`` epochs (a fraction, counted from the end of the
warm-up) ``of`` all the epochs after the warm-up; its own options are keyword-only.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from plausible.core.names import check_options
from plausible.train.checks import number, refusal


def constant(_at: float, _of: float) -> float:
    """The base learning rate throughout."""
    return 1.0


def cosine(at: float, of: float, *, floor: float = 0.0) -> float:
    """From 1 down to ``floor`` along half a cosine (Loshchilov & Hutter, 2017)."""
    return floor + (1 - floor) * (1 + math.cos(math.pi * at / of)) / 2


def step(at: float, _of: float, *, milestones: Sequence[float], gamma: float = 0.1) -> float:
    """Times ``gamma`` once more from each of the ``milestones`` on, in epochs."""
    return gamma ** sum(at >= milestone for milestone in milestones)


SCHEDULES: dict[str, Callable[..., float]] = {"constant": constant, "cosine": cosine, "step": step}


def check(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options that the named schedule does not have, lacks, or cannot take.

    Raises:
        ConfigurationError: names the option, its value and what is allowed.
    """
    check_options(SCHEDULES[name], options, kind=f"schedule {name!r}", supplied=("_at", "_of"))
    for option in options.keys() & {"floor", "gamma"}:
        number(low=0.0)(f"schedule_options.{option}", options[option])
    if name == "step":
        where, milestones = "schedule_options.milestones", options.get("milestones")
        if not isinstance(milestones, list) or not milestones:
            raise refusal(where, milestones, "a list of epochs, such as [100, 150]")
        for milestone in milestones:
            number(low=0.0)(where, milestone)


def make(name: str, options: Mapping[str, Any], *, warmup: int, total: int, per_epoch: int) -> Callable[[int], float]:
    """The named schedule after a linear warm-up, as a function of the update's number (from 0) to the factor.

    Args:
        name: one of :data:`SCHEDULES`.
        options: what :func:`check` accepts.
        warmup: steps of the warm-up; its update ``t`` uses ``(t + 1) / warmup`` of the base learning rate.
        total: all steps of the run, the warm-up included.
        per_epoch: steps per epoch.
    """
    after, length = SCHEDULES[name], (total - warmup) / per_epoch

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return after((step - warmup) / per_epoch, length, **options)

    return factor
