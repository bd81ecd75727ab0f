"""The look inside a spiking net: that it shows what the cells did, and changes nothing."""

import copy
import json

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.core.errors import DataError
from plausible.models import build
from plausible.probes.activity import Activity, activity

CLASSES, INPUTS = 3, 6


def net(depth: int = 2) -> nn.Module:
    torch.manual_seed(0)
    model = build(
        "lif-mlp", shape=(INPUTS,), classes=CLASSES, depth=depth, width=9, spread=0.5, cells=4, shown=0.1
    ).double()
    with torch.no_grad():
        model.readout.weight.normal_(0, 0.5)
    return model


def examples(n: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    return 2 * torch.randn(n, INPUTS, generator=draw, dtype=torch.float64), torch.arange(n) % CLASSES


def bound(rule: str, model: nn.Module, **options):
    return plausible.bind(model, plausible.core.registry.make(rule, **options), F.cross_entropy)


def by_hand(model, x):
    """States and readouts of each step, stimulus after stimulus, each from rest."""
    states, readouts = [], []
    with torch.no_grad():
        for stimulus in x.split(1):
            state = model.rest(stimulus)
            for frame in model.frames(stimulus):
                state, y = model.step(state, frame)
                states.append(state)
                readouts.append(y[0])
    return states, torch.stack(readouts)


def test_it_shows_what_the_cells_of_a_chain_did():
    model, (x, y) = net(depth=2), examples(4)
    seen = activity(bound("backprop", model), x, y)
    states, readout = by_hand(model, x[1:])  # the first is left out
    fired = {
        "sensors": torch.stack([s.seen[0] for s in states]) > 0,
        "linear1": torch.stack([s.hidden[0].spikes[0] for s in states]) > 0,
        "linear2": torch.stack([s.hidden[1].spikes[0] for s in states]) > 0,
        "output": torch.stack([s.output.spikes[0] for s in states]) > 0,
    }
    assert [p.name for p in seen.populations] == list(fired)
    for p in seen.populations:
        assert p.size == fired[p.name].shape[1] and p.rate > 0
        assert p.rate == pytest.approx(fired[p.name].sum().item() / (p.size * len(states) * model.dt))
        for cell, when in zip(p.cells, p.spikes, strict=True):
            assert when == [t for t in range(len(states)) if fired[p.name][t, cell]]
    voltages = torch.stack([s.hidden[0].membrane.v[0] for s in states])
    assert len({trace.cell for trace in seen.traces}) == 3
    for trace in seen.traces:
        assert trace.population == "linear1"
        torch.testing.assert_close(torch.tensor(trace.voltage).double(), voltages[:, trace.cell], atol=6e-4, rtol=0)
    torch.testing.assert_close(torch.tensor(seen.readout).double(), readout, atol=6e-5, rtol=0)
    per_stimulus = readout.reshape(3, -1, CLASSES)
    answers = per_stimulus[:, per_stimulus.shape[1] // 2 :].mean(1).argmax(1)  # settle = 0.5
    assert seen.answered == answers.tolist() and seen.shown == y[1:].tolist()


def test_a_recurrent_net_shows_voltages_in_units_of_its_threshold():
    torch.manual_seed(0)
    model = build("rsnn", shape=(2, 4, 4), classes=3, width=6, threshold=0.2).double()
    x = torch.randn(3, 2, 4, 4).double()
    seen = activity(bound("eprop", model), x, torch.arange(3))
    states, _ = by_hand(model, x[1:])
    assert [p.name for p in seen.populations] == ["neurons"], "learning signals are numbers, and no cells"
    for trace in seen.traces:
        expected = [s.neurons.v[0, trace.cell].item() / 0.2 for s in states]
        assert trace.voltage == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize("rule", ["nef-dfa", "nef-6"])
def test_the_cells_that_teach_are_heard_on_the_wires_while_streams_go_on(rule):
    learner, (x, y) = bound(rule, net(depth=1)), examples(4)
    seen = activity(learner, x, y)
    plain, said = copy.deepcopy(learner), {}

    def tap(name, message, source, target):
        if source != "teacher":
            said.setdefault(name, []).append(message[0].clone() > 0)
        return message

    for k in range(4):
        if k == 1:
            plain.context.tap = tap
        plain.learn(x[k : k + 1], plain.rule.teacher(y[k : k + 1]))
    taught = {p.name: p for p in seen.populations if "." in p.name}
    assert list(taught) == ["readout.error", "linear1.error"]
    for name, p in taught.items():
        fired = torch.stack(said[name])
        assert fired.any() and p.rate == pytest.approx(fired.double().mean().item() / learner.model.dt)
        assert p.spikes == [fired[:, cell].nonzero().flatten().tolist() for cell in p.cells]


def test_looking_changes_nothing():
    learner, (x, y) = bound("nef-6", net(depth=1)), examples(3)
    learner.learn(x, learner.rule.teacher(y))
    twin, grads = copy.deepcopy(learner), [p.grad.clone() for p in learner.parameters() if p.grad is not None]
    before = torch.get_rng_state()
    assert activity(learner, x, y) is not None
    assert torch.equal(torch.get_rng_state(), before)
    assert learner.context.tap is None and "step" not in vars(learner.model)
    assert all(torch.equal(a, b) for a, b in zip(grads, (p.grad for p in learner.parameters()), strict=False))
    one, other = learner.learn(x, learner.rule.teacher(y)), twin.learn(x, twin.rule.teacher(y))
    assert torch.equal(one.output, other.output)


def test_there_is_nothing_to_see_where_nothing_spikes():
    x, y = examples(3)
    assert activity(bound("backprop", nn.Linear(INPUTS, CLASSES).double()), x, y) is None
    stepwise = build("rsnn", shape=(3,), classes=2, width=4, output="sequence")
    assert activity(bound("eprop", stepwise), torch.randn(2, 5, 3), torch.zeros(2, 5).long()) is None


def test_a_record_can_be_written_and_read_and_something_else_is_refused():
    x, y = examples(3)
    seen = activity(bound("nef-dfa", net(depth=1)), x, y)
    assert Activity.from_dict(json.loads(seen.to_json())) == seen
    for broken in ({}, {"populations": [[1]], "traces": []}, {"populations": 3}):
        with pytest.raises(DataError, match="no record of activity"):
            Activity.from_dict(broken)
