"""The dynamics of the dendritic microcircuit: against its equations in plain loops, and against its own equilibrium."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from literal import Array
from literal_dendritic import WEAK, Literal, bound, net, stimulus, update, updates
from torch import Tensor

from plausible.core.errors import ConfigurationError
from plausible.functional.alignment import cosine

# --- the equations, neuron by neuron ---------------------------------------------------------------------------------


@pytest.mark.parametrize("nudge", ["target", "error"])
def test_equations_are_the_papers_neuron_by_neuron(nudge: str):
    sizes, readout, steps = (3, 4, 3, 2), nudge == "error", 7
    options = {"nudge": nudge, "high": 0.9, "low": -0.1, "steps": steps, "tau": 0.5}
    learner = bound(net(sizes, readout=readout), **options, interneuron_rate=0.7, inhibition_rate=0.3)
    for circuit in learner.circuits():  # not self-predicting, so that every term matters
        for p in circuit.parameters():
            p.data += 0.2 * torch.randn_like(p)
    x, y = stimulus(2, 3), torch.tensor([1, 0])
    found = update(learner, x, y)
    state = learner.state
    assert state is not None
    total: dict[str, Array] = {}
    for n in range(2):
        one = Literal(learner, x[n].numpy(), readout)
        one.run(steps, 0.1, 0.5, nudge, int(y[n]), (0.7, 0.3))
        for mine, theirs in zip([*state.pyramidal, *state.inter], [*one.u, *one.uI], strict=True):
            np.testing.assert_allclose(mine[n].numpy(), theirs, rtol=1e-12, atol=1e-13)
        for name, value in one.change.items():
            total[name] = total.get(name, 0) - value / 2
    names = {f"W{k}": f"model.{2 * k + 1}.weight" for k in range(3)} | {
        f"b{k}": f"model.{2 * k + 1}.bias" for k in range(3)
    }
    for k in range(2):
        names |= {a + str(k): f"feedback.{2 * k + 1}.{b}" for a, b in (("IP", "IP"), ("bI", "IP_bias"), ("PI", "PI"))}
    assert found.keys() == set(names.values())
    for short, name in names.items():
        np.testing.assert_allclose(found[name].numpy(), total[short], rtol=1e-11, atol=1e-13)


def test_the_integration_converges():
    """Half the step, half the error: against a step of a sixty-fourth."""
    model, x, y = net(), stimulus(), torch.tensor([0, 1, 2])

    def after(fine: int) -> Tensor:
        learner = bound(copy.deepcopy(model), dt=0.2 / fine, steps=10 * fine)
        learner.learn(x, y)
        assert learner.state is not None
        return torch.cat([*learner.state.pyramidal, *learner.state.inter], 1)

    exact = after(64)
    errors = [float((after(fine) - exact).norm()) for fine in (1, 2, 4)]
    for coarse, fine in pairwise(errors):
        assert 1.7 < coarse / fine < 2.5


# --- the steady-state approximation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("nudge", ["target", "error"])
def test_many_sweeps_find_the_equilibrium_of_the_equations(nudge: str):
    model, x, y = net(readout=nudge == "error"), stimulus(), torch.tensor([0, 1, 2])
    learner = bound(copy.deepcopy(model), nudge=nudge, inhibition_rate=0.2)
    for _ in range(11):
        learner.learn(x, y)
    expected = update(learner, x, y)
    still = bound(model, nudge=nudge, inhibition_rate=0.2, dynamics="steady-state", sweeps=60)
    found = update(still, x, y)
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-7, atol=1e-10)
    assert still.state is None


@pytest.mark.parametrize(("conductances", "alike", "ratio"), [(WEAK, 0.999, 0.05), ({}, 0.99, 0.25)])
def test_one_sweep_is_near_the_equilibrium(conductances: dict, alike: float, ratio: float):
    model, x, y = net(), stimulus(1), torch.tensor([1])
    learner = bound(copy.deepcopy(model), **conductances)
    for _ in range(11):
        learner.learn(x, y)
    expected = update(learner, x, y)
    found = update(bound(model, dynamics="steady-state", **conductances), x, y)
    for name in found:
        assert float(cosine(found[name], expected[name])) > alike, name
        assert abs(float(found[name].norm() / expected[name].norm()) - 1) < ratio, name


# --- time ------------------------------------------------------------------------------------------------------------


def test_calls_go_on_from_each_other_and_reset_forgets():
    model, x, y = net(), stimulus(), torch.tensor([0, 1, 2])
    whole = update(bound(copy.deepcopy(model), steps=60), x, y)
    learner = bound(copy.deepcopy(model), steps=20)
    first = update(learner, x, y)
    learner.learn(x, y)
    learner.learn(x, y)
    for name, value in updates(learner).items():
        torch.testing.assert_close(value, whole[name], rtol=1e-12, atol=1e-14)
    gone_on = update(learner, x, y)
    assert not torch.allclose(gone_on["model.1.weight"], first["model.1.weight"])
    learner.reset()
    again = update(learner, x, y)
    assert all(torch.equal(again[name], first[name]) for name in first)


def test_some_streams_are_forgotten_and_others_go_on():
    model, x, y = net(), stimulus(), torch.tensor([0, 1, 2])
    learner, kept, fresh = (bound(copy.deepcopy(model), steps=20) for _ in range(3))
    learner.learn(x, y)
    kept.learn(x, y)
    learner.reset(torch.tensor([False, True, False]))
    for each in (learner, kept, fresh):
        each.learn(x + 1, y)
    states = [each.state for each in (learner, kept, fresh)]
    assert all(state is not None for state in states)
    mine, gone_on, anew = ([*state.pyramidal, *state.inter, state.input, state.teacher] for state in states if state)
    for a, b, c in zip(mine, gone_on, anew, strict=True):
        assert torch.equal(a[[0, 2]], b[[0, 2]]) and torch.equal(a[1], c[1])
    assert not torch.equal(mine[0][1], gone_on[0][1])


def test_a_batch_of_another_size_cannot_go_on():
    learner = bound(net(), steps=5)
    learner.learn(stimulus(3), torch.tensor([0, 1, 2]))
    with pytest.raises(ConfigurationError, match="reset"):
        learner.learn(stimulus(2), torch.tensor([0, 1]))
    learner.float().learn(stimulus(3).float(), torch.tensor([0, 1, 2]))  # the state moves with the learner
    learner.reset()
    learner.learn(stimulus(2).float(), torch.tensor([0, 1]))
