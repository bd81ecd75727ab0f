"""The spiking perceptron, and the chain of error populations beside it, fire as nengo's do."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import plausible
from plausible.core import registry
from plausible.core.errors import ConfigurationError, CoverageError
from plausible.functional.lif import Membrane
from plausible.models import build
from plausible.rules.spiking.to_nengo import to_nengo

CLASSES, INPUTS = 3, 5


def net(**options):
    torch.manual_seed(0)
    model = build("lif-mlp", shape=(INPUTS,), classes=CLASSES, width=12, spread=0.3, cells=4, dt=1e-3, **options)
    with torch.no_grad():
        model.readout.weight.normal_(0, 0.3)
    return model.double()


@pytest.mark.parametrize("bias", [False, True])
def test_every_population_fires_as_in_nengo_errors_included(bias):
    nengo = pytest.importorskip("nengo")
    model, steps = net(shown=1e-3, bias=bias), 250
    biases = [layer.bias for layer in (*model.hidden.values(), model.readout) if bias]
    for b in biases:
        nn.init.normal_(b, 0, 0.3)
    learner = plausible.bind(model, registry.make("nef-dfa", cells=4), F.mse_loss)
    chain, x, target = learner.feedback, torch.randn(1, INPUTS).double(), torch.tensor([[0.9, -0.7, 0.4]]).double()
    network, made = to_nengo(learner, x[0], target[0])
    populations = list(made.values())
    with network:
        probes = [nengo.Probe(population.neurons) for population in populations]
    with nengo.Simulator(network, progress_bar=False, optimize=False) as simulator:
        voltages = [
            torch.from_numpy(simulator.signals[simulator.model.sig[each.neurons]["voltage"]].copy()).unsqueeze(0)
            for each in populations
        ]
        simulator.run_steps(steps)
    theirs = [simulator.data[probe] > 0 for probe in probes]

    def start(membrane, v):
        return Membrane(v.reshape(membrane.v.shape), membrane.silent, membrane.n)

    state, memory = model.rest(x), learner.rule.rest(learner, x)
    first, *hidden, out = voltages[:4]
    state = state._replace(
        sensors=state.sensors._replace(membrane=start(state.sensors.membrane, first)),
        hidden=tuple(h._replace(membrane=start(h.membrane, v)) for h, v in zip(state.hidden, hidden, strict=True)),
        output=state.output._replace(membrane=start(state.output.membrane, out)),
    )
    links = memory.links._replace(membrane=start(memory.links.membrane, torch.stack(voltages[4:], 1)))
    learner.state = (state, memory._replace(links=links))
    sent, ours = {}, [[] for _ in populations]
    learner.context.tap = lambda name, message, *_: sent.__setitem__(name, message) or message
    values = [b.detach().clone() for b in biases]
    for t in range(steps):
        with torch.no_grad():  # nengo's filters answer to a node a step later
            for b, value in zip(biases, values, strict=True):
                b.copy_(value if t else torch.zeros_like(value))
        learner.learn(x, target if t else torch.zeros_like(target))
        now = learner.state[0]
        spikes = [now.seen, *(h.spikes for h in now.hidden), now.output.spikes]
        for fired, each in zip(ours, [*spikes, *(sent[f"{name}.error"] for name in chain.taught)], strict=True):
            fired.append(each[0] > 0)
    for fired, expected in zip(ours, theirs, strict=True):
        assert expected.any()
        assert np.array_equal(torch.stack(fired).numpy(), expected)


def test_to_nengo_refuses_other_learners():
    learner = plausible.bind(nn.Linear(3, 2), "fa", F.mse_loss)
    with pytest.raises(CoverageError, match="nef-dfa or nef-6"):
        to_nengo(learner, torch.zeros(3), torch.zeros(2))


def test_the_output_is_the_mean_readout_after_the_net_has_settled():
    model, x = net(shown=20e-3, settle=0.25), torch.randn(4, INPUTS).double()
    state, readouts = model.rest(x), []
    for x_t in model.frames(x):
        state, y = model.step(state, x_t)
        readouts.append(y)
    assert len(readouts) == 20
    torch.testing.assert_close(model(x), torch.stack(readouts[5:]).mean(0), rtol=0, atol=0)


def test_cells_start_out_of_step_and_streams_alike():
    model, x = net(), torch.zeros(3, INPUTS).double()
    v = model.rest(x).hidden[0].membrane.v
    assert torch.equal(v[0], v[1]) and torch.equal(v, model.rest(x).hidden[0].membrane.v)
    assert len(v[0].unique()) == v.shape[1]
    assert v.min() >= 0 and v.max() <= 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dt": 1.0}, "refractory"),
        ({"dt": 3e-3}, "Take a smaller dt"),
        ({"shown": 80.0}, "for 80 ms give 0.08"),
        ({"tau_rc": 20.0}, "for 20 ms give 0.02"),
        ({"tau_ref": 0.01, "dt": 1e-3}, "Lower the rates"),
        ({"cells": 5}, "even number"),
        ({"settle": 1.0}, "below 1"),
        ({"sensors": "off"}, "on-off"),
    ],
)
def test_what_cannot_be_is_refused_with_the_way_out(options, words):
    with pytest.raises(ConfigurationError, match=words):
        build("lif-mlp", shape=(4,), classes=3, **options)


def test_weights_are_linear_layers_and_nothing_else_is_learned():
    model = build("lif-mlp", shape=(2, 3, 3), classes=4, width=7, depth=3, bias=True)
    assert {name for name, _ in model.named_parameters()} == {
        f"{name}.{part}" for name in (*model.hidden, "readout") for part in ("weight", "bias")
    }
    assert list(model.hidden) == ["linear1", "linear2", "linear3"]
    assert all(isinstance(layer, nn.Linear) for layer in model.hidden.values())
