"""NIR in and out: against the equations, nengo, and snnTorch, Norse and SpikingJelly on the same inputs."""

import copy
import math
import pickle
import subprocess
import sys
import warnings

import h5py
import nir
import numpy as np
import pytest
import torch
from torch import nn

import plausible
from plausible.core.errors import ConfigurationError, CoverageError, DataError, PlausibleWarning
from plausible.functional.lif import Cell, Population
from plausible.models import build
from plausible.models.nir import from_nir, to_nir
from plausible.models.spiking import RecurrentSpikingNet

CELL = Cell(tau_rc=0.02, tau_ref=0.0, floor=-math.inf)
N = 4


def alone(node: nir.NIRNode) -> nir.NIRGraph:
    shape = np.array([N])
    nodes = {"input": nir.Input({"input": shape}), "cell": node, "output": nir.Output({"output": shape})}
    return nir.NIRGraph(nodes, [("input", "cell"), ("cell", "output")])


def exported(model: nn.Module, **options) -> nir.NIRGraph:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PlausibleWarning)
        return to_nir(model, **options)


def currents(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return 1.5 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def stepped(net, x: torch.Tensor) -> torch.Tensor:
    """What a net of nirtorch's says at each step, with the state it has given back."""
    state, said = None, []
    for x_t in x.unbind(1):
        y, state = net(x_t, state)
        said.append(y)
    return torch.stack(said, 1).detach()


def by_hand(model: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    """A chain whose populations keep their states."""
    states, said = {}, []
    for x_t in x.unbind(1):
        for i, layer in enumerate(model):
            if isinstance(layer, Population):
                x_t, states[i] = layer(x_t, states.get(i))
            else:
                x_t = layer(x_t)
        said.append(x_t)
    return torch.stack(said, 1).detach()


def chain(dtype: torch.dtype = torch.float32, amplitude: float = 1e-3) -> nn.Sequential:
    """Two populations between weights, all of which fire, with spikes of height amplitude / dt."""
    torch.manual_seed(0)
    cell = Cell(tau_rc=0.02, tau_ref=0.0, floor=-math.inf, amplitude=amplitude)
    model = nn.Sequential(nn.Linear(5, 12), Population(cell), nn.Linear(12, 9), Population(cell), nn.Linear(9, 3))
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.uniform_(-1, 3)
        model[2].weight.mul_(1e-3 / amplitude)
    return model.to(dtype)


# The difference equations


draw = np.random.default_rng(0)
TAU, TAU_SYN, R, LEAK, OVER, RESET, W_IN = (
    draw.uniform(low, high, N)
    for low, high in ((0.005, 0.03), (0.004, 0.01), (0.5, 2), (-0.3, 0.3), (0.5, 1), (-0.5, 0.2), (0.5, 2))
)
NODES = {
    "LI": nir.LI(TAU, R, LEAK),
    "I": nir.I(R),
    "LIF": nir.LIF(TAU, R, LEAK, LEAK + OVER, LEAK + RESET),
    "soft LIF": nir.LIF(TAU, R, LEAK, LEAK + OVER, LEAK + RESET, metadata={"reset": "subtract"}),
    "IF": nir.IF(30 * R, OVER, RESET),
    "CubaLI": nir.CubaLI(TAU_SYN, TAU, R, LEAK, W_IN),
    "CubaLIF": nir.CubaLIF(TAU_SYN, TAU, R, LEAK, LEAK + OVER, LEAK + RESET, W_IN),
}


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("kind", NODES)
def test_each_node_is_its_difference_equation(kind, exact):
    node, dt = NODES[kind], 1e-3
    x = currents(2, 80, N).numpy()

    def beta(tau):
        return np.exp(-dt / tau) if exact else 1 - dt / tau

    v = np.zeros((2, N)) if kind in ("I", "IF") else np.tile(LEAK, (2, 1))
    current, z, said = np.zeros((2, N)), np.zeros((2, N)), []
    for t in range(80):
        drive = x[:, t]
        if kind.startswith("Cuba"):
            current = beta(TAU_SYN) * current + (1 - beta(TAU_SYN)) * W_IN * drive
            drive = current
        if kind in ("I", "IF"):
            v = v + dt * node.r * drive
        elif kind == "soft LIF":
            v = LEAK + beta(TAU) * (v - LEAK) + (1 - beta(TAU)) * R * drive - OVER * z
        else:
            v = beta(TAU) * v + (1 - beta(TAU)) * (LEAK + R * drive)
        if kind.endswith("IF"):
            z = (v > node.v_threshold).astype(float)
            if kind != "soft LIF":
                v = np.where(z > 0, node.v_reset, v)
        said.append(z if kind.endswith("IF") else v)

    net = from_nir(alone(node), dt=dt, exact=exact, dtype=torch.float64)
    expected = np.stack(said, 1)
    assert not kind.endswith("IF") or 0.02 < expected.mean() < 0.9
    np.testing.assert_allclose(net(torch.from_numpy(x)).detach(), expected, atol=1e-12)


def test_the_exact_equation_has_the_solution_of_the_differential_one_at_any_dt_and_euler_approaches_it():
    node = nir.LI(TAU, R, LEAK)
    solution = LEAK + R * 0.7 * (1 - np.exp(-0.024 / TAU))
    off = []
    for dt in (0.004, 0.002, 0.001):
        x = torch.full((1, round(0.024 / dt), N), 0.7, dtype=torch.float64)
        exact, euler = (
            from_nir(alone(node), dt=dt, exact=e, dtype=torch.float64)(x)[0, -1].numpy() for e in (True, False)
        )
        np.testing.assert_allclose(exact, solution, rtol=1e-12)
        off.append(np.abs(euler - solution).max())
    assert off[1] < 0.6 * off[0] and off[2] < 0.6 * off[1]


def test_the_exact_lif_is_nengo_s_and_its_time_constant_the_population_s_own():
    nengo = pytest.importorskip("nengo")
    population = nn.Sequential(nn.Linear(N, N, bias=False), Population(CELL)).double()
    with torch.no_grad():
        population[0].weight.copy_(torch.eye(N))
    graph = exported(population, dt=1e-3, exact=True)
    np.testing.assert_allclose(graph.nodes["1"].tau, 0.02, rtol=1e-12)
    theirs = nengo.LIF(tau_rc=0.02, tau_ref=0.0, min_voltage=-np.inf)
    x, output = currents(1, 300, N), np.zeros(N)
    state = {"voltage": np.zeros(N), "refractory_time": np.zeros(N)}
    said = []
    for x_t in x[0].numpy():
        theirs.step(1e-3, x_t, output, **state)
        said.append(output.copy())
    ours = from_nir(graph, dt=1e-3, exact=True, dtype=torch.float64)(x)[0].detach()
    assert 0.02 < np.mean(said) * 1e-3 < 0.5
    np.testing.assert_allclose(ours, said)


# Our populations, there and back


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("amplitude", [1e-3, 0.5])
@pytest.mark.parametrize("last", [4, 5])
def test_a_chain_comes_back_as_it_went(tmp_path, last, amplitude, exact):
    model, x = chain(torch.float64, amplitude)[:last], currents(3, 100, 5)
    nir.write(tmp_path / "net.nir", exported(model, dt=1e-4, exact=exact))
    ours = from_nir(tmp_path / "net.nir", dt=1e-4, exact=exact, dtype=torch.float64)
    expected = by_hand(model, x)
    assert expected.any()
    torch.testing.assert_close(ours(x), expected, rtol=1e-9, atol=1e-9)


def test_a_layer_that_comes_twice_is_written_twice():
    model, x = chain(torch.float64), currents(2, 50, 5)
    model[3] = model[1]
    ours = from_nir(exported(model, dt=1e-3), dt=1e-3, dtype=torch.float64)
    apart = chain(torch.float64)
    torch.testing.assert_close(ours(x), by_hand(apart, x), rtol=1e-9, atol=1e-9)


def test_a_graph_that_was_read_and_trained_is_written_with_what_it_has_learned():
    lif = nir.LIF(TAU, R, 0 * LEAK, OVER, RESET)
    weight = draw.normal(size=(N, N))
    nodes = {"a": nir.Affine(weight, LEAK), "b.lif": lif, "c": nir.Linear(weight), "d": NODES["IF"], "e": NODES["LI"]}
    nodes |= {"f": nir.CubaLIF(TAU_SYN, TAU, R, 0 * LEAK, OVER, RESET, W_IN), "g": NODES["CubaLI"], "h": NODES["I"]}
    nodes |= {"i": nir.Scale(R), "j": NODES["soft LIF"]}
    graph = nir.NIRGraph.from_list(*nodes.values())
    ours = from_nir(graph, dt=1e-3, dtype=torch.float64)
    ours(currents(2, 5, N)).sum().backward()
    with torch.no_grad():
        ours.nodes["affine"].weight.add_(1.0)
    with pytest.warns(PlausibleWarning, match="A spike of 'lif_1' takes the threshold from the voltage"):
        written = to_nir(ours, dt=1e-3)
    assert set(written.edges) == set(graph.edges) and written.nodes.keys() == graph.nodes.keys()
    assert written.nodes["lif_1"].metadata == {"reset": "subtract"}
    np.testing.assert_allclose(written.nodes["affine"].weight, weight + 1)
    graph.nodes["affine"].weight = weight + 1
    graph.nodes["lif_1"].v_threshold, graph.nodes["lif_1"].v_reset = OVER, RESET  # counted from v_leak
    graph.nodes["lif_1"].v_leak = 0 * LEAK
    for name, node in graph.nodes.items():
        for field, value in node.to_dict().items():
            if isinstance(value, np.ndarray) and name not in ("input", "output"):
                np.testing.assert_allclose(getattr(written.nodes[name], field), value, atol=1e-12)


def test_a_graph_keeps_what_it_was_written_with():
    layer = nn.Linear(3, 3)
    graph = to_nir(layer, dt=1e-3)
    before = graph.nodes["0"].weight.copy()
    with torch.no_grad():
        layer.weight.add_(1.0)
    np.testing.assert_array_equal(graph.nodes["0"].weight, before)


# Out: other packages run our nets


def test_the_hidden_spikes_of_the_chain_are_neither_none_nor_all():
    for last in (2, 4):
        spikes = by_hand(chain()[:last], currents(3, 100, 5, dtype=torch.float32))
        assert 0.05 < spikes.mean() < 0.8 and (spikes.flatten(0, 1).std(0) > 0).float().mean() > 0.8


def test_snntorch_runs_our_chain_spike_for_spike():
    model, x = chain(), currents(3, 100, 5, dtype=torch.float32)
    theirs = pytest.importorskip("snntorch.import_nir").import_from_nir(exported(model, dt=1e-4))
    torch.testing.assert_close(stepped(theirs, x), by_hand(model, x), rtol=1e-5, atol=1e-5)


def test_norse_runs_our_chain_spike_for_spike():
    model, x = chain(), currents(3, 100, 5, dtype=torch.float32)
    theirs = pytest.importorskip("norse.torch").from_nir(exported(model, dt=1e-3), dt=1e-3)
    torch.testing.assert_close(stepped(theirs, x), by_hand(model, x), rtol=1e-5, atol=1e-5)


def test_spikingjelly_runs_our_chain_spike_for_spike():
    model, x = chain(torch.float64), currents(3, 100, 5)
    there = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    theirs = there.import_from_nir(exported(model, dt=1e-3), dt=1e-3, dtype=torch.float64)
    torch.testing.assert_close(stepped(theirs, x), by_hand(model, x), rtol=1e-9, atol=1e-9)


def convolution() -> tuple[nn.Sequential, torch.Tensor]:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 3, 3, stride=2, padding=1), Population(Cell(tau_ref=0.0, floor=-math.inf, amplitude=1e-3))]
    model = nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3 * 2 * 2, 4))
    return model, 3 * currents(2, 60, 2, 8, 8, dtype=torch.float32)


def test_snntorch_runs_our_convolution_on_one_example():
    # Their importer forgets that NIR's Flatten does not count the dimension of the examples.
    model, x = convolution()
    there = pytest.importorskip("snntorch.import_nir")
    expected = by_hand(model, x)
    assert expected.std() > 0.01
    for one, answer in zip(x, expected, strict=True):
        theirs = there.import_from_nir(exported(model, dt=1e-4, shape=(2, 8, 8)))
        torch.testing.assert_close(stepped(theirs, one.transpose(0, 1)).T, answer)


def test_spikingjelly_runs_our_convolution():
    model, x = convolution()
    there = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    theirs = there.import_from_nir(exported(model, dt=1e-3, shape=(2, 8, 8)), dt=1e-3)
    torch.testing.assert_close(stepped(theirs, x), by_hand(model, x), rtol=1e-5, atol=1e-5)


def test_ours_runs_a_convolution_that_was_written_to_a_file(tmp_path):
    model, x = convolution()
    nir.write(tmp_path / "net.nir", exported(model, dt=1e-3, shape=(2, 8, 8)))
    ours = from_nir(tmp_path / "net.nir", dt=1e-3)
    torch.testing.assert_close(ours(x), by_hand(model, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("package", "fires"), [("plausible", 0), ("norse", 0), ("spikingjelly", 1)])
def test_a_voltage_at_the_threshold_fires_nowhere_but_in_spikingjelly(package, fires):
    one = np.ones(N)
    graph, x = alone(nir.LIF(4e-3 * one, one, 0 * one, 0.25 * one, 0 * one)), torch.ones(1, 1, N)
    if package == "plausible":
        said = from_nir(graph, dt=1e-3)(x)
    elif package == "norse":
        said = stepped(pytest.importorskip("norse.torch").from_nir(graph, dt=1e-3), x)
    else:
        there = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
        said = stepped(there.import_from_nir(graph, dt=1e-3), x)
    assert (said == fires).all()


# The recurrent spiking net


def rsnn(**options) -> RecurrentSpikingNet:
    torch.manual_seed(0)
    return build("rsnn", shape=(5,), classes=3, width=20, output="sequence", threshold=0.4, **options).double()


@pytest.mark.parametrize("exact", [False, True])
def test_an_rsnn_comes_back_as_one_and_e_prop_teaches_it_the_same(tmp_path, exact):
    model, x, y = rsnn(gamma=0.4), currents(3, 30, 5), torch.randn(3, 30, 3).double()
    with pytest.warns(PlausibleWarning, match="'neurons' takes the threshold"):
        nir.write(tmp_path / "net.nir", to_nir(model, dt=5e-3, exact=exact))
    ours = from_nir(tmp_path / "net.nir", dt=5e-3, exact=exact, gamma=0.4, dtype=torch.float64)
    assert isinstance(ours, RecurrentSpikingNet)
    torch.testing.assert_close(ours(x), model(x))
    for net in (model, ours):
        plausible.bind(net, "eprop", nn.MSELoss()).learn(x, y)
    for mine, back in zip(model.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, back.grad)


def test_e_prop_refuses_what_is_no_rsnn():
    graph = exported(rsnn(), dt=5e-3)
    graph.nodes["neurons"].metadata = {}  # a hard reset, for which its traces would be wrong
    with pytest.raises(CoverageError, match="Graph, has no such 'input'"):
        plausible.bind(from_nir(graph, dt=5e-3), "eprop", nn.MSELoss())


def test_what_a_resistance_does_is_put_into_threshold_and_readout():
    graph = exported(rsnn(), dt=5e-3)
    graph.nodes["neurons"].r = np.full(20, 2.5)
    graph.nodes["leak"].r = np.full(3, 0.5)
    ours = from_nir(graph, dt=5e-3, dtype=torch.float64)
    graph.nodes["neurons"].r = np.full(20, 2.5) + np.arange(20) * 1e-15  # no longer one number, and so no rsnn
    general = from_nir(graph, dt=5e-3, dtype=torch.float64)
    assert isinstance(ours, RecurrentSpikingNet) and not isinstance(general, RecurrentSpikingNet)
    x = currents(3, 60, 5)
    torch.testing.assert_close(ours(x), general(x))


def without_leak(graph: nir.NIRGraph) -> nir.NIRGraph:
    """None of the three reads LI."""
    nodes = {name: node for name, node in graph.nodes.items() if name != "leak"}
    edges = [edge for edge in graph.edges if "leak" not in edge]
    return nir.NIRGraph(nodes, [*edges, ("readout", "output")])


@pytest.mark.parametrize("package", ["norse", "spikingjelly"])
def test_others_run_an_rsnn_with_the_reset_that_nir_has(package):
    graph = without_leak(exported(rsnn(), dt=5e-3))
    x = currents(3, 100, 5, dtype=torch.float32)
    if package == "norse":
        theirs = pytest.importorskip("norse.torch").from_nir(graph, dt=5e-3)
    else:
        there = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
        theirs = there.import_from_nir(graph, dt=5e-3)
    theirs = stepped(theirs, x)
    soft = from_nir(graph, dt=5e-3)(x)
    graph.nodes["neurons"].metadata = {}
    hard = from_nir(graph, dt=5e-3)(x)
    torch.testing.assert_close(theirs, hard, rtol=1e-5, atol=1e-5)
    first = (soft != hard).flatten(2).any(2).float().argmax(1)
    assert first.min() > 0 and not torch.allclose(soft, hard, atol=0.1), "the two resets should part, but not at once"


# In: we run others' nets


def snn_steps(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    for layer in net:
        if hasattr(layer, "reset_mem"):
            layer.reset_mem()
    return torch.stack([net(x_t) for x_t in x.unbind(1)], 1).detach()


def positive(net: nn.Sequential) -> nn.Sequential:
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Linear):
                layer.weight.abs_()
    return net


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("recurrent", [False, True])
def test_ours_runs_snntorch_s_net(tmp_path, recurrent, soft):
    snn = pytest.importorskip("snntorch")
    torch.manual_seed(0)
    options = {"init_hidden": True, "reset_mechanism": "subtract" if soft else "zero", "reset_delay": soft}
    cell = (
        snn.RLeaky(beta=0.9, linear_features=8, **options)
        if recurrent
        else snn.Leaky(beta=torch.full((8,), 0.9), threshold=torch.ones(8), **options)
    )
    last = snn.Leaky(beta=torch.linspace(0.5, 0.9, 3), threshold=torch.ones(3), **options)
    net, x = positive(nn.Sequential(nn.Linear(5, 8), cell, nn.Linear(8, 3), last)), torch.rand(3, 60, 5)
    from snntorch.export_nir import export_to_nir

    nir.write(tmp_path / "net.nir", export_to_nir(net, x[:1, 0], ignore_dims=[0]))
    ours = from_nir(tmp_path / "net.nir", dt=1e-4, soft_reset=soft)
    expected = snn_steps(net, x)
    assert 0.05 < expected.mean() < 0.95
    assert torch.equal(ours(x), expected)
    assert not torch.equal(from_nir(tmp_path / "net.nir", dt=1e-4, soft_reset=not soft)(x), expected)


def test_ours_runs_norse_s_net():
    norse = pytest.importorskip("norse.torch")
    torch.manual_seed(0)
    cell = norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=torch.tensor(100.0), v_th=torch.tensor(0.3)))
    net, x = norse.SequentialState(nn.Linear(5, 8), cell, nn.Linear(8, 3)), torch.rand(3, 60, 5)
    # Their exporter multiplies τ by dt, which their importer does not take back: dt = 1 leaves it in seconds.
    ours = from_nir(norse.to_nir(net, x[:1, 0], dt=1.0), dt=1e-3)
    expected = stepped(net, x)
    assert expected.std() > 0.01
    torch.testing.assert_close(ours(x), expected)


def test_ours_runs_spikingjelly_s_net():
    there = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    from spikingjelly.activation_based import functional, neuron

    torch.manual_seed(0)
    cells = (
        neuron.LIFNode(tau=4.0, v_threshold=0.3, v_reset=0.0),
        neuron.CUBALIFNode(c_decay=0.5, v_decay=0.5, v_reset=0.0, v_threshold=2.0),
    )
    net = positive(nn.Sequential(nn.Linear(5, 8), cells[0], nn.Linear(8, 3), cells[1]))
    x = torch.rand(3, 60, 5)
    ours = from_nir(there.export_to_nir(net, x[:, 0], dt=1e-3), dt=1e-3)
    functional.reset_net(net)
    expected = torch.stack([net(x_t) for x_t in x.unbind(1)], 1).detach()
    assert 0.05 < expected.mean() < 0.95
    assert torch.equal(ours(x), expected)


# How a graph runs


def two_populations() -> nir.NIRGraph:
    """in → A → ab → B → output, B → ba → A, and a shortcut from the input to B."""
    draw = np.random.default_rng(1)
    lif = [nir.LIF(TAU, R, 0 * R, 0.1 * OVER, 0 * R) for _ in range(2)]
    nodes = {name: nir.Linear(draw.normal(size=(N, N))) for name in ("in", "ab", "ba", "short")}
    nodes |= {"A": lif[0], "B": lif[1]}
    nodes |= {"input": nir.Input({"input": np.array([N])}), "output": nir.Output({"output": np.array([N])})}
    ways = "input>in in>A A>ab ab>B B>ba ba>A input>short short>B B>output"
    return nir.NIRGraph(nodes, [tuple(way.split(">")) for way in ways.split()])


def test_edges_that_close_a_cycle_take_a_step_and_all_others_none():
    graph, x, dt = two_populations(), currents(2, 50, N), 1e-3
    W = {name: torch.from_numpy(node.weight).T for name, node in graph.nodes.items() if isinstance(node, nir.Linear)}
    a = b = z_b = torch.zeros(2, N, dtype=torch.float64)
    beta, threshold, r = (torch.from_numpy(v) for v in (1 - dt / TAU, 0.1 * OVER, R))
    said = []
    for x_t in x.unbind(1):
        a = beta * a + (1 - beta) * r * (x_t @ W["in"] + z_b @ W["ba"])
        z_a = (a > threshold).double()
        a = a * (1 - z_a)
        b = beta * b + (1 - beta) * r * (z_a @ W["ab"] + x_t @ W["short"])
        z_b = (b > threshold).double()
        b = b * (1 - z_b)
        said.append(z_b)
    expected = torch.stack(said, 1)
    assert 0.05 < expected.mean() < 0.95
    assert torch.equal(from_nir(graph, dt=dt, dtype=torch.float64)(x), expected)


def test_steps_go_on_from_their_state_which_is_zero_at_rest_and_copies_run_alike():
    net, x = from_nir(two_populations(), dt=1e-3, dtype=torch.float64), currents(2, 50, N)
    state, said = net.rest(x), []
    assert all(len(part) == 2 and not part.any() for part in state) and len(state) == 3
    for x_t in net.frames(x):
        state, y = net.step(state, x_t)
        said.append(y)
    whole = net(x)
    assert torch.equal(torch.stack(said, 1), whole)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(x), whole)
    mean = from_nir(two_populations(), dt=1e-3, dtype=torch.float64, stepwise=False)
    torch.testing.assert_close(mean(x), whole.mean(1))


def test_reading_draws_no_random_numbers():
    graph = exported(rsnn(), dt=5e-3)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    from_nir(two_populations(), dt=1e-3)
    from_nir(graph, dt=5e-3)
    assert torch.equal(torch.rand(1), expected)


# What is refused


def layers(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (layers(nn.Linear(3, 3), nn.ReLU()), None, "'1', a ReLU, has no counterpart in NIR; known are AvgPool2d"),
        (layers(nn.Linear(3, 3), Population(Cell(floor=-math.inf))), None, "'1'.* no refractory period"),
        (layers(nn.Linear(3, 3), Population(Cell(tau_ref=0.0))), None, "'1'.* no lowest voltage"),
        (Population(Cell(tau_ref=0.0, floor=-math.inf, inc_n=0.1)), (3,), "'0'.* no adaptation"),
        (Population(Cell(tau_ref=0.0, floor=-math.inf, leak=False)), (3,), "'0'.* no constant drain"),
        (Population(CELL), None, "leaves open what shape an input has: give shape="),
        (build("rsnn", shape=(3,), classes=2, adaptive=5), None, "'neurons'.* no threshold that adapts"),
        (build("rsnn", shape=(3,), classes=2, refractory=0.01), None, "'neurons'.* no refractory period"),
        (build("mlp", shape=(3,), classes=2), None, "'.*', a .*, has no counterpart in NIR"),
        (layers(nn.Flatten(0)), (2, 6, 6), "'0' flattens examples into one another"),
        (layers(nn.AvgPool2d(2, ceil_mode=True)), (2, 6, 6), "'0': NIR pools with neither ceil_mode"),
        (layers(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")), (2, 6, 6), "'0' pads with 'circular'"),
        (layers(nn.Conv2d(2, 2, (3, 1)), nn.Flatten(), nn.Linear(48, 2)), (2, 6, 6), "nir does not accept the graph"),
        (layers(nn.Linear(3, 3)), (4,), r"inputs of shape \(4,\) do not pass through the model: .*multiplied"),
    ],
)
def test_what_nir_has_not_is_refused_by_name(model, shape, message):
    with pytest.raises(ConfigurationError, match=message):
        exported(model, dt=1e-3, shape=shape)


def test_no_layer_can_have_the_name_of_an_end():
    with pytest.raises(ConfigurationError, match="No layer can be called 'input' or 'output'"):
        to_nir(named("output"), dt=1e-3)


def named(name: str) -> nn.Sequential:
    model = nn.Sequential()
    model.add_module(name, nn.Linear(3, 3))
    return model


def ends(**nodes: nir.NIRNode) -> dict[str, nir.NIRNode]:
    shape = np.array([N])
    return {"input": nir.Input({"input": shape}), "output": nir.Output({"output": shape}), **nodes}


THROUGH = [("input", "cell"), ("cell", "output")]


@pytest.mark.parametrize(
    ("nodes", "edges", "options", "message"),
    [
        (ends(cell=nir.Delay(R)), THROUGH, {}, "Node 'cell' of the graph is a Delay; known are Input, Output, Affine"),
        (ends(cell=NODES["LIF"]), THROUGH, {"dt": 0.01}, "tau of node 'cell' is .* less than the step of 0.01 s"),
        (ends(cell=nir.LI(-TAU, R, R)), THROUGH, {}, "tau of node 'cell' is -.*number of seconds above 0"),
        (ends(cell=NODES["LIF"]), THROUGH, {"dt": 1.5}, "dt = 1.5 would be 1.5 seconds"),
        (ends(cell=NODES["LIF"], dead=NODES["LI"]), [*THROUGH, ("cell", "dead")], {}, "Node 'dead' .* not on a way"),
        (ends(cell=NODES["LIF"]), [*THROUGH, ("ghost", "cell")], {}, "'ghost', and there is no such node"),
        (ends(cell=NODES["LIF"], more=ends()["input"]), [*THROUGH, ("more", "cell")], {}, "2 Input nodes: input, more"),
        ({"cell": NODES["LIF"]}, [], {}, "0 Input nodes; a net"),
        (ends(cell=nir.Linear(np.ones((2, N, N)))), THROUGH, {}, r"weight of node 'cell' has shape \(2, 4, 4\)"),
    ],
)
def test_graphs_that_cannot_run_are_refused_by_name(nodes, edges, options, message):
    graph = nir.NIRGraph(nodes, edges, type_check=False)
    with pytest.raises(ConfigurationError, match=message):
        from_nir(graph, **{"dt": 1e-3, **options})


def test_files_that_are_no_graphs_are_refused(tmp_path):
    garbage, foreign, single = (tmp_path / name for name in ("garbage.nir", "foreign.nir", "single.nir"))
    garbage.write_bytes(b"\x80\x04not hdf5 at all")
    with h5py.File(foreign, "w") as file:
        file["node/type"] = "Sorcery"
    nir.write(single, NODES["LIF"])
    for path, message in (
        (tmp_path / "none.nir", "FileNotFoundError"),
        (garbage, "OSError"),
        (foreign, "AssertionError"),
        (single, "TypeError"),
    ):
        with pytest.raises(DataError, match=f"{path.name} .*{message}"):
            from_nir(path, dt=1e-3)


def test_without_nir_everything_else_works_and_the_error_says_how_to_install_it():
    script = """
import sys
sys.modules["nir"] = None
import plausible, plausible.models
plausible.models.build("rsnn", shape=(3,), classes=2)
import plausible.models.nir
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ModuleNotFoundError") and "pip install 'plausible[nir]'" in last
