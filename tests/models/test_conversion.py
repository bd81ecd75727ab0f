"""Nets in spikes: against rates in closed form, nengo spike for spike, and the response of a synapse written out."""

import copy
from collections import OrderedDict
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import fusion

import plausible
from plausible.core.errors import ConfigurationError
from plausible.core.families.online import Stepped, each, first
from plausible.data import load
from plausible.functional.lif import Cell
from plausible.functional.synapses import Alpha, LowPass
from plausible.models import SoftLIF, build, to_spikes
from plausible.models.soft_lif import CELL

NONE = LowPass(0.0)


def net(*widths: int, cell: Cell = CELL, seed: int = 0) -> nn.Sequential:
    """Random, with currents of which many are above the threshold and many below, in float64."""
    torch.manual_seed(seed)
    model = nn.Sequential()
    for fan_in, fan_out in pairwise(widths[:-1]):
        layer = nn.Linear(fan_in, fan_out)
        nn.init.normal_(layer.weight, std=1.5 / fan_in**0.5)
        model.extend([layer, SoftLIF(cell)])
    return model.append(nn.Linear(widths[-2], widths[-1])).double()


def recorded(spiking, x):
    """The states and readouts of every step."""
    state, states, readouts = spiking.rest(x), [], []
    for x_t in spiking.frames(x):
        state, y = spiking.step(state, x_t)
        states.append(state)
        readouts.append(y)
    return states, torch.stack(readouts)


@pytest.mark.parametrize("cell", [CELL, Cell(tau_rc=0.05, tau_ref=0.001, amplitude=0.063)])
def test_a_still_image_makes_the_spikes_of_the_hard_rate_to_one(cell):
    unit = SoftLIF(cell, gain=1.3, bias=0.9)
    x = torch.linspace(-2, 5, 71, dtype=torch.float64).unsqueeze(0)
    spiking = to_spikes(nn.Sequential(unit), duration=8.0, window=(0.0, 8.0))
    count = sum((state[0].spikes > 0).double() for state in recorded(spiking, x)[0])
    j = 1.3 * x + 0.9
    hertz = torch.where(j > 1, 1 / (cell.tau_ref + cell.tau_rc * torch.log1p(1 / (j - 1))), 0.0)
    assert (count - 8 * hertz).abs().max() <= 1
    soft = 8 * unit.eval()(x) / cell.amplitude
    assert not count[j <= 1].any() and (soft[j <= 1] > 0.5).all(), (
        "below the threshold, the soft rate is not what neurons do"
    )


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    """One population, trained on the digits, in float64; images and labels of the test split."""
    digits = load("digits")
    mean, std = digits.train.x.float().mean(), digits.train.x.float().std()
    torch.manual_seed(0)
    model = build("mlp", shape=digits.shape, classes=10, width=40, depth=1, activation="soft-lif")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    learner = plausible.bind(model, "backprop", F.cross_entropy, optimizer=optimizer)
    for _ in range(60):
        optimizer.zero_grad()
        learner.learn((digits.train.x.float() - mean) / std, digits.train.y)
        optimizer.step()
    x = ((digits.test.x.float() - mean) / std).double()
    return plausible.release(learner).double(), x, digits.test.y


def test_the_mean_readout_comes_to_that_of_hard_rates_as_one_over_time(trained):
    model, x, _ = trained
    spiking = to_spikes(model, duration=9.0, window=(1.0, 9.0))
    x = x[:40]
    hidden = F.linear(x.flatten(1), model[1].weight, model[1].bias)
    hertz = torch.where(hidden > 0, 1 / (0.002 + 0.02 * torch.log1p(1 / hidden.clamp(min=1e-12))), 0.0)
    expected = (F.linear(hertz * CELL.amplitude, model[3].weight, model[3].bias)).detach()
    torch.testing.assert_close(spiking.at_rates(x), expected, rtol=1e-12, atol=1e-12)

    readouts = torch.stack(list(spiking.readouts(x)))
    seconds = torch.tensor([0.5, 1.0, 2.0, 4.0, 8.0])
    errors = torch.stack([(readouts[1000 : 1000 + int(1000 * t)].mean(0) - expected).abs() for t in seconds])
    # In a window, a neuron's spikes differ from rate times time by less than one; what was left in the synapses at its
    # beginning and its end is less than one spike each and enters with different signs.
    bound = 2 * CELL.amplitude * model[3].weight.abs().sum(1) / seconds.view(-1, 1, 1)
    assert (errors <= bound).all()
    slope = np.polyfit(seconds.log().numpy(), errors.mean((1, 2)).log().numpy(), 1)[0]
    assert -1.3 < slope < -0.7, "the error goes as one over the time"
    assert (readouts[1000:].mean(0) - model.eval()(x)).abs().mean() > 10 * errors[-1].mean(), "it is not the soft net's"


def test_the_trained_net_answers_in_spikes_what_it_answers_as_rates(trained):
    model, x, y = trained
    right = [float((answer.argmax(1) == y).double().mean()) for answer in (model.eval()(x), to_spikes(model)(x))]
    assert right[0] > 0.9 and right[1] > right[0] - 0.02


@pytest.mark.parametrize("tau", [3e-3, 5e-3])
def test_two_populations_are_nengo_s_spike_for_spike(tau):
    nengo = pytest.importorskip("nengo")
    cell = Cell(tau_rc=0.02, tau_ref=0.003, amplitude=1 / 63.04)
    model = net(7, 30, 20, 4, cell=cell)
    x = torch.randn(1, 7, dtype=torch.float64)
    spiking = to_spikes(model, synapse=Alpha(tau), duration=0.4, window=(0.0, 0.4))
    states, readouts = recorded(spiking, x)

    W = [layer.weight.detach().numpy() for layer in model[::2]]
    b = [layer.bias.detach().numpy() for layer in model[::2]]
    with nengo.Network() as network:
        neurons = nengo.LIF(
            tau_rc=0.02, tau_ref=0.003, amplitude=1 / 63.04, initial_state={"voltage": nengo.dists.Choice([0])}
        )
        image = nengo.Node(x[0].numpy())
        populations = [
            nengo.Ensemble(n, 1, neuron_type=neurons, gain=np.ones(n), bias=1 + bias)
            for n, bias in zip((30, 20), b, strict=False)
        ]
        output = nengo.Node(size_in=4)
        nengo.Connection(image, populations[0].neurons, transform=W[0], synapse=None)
        nengo.Connection(populations[0].neurons, populations[1].neurons, transform=W[1], synapse=nengo.Alpha(tau))
        nengo.Connection(populations[1].neurons, output, transform=W[2], synapse=nengo.Alpha(tau))
        probes = [nengo.Probe(each.neurons) for each in populations]
        shown = nengo.Probe(output)
    with nengo.Simulator(network, progress_bar=False) as simulator:
        simulator.run(0.401)
    for k, probe in enumerate(probes):
        ours = torch.stack([state[k].spikes[0] for state in states]).numpy()
        assert np.array_equal(ours > 0, simulator.data[probe][:400] > 0)
        assert (ours > 0).sum() > 100
    # Its output node, too, hears of a spike one step after it.
    np.testing.assert_allclose(readouts[:, 0].numpy(), simulator.data[shown][1:401] + b[2], rtol=0, atol=1e-9)


def test_what_a_synapse_lets_through_is_the_integral_of_its_kernel_after_each_spike():
    spiking = to_spikes(net(5, 12, 3), synapse=Alpha(4e-3))
    states, _ = recorded(spiking, torch.randn(2, 5, dtype=torch.float64))
    spikes, filtered = (torch.stack([getattr(state[0], name) for state in states]) for name in ("spikes", "filtered"))
    t = torch.arange(201, dtype=torch.float64) * 1e-3 / 4e-3
    kernel = (1 - (1 + t) * (-t).exp()).diff()  # of t e^{−t/τ} / τ², over each step
    expected = torch.stack([torch.einsum("kni,k->ni", spikes[: k + 1], kernel[: k + 1].flip(0)) for k in range(200)])
    torch.testing.assert_close(filtered, expected, rtol=0, atol=1e-12)


def test_without_a_synapse_the_readout_is_of_the_spikes_themselves_and_ripples_more():
    model, x = net(5, 12, 3), torch.randn(8, 5, dtype=torch.float64)
    states, bare = recorded(to_spikes(model, synapse=NONE), x)
    spikes = torch.stack([state[0].spikes for state in states])
    torch.testing.assert_close(bare, F.linear(spikes, model[2].weight, model[2].bias), rtol=1e-12, atol=1e-12)
    _, smooth = recorded(to_spikes(model, synapse=Alpha(5e-3)), x)
    assert smooth[100:].std(0).mean() < 0.5 * bare[100:].std(0).mean()


def test_with_two_populations_the_longer_the_synapse_the_closer_it_is_to_the_rates():
    model, x = net(20, 60, 60, 5), torch.randn(10, 20, dtype=torch.float64)
    gaps = []
    for tau in (2e-3, 10e-3, 50e-3):
        spiking = to_spikes(model, synapse=Alpha(tau), duration=2.5, window=(0.5, 2.5))
        gaps.append(float((spiking(x) - spiking.at_rates(x)).abs().mean()))
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2]


def test_the_model_stays_as_it_is_and_the_spiking_net_as_it_was():
    torch.manual_seed(0)
    model = build("avg-conv", shape=(1, 8, 8), classes=3, width=2, activation="soft-lif")
    before, x = copy.deepcopy(model.state_dict()), torch.randn(2, 1, 8, 8)
    spiking = to_spikes(model, duration=0.05, window=(0.0, 0.05))
    answer = spiking(x)
    assert all(module.training for module in model.modules()) and all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    assert torch.equal(spiking(x), answer) and not answer.requires_grad
    assert torch.equal(spiking.train()(x), answer), "nothing in it learns, and nothing is random"


@pytest.mark.parametrize("rule", ["fa", "dfa"])
def test_a_model_may_be_bound_to_a_rule(rule):
    model, x = net(5, 12, 3).float(), torch.randn(4, 5)
    expected = to_spikes(model)(x)
    learner = plausible.bind(model, rule, F.mse_loss, example=x)
    assert torch.equal(to_spikes(model)(x), expected)
    learner.learn(x, torch.zeros(4, 3))
    assert type(model[0]) is not nn.Linear, "still bound"


def test_batch_normalisation_is_the_affine_map_of_its_statistics():
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), SoftLIF(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(16, 8, bias=False), nn.BatchNorm1d(8), SoftLIF(), nn.Linear(8, 3)),
    ).double()
    x = torch.randn(64, 2, 6, 6, dtype=torch.float64)
    model(x)  # moves the statistics
    plain = copy.deepcopy(model).eval()
    conv, linear = fusion.fuse_conv_bn_eval(plain[0], plain[1]), fusion.fuse_linear_bn_eval(plain[5], plain[6])
    folded = nn.Sequential(conv, *plain[2:5], linear, *plain[7:])
    (states, ours), (theirs, expected) = (recorded(to_spikes(each), x[:9]) for each in (model, folded))
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)
    assert sum(int((state[1].spikes > 0).sum()) for state in states) > 50
    assert all(torch.equal(a[1].spikes, b[1].spikes) for a, b in zip(states, theirs, strict=True))


def test_it_runs_step_by_step_and_every_state_at_rest_is_zero():
    spiking = to_spikes(net(5, 12, 7, 3), duration=0.05, window=(0.02, 0.04))
    x = torch.randn(4, 5, dtype=torch.float64)
    assert isinstance(spiking, Stepped) and spiking.names == ("1", "3")
    rest = spiking.rest(x)
    each(lambda t: torch.testing.assert_close(t, torch.zeros_like(t)) or t, rest)
    assert len(first(rest)) == 4
    _, readouts = recorded(spiking, x)
    assert len(readouts) == 50 and not any(t.any() for t in (rest[0].spikes, rest[1].filtered))
    torch.testing.assert_close(spiking(x), readouts[20:40].mean(0))


def test_a_spike_reaches_as_many_synapses_as_the_matrix_has_entries():
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 2, 3, padding=1), SoftLIF(), nn.AvgPool2d(2), nn.Conv2d(2, 3, 3, padding=1)),
        *(nn.BatchNorm2d(3), SoftLIF(), nn.Dropout(), nn.Flatten(), nn.Linear(27, 4)),
    ).eval()
    counts = to_spikes(model).fan_out(torch.randn(5, 1, 6, 6))
    shapes = [(1, 2, 6, 6), (1, 3, 3, 3)]
    assert [tuple(count.shape) for count in counts] == shapes
    for part, shape, count in zip((model[2:5], model[6:]), shapes, counts, strict=True):
        matrix = torch.autograd.functional.jacobian(lambda h, part=part: part(h).flatten(), torch.randn(shape))
        assert torch.equal((matrix != 0).sum(0).float(), count)


class Custom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.MaxPool2d(2), "module 'net.1', a MaxPool2d, does not convert.*nn.AvgPool2d"),
        (nn.AdaptiveMaxPool2d(1), "AdaptiveMaxPool2d.*nn.AvgPool2d"),
        (nn.ReLU(), "module 'net.1', a ReLU.*Train with SoftLIF"),
        (nn.BatchNorm1d(3, track_running_stats=False), "BatchNorm1d.*by the batch it sees"),
        (nn.LayerNorm(3), "LayerNorm, does not convert"),
        (Custom(), "a Custom.*write the model as nn.Sequential"),
    ],
)
def test_what_does_not_convert_is_named(module, said):
    inner = nn.Sequential(nn.Linear(3, 3), module, SoftLIF())
    with pytest.raises(ConfigurationError, match=said):
        to_spikes(nn.Sequential(OrderedDict(net=inner)))


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"window": (0.1, 0.3)}, ConfigurationError, "window .*end within the presentation of 0.2 s"),
        ({"window": (0.1, 0.1)}, ConfigurationError, "last a step"),
        ({"dt": 5e-3}, ValueError, "longer than the refractory period"),
        ({"dt": 1.5}, ValueError, "All times are in seconds"),
        ({"duration": 200.0 * 1000}, ValueError, "All times are in seconds"),
    ],
)
def test_times_that_cannot_be_are_refused(options, error, said):
    with pytest.raises(error, match=said):
        to_spikes(net(5, 12, 3), **options)


def test_a_model_in_which_nothing_would_spike_is_refused():
    with pytest.raises(ConfigurationError, match=r"no SoftLIF.*activation='soft-lif'"):
        to_spikes(nn.Linear(3, 3))
