"""Quantised and noisy weights under every registered rule: what is stored, what is used, and that learning goes on."""

import pytest
import torch
from contract_tools import assert_same, own_state
from test_every_constraint import bind, go, weights

from plausible.constraints.noisy import Noisy
from plausible.constraints.quantised import Quantised
from plausible.constraints.quantised_use import QuantisedUse


@pytest.mark.parametrize("stochastic", [True, False], ids=["stochastic", "nearest"])
@pytest.mark.parametrize("bits", [2, 4])
def test_after_each_step_every_weight_is_one_of_the_levels(case, bits: int, stochastic: bool):
    """k·Δ with |k| < 2^(b−1), and Δ = 3·RMS/(2^(b−1) − 1) of the weight before; so 2^b − 1 values at most."""
    plain, _ = bind(case)
    most = 2 ** (bits - 1) - 1
    learner, optimizer = bind(case, Quantised(bits=bits, stochastic=stochastic))
    # Feedback that a rule computes from W at binding, it computes of what is stored; its scale is then that one's.
    scale = {k: w.square().mean().sqrt() for k, w in weights(plain).items() if k.startswith("model.")}
    grids: dict[str, set[float]] = {}
    for k in range(4):
        if k:
            go(case, learner, optimizer, range(k, k + 1))
        for name, weight in weights(learner).items():
            found = set(weight.unique().tolist())
            grids[name] = grids.get(name, set()) | found
            if name in scale:
                level = weight / (3 * scale[name] / most)
                torch.testing.assert_close(level, level.round(), rtol=0, atol=1e-9)
                assert level.abs().max() <= most + 1e-9
    assert all(len(grid) <= 2**bits - 1 for grid in grids.values()), "the levels are the same at every step"


def test_what_is_stored_is_precise_and_within_the_range_where_only_the_use_is_quantised(case):
    learner, optimizer = bind(case, QuantisedUse(bits=3))
    go(case, learner, optimizer, range(3))
    stored = weights(learner)
    with learner.reading():
        used = weights(learner)
    for name, weight in used.items():
        assert len(weight.unique()) <= 7
        step = learner.constraints.get_buffer(f"0/{name.replace('.', '/')}/step")
        # Nearest: half a step away at most, and nothing beyond the last level to come from.
        assert (weight - stored[name]).abs().max() <= step / 2 * (1 + 1e-9)
    assert any(len(weight.unique()) > 7 for weight in stored.values())


def test_noise_of_no_size_is_no_constraint(case):
    """To the last bit, whatever is composed of it."""
    ends = []
    for constraints in (
        [],
        [Noisy(read=0.0, write=0.0)],
        [Noisy(read=0.0, write=0.0), Noisy(read=0, write=0, on="feedback")],
    ):
        learner, optimizer = bind(case, *constraints)
        go(case, learner, optimizer, range(3))
        ends.append(weights(learner) | own_state(learner))
    assert_same(ends[0], ends[1])
    assert_same(ends[0], ends[2])


def test_with_as_many_bits_as_there_are_the_weights_are_those_without(case):
    """Each writing moves a weight by at most one step of the finest grid that can be asked for, Δ = R/(2²³ − 1)."""
    plain, its_optimizer = bind(case)
    learner, optimizer = bind(case, Quantised(bits=24, range=50.0))
    before = weights(plain)
    for name, weight in weights(learner).items():
        if name.startswith("model."):
            step = 50 * before[name].square().mean().sqrt() / (2**23 - 1)
            assert 0 < (weight - before[name]).abs().max() <= step
    del its_optimizer, optimizer


def test_eight_bits_learn(small):
    if small.rule().claims.told != "label":
        pytest.skip("from a bit of reward, so few steps show little but chance")
    # Some nets start with a small readout, which must have room to grow: the range is fixed at binding.
    learner, optimizer = bind(small, Quantised(bits=8, range=16.0), lr=0.02)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        learner.reset()
        losses.append(float(learner.learn(*small.batch(n=12)).loss))
        optimizer.step()
    assert sum(losses[-5:]) < 0.9 * 5 * losses[0]
