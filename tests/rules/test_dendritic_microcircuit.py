"""The dendritic microcircuit (Sacramento et al. 2018): what its cells cancel, what they learn, by which messages."""

import copy
from collections import Counter

import pytest
import torch
from literal_dendritic import WEAK, bound, net, stimulus, update
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.core import registry
from plausible.core.errors import CoverageError
from plausible.functional.alignment import cosine
from plausible.probes import alignment
from plausible.rules.dendritic.circuit import Microcircuit
from plausible.rules.dendritic.learner import MicrocircuitLearner


def apical(learner: MicrocircuitLearner) -> list[Tensor]:
    """v_A of each hidden layer in the state as it is; all activations are sigmoids."""
    state = learner.state
    assert state is not None
    return [
        state.pyramidal[k + 1].sigmoid() @ c.down.t() + state.inter[k].sigmoid() @ c.PI.detach().t()
        for k, c in enumerate(learner.circuits())
    ]


# --- the self-predicting state ---------------------------------------------------------------------------------------


def test_interneurons_cancel_what_comes_down_at_rest():
    """From any state, without a teacher, v_A goes to 0 in float64; from rest it stays there at all times."""
    learner, x = bound(net()), stimulus()
    learner.learn(x)
    assert max(float(v.abs().max()) for v in apical(learner)) <= 1e-12
    state = learner.state
    assert state is not None
    learner.state = state._replace(pyramidal=tuple(u + torch.randn_like(u) for u in state.pyramidal))
    assert max(float(v.abs().max()) for v in apical(learner)) > 0.1
    for _ in range(7):
        learner.learn(x)
    found = update(learner, x, None)
    assert max(float(v.abs().max()) for v in apical(learner)) <= 1e-12
    assert max(float(v.abs().max()) for v in found.values()) <= 1e-12, "and nothing is left to learn"


def test_without_a_teacher_the_output_is_an_attenuated_forward_pass():
    model, x = net(), stimulus()
    learner = bound(model)
    r = x
    for k in (1, 3, 5):
        r = (model[k](r) * (1 / 1.9 if k < 5 else 1 / 1.1)).sigmoid()
    torch.testing.assert_close(learner(x), r, rtol=1e-13, atol=1e-15)
    assert torch.equal(learner.learn(x, torch.tensor([0, 1, 2])).output, learner(x))


@pytest.mark.parametrize("interneurons", [True, False])
def test_plasticity_finds_the_self_predicting_state(interneurons: bool):
    """From W^IP or W^PI that are wrong, without a teacher and with varied stimuli, v_A goes to 0 again."""
    learner = bound(net(), interneuron_rate=float(interneurons), inhibition_rate=float(not interneurons), steps=10)
    wrong = [circuit.IP if interneurons else circuit.PI for circuit in learner.circuits()]
    for p in wrong:
        p.data += 0.3 * torch.randn_like(p)
    optimizer = torch.optim.SGD(wrong, lr=2.0 if interneurons else 0.6)
    draw, sizes = torch.Generator().manual_seed(1), []
    for _ in range(120):
        learner.zero_grad()
        learner.reset()
        learner.learn(3 * torch.randn(30, 6, dtype=torch.float64, generator=draw))
        sizes.append([float(v.norm()) for v in apical(learner)])
        optimizer.step()
    assert all(after < 0.3 * before for before, after in zip(sizes[0], sizes[-1], strict=True))


def mirror(learner: MicrocircuitLearner) -> None:
    """W^down = W^upᵀ, with W^PI to match."""
    layers = {name: module for name, module in learner.model.named_modules() if isinstance(module, nn.Linear)}
    for circuit in learner.circuits():
        circuit.down.copy_(layers[circuit.above].weight.detach().t())
        circuit.PI.data.copy_(-circuit.down)


# --- back-propagation ------------------------------------------------------------------------------------------------


def deltas(learner: MicrocircuitLearner, x: Tensor, target: Tensor) -> list[Tensor]:
    """Back-propagated from the pull on the output potentials, through the attenuated net, to the hidden potentials."""
    layers = [m for m in learner.model.modules() if isinstance(m, nn.Linear)]
    g = learner.rule
    potentials, r = [], x
    for layer in layers:
        share = g.basal / (g.leak + g.basal + (0.0 if layer is layers[-1] else g.apical))
        potentials.append((share * layer(r)).detach().requires_grad_() if layer is layers[0] else share * layer(r))
        r = potentials[-1].sigmoid()
    return list(torch.autograd.grad(r, potentials[:-1], target - potentials[-1].detach()))


@pytest.mark.parametrize("conductances", [WEAK, {}], ids=["weak", "published"])
@pytest.mark.parametrize("dynamics", ["equations", "steady-state"])
def test_a_weak_nudge_teaches_what_back_propagation_does(conductances: dict, dynamics: str):
    learner, x = bound(net(), dynamics=dynamics, **conductances), stimulus(1)
    mirror(learner)
    potential = torch.logit(learner(x).detach())
    target = potential + 0.1 * torch.randn(1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = deltas(learner, x, target)
    learner.loss = lambda output, y: output.sum()
    for _ in range(5):
        learner.learn(x, target)
    found = update(learner, x, target)
    for k, delta in zip((1, 3), expected, strict=True):
        assert float(cosine(-found[f"model.{k}.bias"], delta)) > 0.99
    assert float(cosine(-found["model.5.bias"], target - potential)) > 0.9  # times φ′


# --- wires -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dynamics", ["equations", "steady-state"])
@pytest.mark.parametrize("nudge", ["target", "error"])
def test_every_message_passes_a_wire_at_every_step(dynamics: str, nudge: str):
    learner = bound(net(), dynamics=dynamics, nudge=nudge, steps=9)
    heard: Counter[tuple[str, str, str]] = Counter()

    def tap(name: str, message: Tensor, source: str, target: str) -> Tensor:
        heard[name, source, target] += 1
        return message

    learner.context.tap = tap
    learner.learn(stimulus(), torch.tensor([0, 1, 2]))
    expected = {(nudge, "teacher", "5")}
    for layer, above in (("1", "3"), ("3", "5")):
        expected |= {(f"{layer}.topdown", above, layer), (f"{layer}.nudge", above, layer)}
        expected |= {(f"{layer}.inhibition", layer, layer)}
    assert heard == dict.fromkeys(expected, 9 if dynamics == "equations" else 1)
    heard.clear()
    learner.learn(stimulus())
    assert not any(source == "teacher" for _, source, _ in heard)


@pytest.mark.parametrize("dynamics", ["equations", "steady-state"])
@pytest.mark.parametrize("nudge", ["target", "error"])
def test_silent_wires_tell_nothing_of_the_label(dynamics: str, nudge: str):
    found = []
    for silent, label in ((True, 0), (True, 1), (False, 0), (False, 1)):
        learner = bound(net(), dynamics=dynamics, nudge=nudge, steps=9)
        if silent:
            learner.context.tap = lambda name, message, source, target: torch.zeros_like(message)
        found.append(update(learner, stimulus(), torch.tensor([label, 2, 3])))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert all(not torch.equal(found[2][name], found[3][name]) for name in found[2])


# --- interneurons learn along ----------------------------------------------------------------------------------------


def test_interneurons_follow_the_cells_above_under_linear_optimisers():
    """After training, W^IP is where the W^up of now would put it; without a rate of its own, it is left behind."""
    distances = []
    for rate in (1.0, 0.0):
        model = net(readout=True)
        last = model.get_submodule("5").get_parameter("weight")
        rule = registry.make(
            "dendritic-microcircuit", dynamics="steady-state", nudge="error", interneuron_rate=rate, **WEAK
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        learner = plausible.bind(model, rule, F.cross_entropy, optimizer=optimizer)
        start = last.detach().clone()
        draw = torch.Generator().manual_seed(3)
        for _ in range(40):
            optimizer.zero_grad()
            x = torch.randn(16, 6, dtype=torch.float64, generator=draw)
            learner.learn(x, (x[:, :4]).argmax(1))
            optimizer.step()
        circuit = learner.get_submodule("feedback.3")
        assert isinstance(circuit, Microcircuit)
        now, then = circuit.share * last.detach(), circuit.share * start
        distances.append(float((circuit.IP.detach() - now).norm() / (now - then).norm()))
    assert distances[0] < 0.1 and distances[1] == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("sweeps", [1, 3])
def test_probes_see_the_angle_to_the_circuits_own_gradient(sweeps: int):
    """With the feedback of back-propagation and a weak nudge, hidden updates lie at the gradient of the circuit."""
    learner = bound(net(readout=True), dynamics="steady-state", nudge="error", sweeps=sweeps, **WEAK)
    mirror(learner)
    found = alignment(learner, stimulus(), torch.tensor([0, 1, 2]))
    assert all(found[name]["update_angle"] < 10 for name in ("1", "3", "5"))
    assert all(found[name]["feedback_angle"] < 1e-6 for name in ("3", "5")) and "feedback_angle" not in found["1"]


# --- what it can be bound to -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4)),
        nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)),
        nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 4)),
        nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4), nn.Softmax(1)),
        nn.Sequential(nn.LayerNorm(6, elementwise_affine=False), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)),
    ],
    ids=["convolution", "normalisation", "dropout", "softmax", "before"],
)
def test_other_models_are_refused(model: nn.Module):
    with pytest.raises(CoverageError, match=r"fa or dfa"):
        bound(model)


def test_frozen_layers_and_missing_biases_are_no_obstacle():
    model = nn.Sequential(
        nn.Linear(6, 8, bias=False), nn.Tanh(), nn.Linear(8, 5, bias=False), nn.ReLU(), nn.Linear(5, 4)
    )
    model[0].weight.requires_grad_(False)
    for dynamics in ("equations", "steady-state"):
        learner = bound(copy.deepcopy(model).double(), dynamics=dynamics, steps=5)
        learner.learn(stimulus(), torch.tensor([0, 1, 2]))
        taught = {name for name, p in learner.model.named_parameters() if p.grad is not None}
        assert taught == {"2.weight", "4.weight", "4.bias"} and learner.report()["covered"] == ["2", "4"]
