"""Compartments: against the differential equation itself, solved by a fine explicit Euler or in closed form."""

import math

import pytest
import torch

from plausible.functional.dendrites import attenuation, follow, rest, step

LEAK = 0.1
U0 = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64)
INPUTS = ((1.0, torch.tensor([1.0, 0.5, -0.4], dtype=torch.float64)), (0.8, U0.flip(0) * 2))


def slope(u: torch.Tensor) -> torch.Tensor:
    """du/dt."""
    return -LEAK * u + sum(g * (v - u) for g, v in INPUTS)


def test_nothing_moves_at_rest():
    u = rest(LEAK, *INPUTS)
    torch.testing.assert_close(slope(u), torch.zeros_like(u), rtol=0, atol=1e-14)
    torch.testing.assert_close(step(u, 0.7, LEAK, *INPUTS), u, rtol=1e-14, atol=1e-15)


def test_a_soma_with_one_input_feels_it_attenuated():
    v = INPUTS[0][1]
    torch.testing.assert_close(rest(LEAK, (1.0, v)), v * attenuation(LEAK, 1.0), rtol=1e-14, atol=0)
    assert attenuation(0.1, 1.0, 0.8) == pytest.approx(1 / 1.9, rel=1e-15)
    with_silent = rest(LEAK, (1.0, v), (0.8, torch.zeros_like(v)))
    torch.testing.assert_close(with_silent, v * attenuation(LEAK, 1.0, 0.8), rtol=1e-14, atol=0)


def test_a_step_solves_the_equation():
    """Against Euler's method with steps of a hundred-thousandth, whose error is of that order."""
    u, n = U0.clone(), 100_000
    for _ in range(n):
        u = u + slope(u) * 0.7 / n
    torch.testing.assert_close(step(U0, 0.7, LEAK, *INPUTS), u, rtol=0, atol=1e-4)
    torch.testing.assert_close(step(U0, 1e-7, LEAK, *INPUTS), U0 + 1e-7 * slope(U0), rtol=0, atol=1e-12)


def test_two_steps_are_one_of_twice_the_length():
    twice = step(step(U0, 0.35, LEAK, *INPUTS), 0.35, LEAK, *INPUTS)
    torch.testing.assert_close(twice, step(U0, 0.7, LEAK, *INPUTS), rtol=1e-14, atol=1e-15)


def test_the_filter_forgets_with_its_time_constant():
    x = follow(U0, torch.zeros_like(U0), 3.0, 1.5)
    torch.testing.assert_close(x, U0 * math.exp(-2), rtol=1e-14, atol=0)
    torch.testing.assert_close(follow(U0, U0 + 1, 0.0, 1.5), U0, rtol=0, atol=0)
