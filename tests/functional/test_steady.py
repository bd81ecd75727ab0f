"""The closed form against the general step, spike for spike, over currents that change."""

import pytest
import torch

from plausible.functional import lif, steady
from plausible.functional.lif import Cell


@pytest.mark.parametrize("dt", [1e-3, 2e-3])
def test_spikes_and_voltages_are_those_of_the_general_step(dt):
    cell = Cell(amplitude=0.5)
    draw = torch.Generator().manual_seed(0)
    general, closed = (
        cell.rest(3, 40, like=torch.zeros(1).double()),
        steady.rest(cell, 3, 40, like=torch.zeros(1).double()),
    )
    for length in (1, 2, 17, 40, 3, 60, 1, 25):
        J = 6 * torch.rand(3, 40, generator=draw, dtype=torch.float64) - 1
        for _ in range(length):
            expected, general = lif.step(cell, general, J, dt)
            spikes, closed = steady.step(cell, closed, J, dt)
            assert torch.equal(spikes, expected)
        now = steady.membrane(cell, closed, dt)
        torch.testing.assert_close(now.v, general.v, rtol=0, atol=1e-12)
        waits = general.silent > dt
        torch.testing.assert_close(now.silent[waits], general.silent[waits], rtol=0, atol=1e-12)
        assert (now.silent[~waits] <= dt + 1e-12).all()


def test_a_copy_of_the_current_is_a_new_current_and_makes_no_difference():
    cell, J = Cell(), torch.full((1, 1), 3.0, dtype=torch.float64)
    one = two = steady.rest(cell, 1, 1, like=J)
    for _ in range(200):
        a, one = steady.step(cell, one, J, 1e-3)
        b, two = steady.step(cell, two, J.clone(), 1e-3)
        assert torch.equal(a, b)


def test_below_the_threshold_nothing_fires():
    cell, J = Cell(), torch.tensor([[1.0, 0.5, -2.0]])
    state = steady.rest(cell, 1, 3, like=J)
    for _ in range(100):
        spikes, state = steady.step(cell, state, J, 1e-3)
        assert not spikes.any()
