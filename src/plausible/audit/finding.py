"""What a criterion found: a measured value, the verdict that follows from it, and what was done, in plain words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["solved", "partly", "violated", "does not apply", "could not be measured"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of one criterion on one learner.

    Attributes:
        criterion: its name.
        verdict: solved; partly; violated; does not apply (there is nothing the problem could concern); could not
            be measured (and ``sentence`` says why).
        sentence: what was done and seen, in one plain sentence or two.
        value: the number that the verdict rests on; None without one.
        unit: of ``value``.
        layers: the same number by layer, where it has one for each.
        samples: how many independent values ``value`` summarises.
        spread: their standard deviation; None of a single one.
        thresholds: what separates the verdicts, by name, in the unit of what they judge.
        also: further measured numbers, reported and not judged.
    """

    criterion: str
    verdict: Verdict
    sentence: str
    value: float | None = None
    unit: str = ""
    layers: Mapping[str, float] = field(default_factory=dict)
    samples: int = 1
    spread: float | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    also: Mapping[str, float] = field(default_factory=dict)
