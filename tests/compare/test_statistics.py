"""The statistics against closed forms worked by hand, a table of Student's t, and scipy's own tests."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from plausible.compare.statistics import estimate, holm, paired_difference
from plausible.core.errors import ConfigurationError


def test_estimate_by_hand() -> None:
    # mean 4, deviations −2, 0, 2: s = √(8/2) = 2; two degrees of freedom: t(q) = (2q − 1) / √(2q(1 − q)) = 4.3027
    half = 0.95 / math.sqrt(2 * 0.975 * 0.025) * 2 / math.sqrt(3)
    e = estimate([2.0, 4.0, 6.0])
    assert (e.mean, e.sd, e.n) == (4.0, 2.0, 3)
    assert e.low is not None and e.high is not None
    assert e.low == pytest.approx(4 - half, rel=1e-9)
    assert e.high == pytest.approx(4 + half, rel=1e-9)


def test_two_seeds_have_the_cauchy_interval() -> None:
    # one degree of freedom is the Cauchy distribution: t(.975) = tan(π · .475); s/√2 = |a − b| / 2
    e = estimate([1.0, 3.0])
    assert e.high == pytest.approx(2 + math.tan(math.pi * 0.475) * 1.0, rel=1e-12)


def test_one_seed_has_a_mean_and_nothing_else() -> None:
    e = estimate([0.75])
    assert (e.mean, e.sd, e.low, e.high, e.n) == (0.75, None, None, None, 1)
    d = paired_difference({3: 0.75}, {3: 0.5})
    assert d is not None
    assert (d.mean, d.sd, d.low, d.high, d.n, d.p, d.pairs) == (0.25, None, None, None, 1, None, (3,))


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 5, 12])
def test_against_scipy(level: float, n: int) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.9, 0.02, n), rng.normal(0.88, 0.03, n)
    e = estimate(list(a), level)
    low, high = stats.t.interval(level, n - 1, loc=a.mean(), scale=stats.sem(a))
    assert (e.low, e.high) == (pytest.approx(low, rel=1e-12), pytest.approx(high, rel=1e-12))
    oracle = stats.ttest_rel(a, b)
    interval = oracle.confidence_interval(level)
    d = paired_difference(dict(enumerate(a)), dict(enumerate(b)), level)
    assert d is not None
    assert d.mean == pytest.approx((a - b).mean(), rel=1e-12)
    assert (d.low, d.high) == (pytest.approx(interval.low, rel=1e-9), pytest.approx(interval.high, rel=1e-9))
    assert d.p == pytest.approx(oracle.pvalue, rel=1e-9)


def test_pairs_are_matched_by_seed_and_not_by_place() -> None:
    # over seeds 1 and 2 (the only ones shared) the differences are 0.1 and 0.3
    d = paired_difference({2: 0.9, 1: 0.8, 7: 0.0}, {1: 0.7, 2: 0.6, 9: 1.0})
    assert d is not None
    assert d.pairs == (1, 2)
    assert d.mean == pytest.approx(0.2)
    assert d.sd == pytest.approx(math.sqrt(0.02))


def test_no_shared_seed_gives_nothing() -> None:
    assert paired_difference({1: 0.5}, {2: 0.5}) is None


def test_equal_differences() -> None:
    same = paired_difference({0: 0.5, 1: 0.75, 2: 0.25}, {0: 0.5, 1: 0.75, 2: 0.25})
    shifted = paired_difference({0: 0.75, 1: 1.0, 2: 0.5}, {0: 0.5, 1: 0.75, 2: 0.25})
    assert same is not None and shifted is not None
    assert (same.low, same.high, same.p) == (0.0, 0.0, 1.0)
    assert (shifted.low, shifted.high, shifted.p) == (0.25, 0.25, 0.0)


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03 .04 times 4 3 2 1: .04 .06 .06 .04, then the running maximum
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.3]) == [0.3]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_keeps_order_and_stays_below_bonferroni(p: list[float]) -> None:
    adjusted = holm(p)
    ranked = [v for _, v in sorted(zip(p, adjusted, strict=True))]
    assert ranked == sorted(ranked)
    assert all(raw <= v <= min(1.0, raw * len(p)) for raw, v in zip(p, adjusted, strict=True))


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8), st.floats(-1e3, 1e3))
def test_a_shift_moves_the_interval_and_keeps_its_width(values: list[float], shift: float) -> None:
    one, two = estimate(values), estimate([v + shift for v in values])
    assert one.low is not None and two.low is not None and one.high is not None and two.high is not None
    assert two.low - one.low == pytest.approx(shift, abs=1e-6)
    assert two.high - two.low == pytest.approx(one.high - one.low, abs=1e-6)


def test_coverage_of_the_interval() -> None:
    # of 4000 intervals over five normal seeds, 95 % hold the true mean; four standard errors are 1.4 points
    rng = np.random.default_rng(0)
    held = 0
    for row in rng.normal(0.9, 0.01, (4000, 5)):
        e = estimate(list(row))
        assert e.low is not None and e.high is not None
        held += e.low <= 0.9 <= e.high
    assert held / 4000 == pytest.approx(0.95, abs=0.014)


@pytest.mark.parametrize("values", [[], [math.nan, 1.0], [math.inf], [[1.0, 2.0]]])
def test_bad_values_are_refused(values: list[float]) -> None:
    with pytest.raises(ConfigurationError):
        estimate(values)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_bad_levels_are_refused(level: float) -> None:
    with pytest.raises(ConfigurationError, match="level"):
        estimate([1.0, 2.0], level)


def test_bad_p_values_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        holm([0.5, 1.5])
