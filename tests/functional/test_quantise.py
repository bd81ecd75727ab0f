"""Rounding, against its closed form."""

from fractions import Fraction
from math import floor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plausible.functional.quantise import quantise


@given(st.floats(-3, 3), st.sampled_from([0.1, 0.37, 1.0, 1 / 3]), st.integers(1, 5))
def test_to_the_nearest_level(w: float, step: float, most: int):
    """In exact arithmetic: no level is nearer; one of two that are equally near is even."""
    (found,) = quantise(torch.tensor([w], dtype=torch.float64), step, most).tolist()
    levels = {k: Fraction(k) * Fraction(step) for k in range(-most, most + 1)}
    k = min(levels, key=lambda k: abs(levels[k] * step - Fraction(found) * step))
    assert found == k * step
    assert abs(Fraction(w) - levels[k]) <= min(abs(Fraction(w) - level) for level in levels.values()) + Fraction(1e-15)


def test_a_tie_goes_to_the_even_level():
    w = torch.tensor([0.5, 1.5, -0.5, -1.5, 2.5])
    assert quantise(w, 1.0, 4).tolist() == [0, 2, 0, -2, 2]


@pytest.mark.parametrize("w", [0.1, -0.1, 0.63, -2.2, 2.999])
def test_by_chance_it_is_one_of_the_two_neighbours_and_right_on_average(w: float):
    """P(up) is the fraction f of a step left over, so the mean has the standard error Δ·√(f(1−f)/n)."""
    step, most, n = 0.25, 12, 200_000
    draw = torch.Generator().manual_seed(0)
    uniform = torch.rand(n, generator=draw, dtype=torch.float64)
    found = quantise(torch.full((n,), w, dtype=torch.float64), step, most, uniform)
    below = floor(w / step)
    f = w / step - below
    assert set(found.unique().tolist()) == {below * step, (below + 1) * step}
    error = step * (f * (1 - f) / n) ** 0.5
    assert abs(float(found.mean()) - w) < 4 * error


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("step", [0.1, 1 / 3, 0.0123])
def test_what_lies_on_a_level_stays_whatever_chance_says(dtype: torch.dtype, step: float):
    """3·0.1/0.1 is more than 3 in floating point, and 2.999… would be too little."""
    most = 2**11
    levels = torch.arange(-most, most + 1, dtype=dtype) * step
    for uniform in (torch.zeros_like(levels), torch.full_like(levels, 1 - 2**-24)):
        assert torch.equal(quantise(levels, step, most, uniform), levels)
    assert torch.equal(quantise(levels, step, most), levels)


def test_beyond_the_last_level_it_saturates():
    w = torch.tensor([-9.0, -1.1, 1.1, 9.0, float("inf")])
    assert quantise(w, 0.5, 2).tolist() == [-1, -1, 1, 1, 1]
    assert quantise(w, 0.5, 2, torch.full((5,), 0.99)).tolist() == [-1, -1, 1, 1, 1]


@pytest.mark.parametrize(("step", "most"), [(0.0, 3), (-1.0, 3), (1.0, 0)])
def test_there_must_be_levels(step: float, most: int):
    with pytest.raises(ValueError, match="must be positive"):
        quantise(torch.zeros(2), step, most)
