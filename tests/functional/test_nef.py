"""The NEF against nengo: gains, decoders, and the trajectories of learning rules; and against closed forms."""

import numpy as np
import pytest
import torch

from plausible.functional import lif, nef
from plausible.functional.lif import Cell, Membrane
from plausible.functional.synapses import LowPass

CELL = Cell()
DT = 1e-3


@pytest.fixture(scope="module")
def nengo():
    return pytest.importorskip("nengo")


def test_gain_and_bias_of_the_specification():
    rates, intercepts = torch.tensor([100.0, 200, 300]).double(), torch.tensor([-0.5, 0, 0.5]).double()
    gain, bias = nef.gain_bias(CELL, rates, intercepts)
    torch.testing.assert_close(gain, torch.tensor([1.355497, 6.179162, 29.011110]).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(bias, torch.tensor([1.677748, 1, -13.505555]).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("cell", [CELL, Cell(leak=False), Cell(tau_rc=0.05)], ids=["lif", "if", "slow"])
def test_neurons_begin_at_their_intercept_and_reach_their_maximum_at_one(cell):
    draw = torch.Generator().manual_seed(0)
    rates = 50 + 300 * torch.rand(40, generator=draw, dtype=torch.float64)
    intercepts = 1.8 * torch.rand(40, generator=draw, dtype=torch.float64) - 0.9
    gain, bias = nef.gain_bias(cell, rates, intercepts)
    torch.testing.assert_close(lif.rate(cell, gain + bias), rates, rtol=1e-9, atol=0)
    torch.testing.assert_close(gain * intercepts + bias, torch.ones(40).double())


def test_gain_and_bias_are_nengo_s(nengo):
    draw = np.random.default_rng(1)
    rates, intercepts = draw.uniform(100, 400, 100), draw.uniform(-1, 0.9, 100)
    expected = nengo.LIF().gain_bias(rates, intercepts)
    for ours, theirs in zip(
        nef.gain_bias(CELL, torch.from_numpy(rates), torch.from_numpy(intercepts)), expected, strict=True
    ):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-12)


@pytest.mark.parametrize("points", [30, 750])
def test_decoders_are_nengo_s(nengo, points):
    """Of x², with fewer and with more points than neurons."""
    with nengo.Network(seed=1) as network:
        pre = nengo.Ensemble(50, 1, n_eval_points=points)
        post = nengo.Node(size_in=1)
        connection = nengo.Connection(pre, post, function=np.square)
    with nengo.Simulator(network, progress_bar=False) as simulator:
        built, expected = simulator.data[pre], simulator.data[connection].weights
    x, encoders = torch.from_numpy(built.eval_points), torch.from_numpy(built.encoders)
    activities = lif.rate(CELL, torch.from_numpy(built.gain) * (x @ encoders.t()) + torch.from_numpy(built.bias))
    ours = nef.decoders(activities, x.square())
    np.testing.assert_allclose(ours.numpy(), expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize(("m", "n"), [(20, 50), (80, 30)])
def test_decoders_are_those_of_the_normal_equations(m, n):
    A, Y = torch.rand(m, n, dtype=torch.float64), torch.randn(m, 3, dtype=torch.float64)
    noise = m * (0.1 * A.max()) ** 2
    expected = torch.linalg.solve(A.t() @ A + noise * torch.eye(n, dtype=torch.float64), A.t() @ Y).t()
    torch.testing.assert_close(nef.decoders(A, Y), expected)


def test_pes_goes_nengo_s_way(nengo):
    """A population learns to pass on a sine wave: the decoded value, at every step of two seconds."""
    rate, steps, n = 1e-3, 2000, 60
    with nengo.Network(seed=2) as network:
        stimulus = nengo.Node(lambda t: np.sin(4 * t))
        pre = nengo.Ensemble(n, 1)
        nengo.Connection(stimulus, pre, synapse=None)
        post, error = nengo.Node(size_in=1), nengo.Node(size_in=1)
        learned = nengo.Connection(pre, post, function=lambda x: 0, learning_rule_type=nengo.PES(rate))
        nengo.Connection(post, error, synapse=None)
        nengo.Connection(stimulus, error, transform=-1, synapse=None)
        nengo.Connection(error, learned.learning_rule, synapse=None)
        seen = nengo.Probe(post)
    with nengo.Simulator(network, progress_bar=False, optimize=False) as simulator:
        voltage = torch.from_numpy(simulator.signals[simulator.model.sig[pre.neurons]["voltage"]].copy())
        simulator.run_steps(steps)
        built, expected = simulator.data[pre], simulator.data[seen]
    encoders, gain, bias = (torch.from_numpy(np.array(a, float)) for a in (built.encoders, built.gain, built.bias))
    zero, synapse = torch.zeros(n, dtype=torch.float64), LowPass(0.005)
    state, activity, arrived = Membrane(voltage, zero, zero), zero, torch.zeros(1, dtype=torch.float64)
    D, change = torch.zeros(1, n, dtype=torch.float64), torch.zeros(1, n, dtype=torch.float64)
    found = []
    for k in range(1, steps + 1):
        x = torch.tensor([np.sin(4 * k * DT)])
        D = D + change
        spikes, state = lif.step(CELL, state, gain * (encoders @ x) + bias, DT)
        found.append(arrived)
        activity, _ = synapse.step(activity, spikes, DT)
        # In nengo's simulator a changed weight, and what has passed a synapse, are seen a step later.
        change = nef.pes((arrived - x).unsqueeze(0), activity.unsqueeze(0), rate, DT)
        arrived, _ = synapse.step(arrived, D @ spikes, DT)
    ours = torch.stack(found).numpy()
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)
    assert np.abs(expected).max() > 0.5  # it has learned something


@pytest.mark.parametrize("rule", ["voja", "oja", "bcm"])
def test_one_step_is_that_of_nengo_s_operator(nengo, rule):
    from nengo.builder import learning_rules
    from nengo.builder.signal import Signal

    draw = np.random.default_rng(3)
    m, n, d = 5, 4, 3
    values = {
        "pre": draw.random(m), "post": draw.random(n), "theta": draw.random(n), "weights": draw.normal(size=(n, m)),
        "x": draw.normal(size=d), "scaled": draw.normal(size=(n, d)), "scale": draw.random(n), "one": np.ones(()),
    }  # fmt: skip
    signal = {name: Signal(value, name=name) for name, value in values.items()}
    shape = (n, d) if rule == "voja" else (n, m)
    delta = Signal(np.zeros(shape), name="delta")
    operator = {
        "voja": lambda: learning_rules.SimVoja(
            signal["x"], signal["post"], signal["scaled"], delta, values["scale"], signal["one"], 0.3
        ),
        "oja": lambda: learning_rules.SimOja(signal["pre"], signal["post"], signal["weights"], delta, 0.3, 0.7),
        "bcm": lambda: learning_rules.SimBCM(signal["pre"], signal["post"], signal["theta"], delta, 0.3),
    }[rule]()
    memory = {signal[name]: np.array(value) for name, value in values.items()} | {delta: np.zeros(shape)}
    operator.make_step(memory, DT, None)()
    t = {name: torch.from_numpy(np.array(value)) for name, value in values.items()}
    row = {name: t[name].unsqueeze(0) for name in ("pre", "post", "theta", "x")}
    ours = {
        "voja": lambda: nef.voja(row["post"], row["x"], t["scaled"], t["scale"], 0.3, DT),
        "oja": lambda: nef.oja(row["pre"], row["post"], t["weights"], 0.3, DT, beta=0.7),
        "bcm": lambda: nef.bcm(row["pre"], row["post"], row["theta"], 0.3, DT),
    }[rule]()
    np.testing.assert_allclose(ours.numpy(), memory[delta], rtol=1e-12)


def test_streams_that_share_weights_count_by_their_mean():
    e, a = torch.randn(6, 2), torch.rand(6, 5)
    expected = torch.stack([nef.pes(e[i : i + 1], a[i : i + 1], 0.1, DT) for i in range(6)]).mean(0)
    torch.testing.assert_close(nef.pes(e, a, 0.1, DT), expected)


def test_dynamics_make_an_oscillator():
    """dx/dt = A x over a synapse: of a rotation, after one period, what it was."""
    tau, omega = 0.05, 2 * np.pi
    A = torch.tensor([[0.0, -omega], [omega, 0.0]], dtype=torch.float64)
    recurrent, entering = nef.dynamics(A, torch.eye(2, dtype=torch.float64), tau)
    torch.testing.assert_close(entering, tau * torch.eye(2, dtype=torch.float64))
    x = start = torch.tensor([1.0, 0.0], dtype=torch.float64)
    for _ in range(100_000):
        x, _ = LowPass(tau).step(x, recurrent @ x, 1e-5)
    torch.testing.assert_close(x, start, rtol=0, atol=1e-3)


def test_points_on_the_sphere_and_in_the_ball():
    draw = torch.Generator().manual_seed(0)
    sphere, ball = nef.directions(4000, 3, draw), nef.directions(4000, 3, draw, ball=True)
    torch.testing.assert_close(sphere.norm(dim=1), torch.ones(4000).double())
    assert sphere.mean(0).abs().max() < 0.05
    # Uniform in the ball: the volume within radius r is r³.
    for r in (0.3, 0.6, 0.9):
        assert float((ball.norm(dim=1) < r).double().mean()) == pytest.approx(r**3, abs=0.03)


def test_on_off_encoders_share_the_axes_out():
    encoders = nef.on_off(12, 3)
    assert encoders.sum(0).abs().max() == 0 and encoders.abs().sum(0).tolist() == [4, 4, 4]
    with pytest.raises(ValueError, match="multiple of 6"):
        nef.on_off(10, 3)


@pytest.mark.parametrize(
    ("rates", "intercepts", "said"), [([600.0], [0.0], "500 Hz"), ([100.0], [1.0], "has to begin below 1")]
)
def test_impossible_tuning_curves_are_refused(rates, intercepts, said):
    with pytest.raises(ValueError, match=said):
        nef.gain_bias(CELL, torch.tensor(rates), torch.tensor(intercepts))
