"""The race of the cells that act in NEF-6: who should win by the closed form of a LIF neuron's first spike."""

import torch
from literal_nef import CLASSES, DT, examples, net
from torch.nn import functional as F

import plausible
from plausible.core import registry
from plausible.functional.lif import Cell
from plausible.rules.spiking.actor import GAIN, READY, raced, ready

CELL = Cell(amplitude=0.01)


def run(values, steps, noise=0.0, seed=0):
    draw = torch.Generator().manual_seed(seed)
    race = ready(CELL, values)
    for _ in range(steps):
        race = raced(CELL, race, values, noise * torch.randn(values.shape, generator=draw, dtype=values.dtype), DT)
    return race.won


def test_the_first_to_spike_wins_within_a_step_too_and_stays_the_winner():
    values = torch.rand(500, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    current = READY + GAIN * values
    first = CELL.tau_rc * torch.log(current / (current - 1))  # from rest to the threshold
    in_one_step = (first.sort(1).values[:, :2] / DT).floor().diff(dim=1) == 0
    assert in_one_step.any() and not in_one_step.all()
    for steps in (8, 12):
        won = run(values, steps)
        assert torch.equal(won.sum(1), torch.ones(500).double())
        assert torch.equal(won.argmax(1), first.argmin(1))
    fast = first.min(1).values / DT
    assert torch.equal(run(values, 2).any(1), fast < 2)


def test_cells_below_their_threshold_do_nothing():
    assert not run(torch.full((3, 4), -1.0).double(), 100).any()


def test_noise_explores_where_values_are_close_and_hardly_where_they_are_not():
    close, far = torch.full((2000, 10), 0.3).double(), torch.zeros(2000, 10).double()
    close[:, 3], far[:, 3] = 0.35, 1.0
    others = [float((run(values, 8, noise=1.0).argmax(1) != 3).double().mean()) for values in (close, far)]
    assert others[0] > 0.5 and others[1] < 0.01


def test_the_world_is_asked_about_the_winner_and_a_net_that_does_nothing_is_not_rewarded_and_not_taught():
    asked = []

    def world(action):
        asked.append(action)
        return (action >= 0).double()

    for values in (0.8, -1.0):
        model, (x, _) = net(1, bias=True, decoders="paired"), examples(6)
        with torch.no_grad():
            model.readout.weight.zero_()
            model.readout.bias.copy_(torch.full((CLASSES,), -1.0).index_fill_(0, torch.tensor(1), values))
        rule = registry.make("nef-6", actor=True, noise=0.0, explore=1.0)
        learner = plausible.bind(model, rule, F.cross_entropy)
        outcome = learner.learn(x, world)
        taught = model.readout.weight.grad.any()
        assert (asked[-1] == (1 if values > 0 else -1)).all()
        assert bool(taught) == (values > 0) and float(outcome.loss) == (0.0 if values > 0 else 1.0)
