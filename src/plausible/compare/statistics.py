"""Statistics of a comparison: a mean over seeds, a difference paired by seed, and Holm's correction.

Seeds are the sample: every number here describes how a result varies when the initial weights, the feedback weights
and the order of the data are drawn again, and nothing else (not another data set, not another network). With values
x₁ … xₙ from n seeds and t the quantile of Student's distribution with n − 1 degrees of freedom,

    mean      x̄ = Σ xᵢ / n
    sd        s = √( Σ (xᵢ − x̄)² / (n − 1) )
    interval  x̄ ± t₍₁₊level₎⸝₂ · s / √n

A paired difference takes dᵢ = aᵢ − bᵢ over the seeds that both have, and is the same three lines on d; what two runs
of one seed share (the order of the data, often the initial weights) cancels. Nothing is computed from one seed: its
sd, interval and p are None.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from plausible.core.errors import ConfigurationError


@dataclass(frozen=True)
class Estimate:
    """A mean over ``n`` values with its spread; ``sd``, ``low`` and ``high`` are None where n = 1.

    ``low`` and ``high`` bound Student's two-sided interval of the mean at ``level``. All are in the unit of the values.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    n: int
    level: float


@dataclass(frozen=True)
class Difference(Estimate):
    """An :class:`Estimate` of a − b over the pairs, and ``p`` of the two-sided paired t test (None where n = 1)."""

    p: float | None
    pairs: tuple[int, ...]


def _checked(values: Sequence[float], level: float) -> np.ndarray:
    if not 0 < level < 1:
        raise ConfigurationError(f"The level of a confidence interval lies between 0 and 1, not at {level}.")
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ConfigurationError(f"A mean needs a flat list of at least one value; this has shape {array.shape}.")
    if not np.isfinite(array).all():
        raise ConfigurationError("A mean over values that are NaN or infinite says nothing; leave those runs out.")
    return array


def estimate(values: Sequence[float], level: float = 0.95) -> Estimate:
    """Mean, standard deviation and Student's interval of ``values`` (one number per seed).

    Raises:
        ConfigurationError: there is no value, one is NaN or infinite, or ``level`` is not inside (0, 1).
    """
    x = _checked(values, level)
    if x.size == 1:
        return Estimate(float(x[0]), None, None, None, 1, level)
    mean, sd = float(x.mean()), float(x.std(ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, x.size - 1)) * sd / float(np.sqrt(x.size))
    return Estimate(mean, sd, mean - half, mean + half, int(x.size), level)


def paired_difference(a: Mapping[int, float], b: Mapping[int, float], level: float = 0.95) -> Difference | None:
    """How far ``a`` lies above ``b``, paired by seed; None where they share no seed.

    Args:
        a: seed → value of the contender.
        b: seed → value of the reference.
        level: of the interval.

    Where every difference is the same t is infinite and p is 0; where they are all zero, t is taken to be 0 and p is 1.

    Raises:
        ConfigurationError: a shared seed has a value that is NaN or infinite, or ``level`` is not inside (0, 1).
    """
    pairs = tuple(sorted(a.keys() & b.keys()))
    if not pairs:
        return None
    d = estimate([a[seed] - b[seed] for seed in pairs], level)
    p = None
    if d.sd is not None:
        error = d.sd / float(np.sqrt(d.n))
        t = abs(d.mean) / error if error > 0 else 0.0 if d.mean == 0 else float("inf")
        p = float(2 * stats.t.sf(t, d.n - 1))
    return Difference(d.mean, d.sd, d.low, d.high, d.n, level, p, pairs)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p values that may be read together, in the order given.

    Sorted, p₍ₖ₎ becomes max over j ≤ k of min(1, (m − j + 1) · p₍ⱼ₎) for m tests. It controls the chance of any false
    alarm among them, whatever their dependence (here they share one reference).

    Raises:
        ConfigurationError: a value lies outside [0, 1].
    """
    values = np.asarray(p, dtype=np.float64)
    if values.size == 0:
        return []
    if not ((values >= 0) & (values <= 1)).all():
        raise ConfigurationError(f"p values lie between 0 and 1; got {list(p)}.")
    order = np.argsort(values, kind="stable")
    stepped = np.minimum(1.0, values[order] * np.arange(values.size, 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(stepped)
    return [float(v) for v in adjusted]
