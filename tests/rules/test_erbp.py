"""Event-driven random back-propagation: error spikes, dendrites and updates, event by event. The spikes of the net are
held against nengo's in tests/models/test_lif_mlp.py."""

import math

import pytest
import torch
from literal_nef import CLASSES, DT, Observed, alpha, examples, filtered, net
from torch import nn
from torch.nn import functional as F

import plausible
from plausible.core import registry
from plausible.core.errors import ConfigurationError, CoverageError
from plausible.models import build


def bound(model, **options):
    return plausible.bind(model, registry.make("erbp", **options), F.cross_entropy)


class Errors:
    """The error cells of one example, as the paper has them: +1 or −1 at each step of which a cell of a class fires."""

    def __init__(self, errors: torch.Tensor, rate: float) -> None:
        self.spikes = []
        up, down = [0.0] * CLASSES, [0.0] * CLASSES
        for error in errors.tolist():
            fired = [0] * (2 * CLASSES)
            for cells, sign, place in ((up, 1, 0), (down, -1, CLASSES)):
                for k in range(CLASSES):
                    cells[k] = max(0.0, cells[k] + sign * error[k] * rate * DT)
                    if cells[k] >= 1:
                        cells[k] -= 1
                        fired[place + k] = 1
            self.spikes.append(fired)


def readouts(seen, model, y: torch.Tensor) -> torch.Tensor:
    """(T, N, classes): what the output population's spikes come to at each step, from its currents."""
    T = len(seen.currents["readout"])
    drive = filtered(seen.currents["readout"], alpha(T))
    membrane, sent = model.output.cell.rest(len(y), model.output.n, like=drive, v=model.voltages[: model.output.n]), []
    for x in drive:
        spikes, membrane = model.output(x, membrane)
        sent.append(spikes)
    late = torch.stack([torch.zeros_like(sent[0]), *sent[:-1]])  # what a population sends arrives one step later
    return filtered(late @ model.decoders.t(), alpha(T))


@pytest.mark.parametrize("depth", [1, 2])
def test_error_cells_fire_with_the_error_and_every_presynaptic_spike_changes_its_synapse_by_the_dendrite(depth):
    model, (x, y) = net(depth, bias=True, spread=0.2), examples()
    options = {"scale": 2.0, "b_min": 0.4, "b_max": 1.8, "rate": 150.0, "tau": 8e-3, "blackout": 0.3}
    learner = bound(model, **options)
    seen, kept = Observed(learner, x, y), learner.state_dict()
    errors = readouts(seen, model, y) - F.one_hot(y, CLASSES)
    T, N, amplitude = len(errors), len(x), model.neurons.cell.amplitude
    fired = torch.tensor([Errors(errors[:, n], 150.0).spikes for n in range(N)]).double().transpose(0, 1)
    assert fired.any()
    decay, closed, opened = math.exp(-DT / 8e-3), 0, 0
    for name in (*model.hidden, "readout"):
        assert torch.equal(seen.wires[f"{name}.error"], fired), "all layers hear the same cells"
        current = filtered(seen.currents[name], alpha(T)) + 1
        expected = torch.zeros_like(seen.grads[f"{name}.weight"])
        g = torch.eye(CLASSES).double() if name == "readout" else kept[f"feedback.B_{name}"]
        for n in range(N):
            U = torch.zeros(len(expected)).double()
            for t in range(T):
                arrived = (fired[t, n, :CLASSES] - fired[t, n, CLASSES:]) / (150.0 * DT)
                for i in range(len(U)):
                    U[i] = decay * U[i] + (1 - decay) * (g[:, i] * arrived).sum()
                if t < 15:  # of 50
                    continue
                for j in seen.sent[name][t, n].nonzero()[:, 0].tolist():
                    for i in range(len(U)):
                        if name != "readout" and not 0.4 < current[t, n, i] < 1.8:
                            closed += 1
                            continue
                        opened += 1
                        expected[i, j] += amplitude * U[i] / N
        assert expected.norm() > 0
        torch.testing.assert_close(seen.grads[f"{name}.weight"], expected, rtol=1e-9, atol=1e-15)
    assert closed > 100 and opened > 100, "the gate had something to do"


def test_in_the_blackout_nothing_is_learned_and_errors_go_on():
    model, (x, y) = net(shown=0.06), examples()
    short, long = bound(model, blackout=0.0), bound(net(shown=0.06), blackout=0.5)
    a, b = Observed(short, x, y), Observed(long, x, y)
    assert torch.equal(a.wires["readout.error"], b.wires["readout.error"])
    # What is learned after it is what a learner without a blackout adds then.
    before, after = bound(net(shown=0.03), blackout=0.0), a.grads
    before.learn(x, y)
    for name, p in before.model.named_parameters():
        torch.testing.assert_close(b.grads[name], after[name] - p.grad, rtol=1e-9, atol=1e-15)


def test_the_random_weights_of_a_cell_have_no_sum_and_do_not_depend_on_its_own():
    g, other = (bound(net(2, spread=s)).state_dict()["feedback.B_linear1"] for s in (0.5, 3.0))
    assert torch.equal(g, other) and g.norm() > 1
    torch.testing.assert_close(g.sum(0), torch.zeros(g.shape[1]).double(), rtol=0, atol=1e-6)


def test_a_blank_synapse_neither_passes_its_spike_nor_changes():
    model, (x, y) = net(1, spread=0.2), examples()
    learner = bound(model, transmit=0.4, blackout=0.0)
    masks = []
    keep = learner.feedback.blanked

    def watched(*key):
        context = keep(*key)
        passing = context.__enter__()
        masks.append({name: mask.clone() for name, mask in passing.items()})
        context.__exit__(None, None, None)
        return keep(*key)

    learner.feedback.blanked = watched
    seen = Observed(learner, x, y)
    T, N = len(masks), len(x)
    W = model.linear1.weight.detach()
    for t in range(T):
        torch.testing.assert_close(
            seen.currents["linear1"][t], seen.sent["linear1"][t] @ (W * masks[t]["linear1.weight"]).t()
        )
    fraction = torch.stack([m["linear1.weight"] for m in masks]).mean()
    assert abs(fraction - 0.4) < 0.05
    current = filtered(seen.currents["linear1"], alpha(T)) + 1
    decay, U = math.exp(-DT / 5e-3), torch.zeros(N, CLASSES).double()
    expected = torch.zeros_like(W)
    for t in range(T):
        spikes = seen.wires["linear1.error"][t]
        U = decay * U + (1 - decay) * (spikes[:, :CLASSES] - spikes[:, CLASSES:]) / (225.0 * DT)
        post = U @ learner.feedback.B_linear1 * ((current[t] > -11.5) & (current[t] < 11.5))
        expected += (post.t() @ seen.sent["linear1"][t] * DT / N) * masks[t]["linear1.weight"]
    torch.testing.assert_close(seen.grads["linear1.weight"], expected, rtol=1e-9, atol=1e-15)


def test_evaluation_runs_with_the_mean_weights():
    model, (x, y) = net(1), examples()
    learner, plain = bound(model, transmit=0.4), net(1)
    with torch.no_grad():
        for layer in (plain.linear1, plain.readout):
            layer.weight *= 0.4
    assert torch.equal(learner(x), learner(x))
    torch.testing.assert_close(learner(x), plain(x))
    learner.learn(x, y)
    learner.reset()
    torch.testing.assert_close(learner(x), plain(x))


def test_other_models_are_refused():
    for model in (nn.Sequential(nn.Linear(3, 2)), build("rsnn", shape=(3,), classes=2)):
        with pytest.raises(CoverageError, match=r"erbp teaches layers of LIF neurons.*lif-mlp"):
            bound(model)


@pytest.mark.parametrize(
    "options",
    [{"scale": 0.0}, {"b_min": 2.0, "b_max": 1.0}, {"rate": 0.0}, {"tau": 5.0}, {"blackout": 1.0}, {"transmit": 0.0}],
)
def test_what_cannot_be_is_refused(options):
    with pytest.raises(ConfigurationError, match="erbp"):
        registry.make("erbp", **options)
