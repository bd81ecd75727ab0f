"""e-prop: explicit traces against automatic differentiation with stopped gradients (Bellec et al. 2020)."""

import copy
import weakref
from itertools import pairwise

import pytest
import torch
from literal_spiking import eprop, net, run, sequences
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import plausible
from plausible.core import registry
from plausible.core.errors import ConfigurationError, CoverageError

KINDS = pytest.mark.parametrize(
    ("adaptive", "silent"), [(0, 0), (0, 2), (7, 0), (3, 2)], ids=["LIF", "LIF, silent", "ALIF", "both, silent"]
)


def bound(model: nn.Module, loss=F.cross_entropy, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    learner = plausible.bind(model, registry.make("eprop", **options), loss, optimizer=optimizer)
    return learner, optimizer


def grads(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_close(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float = 1e-12) -> None:
    assert a.keys() == b.keys()
    for key in a:
        assert (a[key] - b[key]).norm() <= tolerance * b[key].norm(), key


# --- the gradient -------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("feedback", ["random", "symmetric", "adaptive"])
def test_traces_give_the_gradient_of_automatic_differentiation_with_stopped_spikes(adaptive, silent, feedback):
    model, (x, label) = net(adaptive=adaptive, refractory=silent * 1e-3), sequences()
    learner, _ = bound(model, feedback=feedback)
    B = model.readout.weight.detach() if feedback == "symmetric" else learner.state_dict()["feedback.readout.B"]
    expected = eprop(model, x, label, B, adaptive=adaptive, silent=silent)
    learner.learn(x, label)
    assert_close(grads(model), expected)
    assert all(update.norm() > 1e-3 for update in expected.values())


def test_the_oracle_would_notice():
    """Another feedback, a full gradient through time and a missing threshold adaptation all give something else."""
    model, (x, label) = net(adaptive=7, refractory=2e-3), sequences()
    W = model.readout.weight.detach()
    right = eprop(model, x, label, W, adaptive=7, silent=2)
    for wrong in (
        eprop(model, x, label, -W, adaptive=7, silent=2),
        eprop(model, x, label, W, adaptive=7, silent=2, stop=False),
        eprop(model, x, label, W, adaptive=0, silent=2),
        eprop(model, x, label, W, adaptive=7, silent=0),
    ):
        assert (wrong["recurrent.weight"] - right["recurrent.weight"]).norm() > 0.01 * right["recurrent.weight"].norm()


def test_each_step_has_its_own_target_where_the_output_is_a_sequence():
    model, (x, _) = net(output="sequence"), sequences()
    target = torch.randn(len(x), x.shape[1], 3, dtype=torch.float64)
    y = run(model, x)["y"]
    names = ["input.weight", "recurrent.weight", "readout.weight"]
    total = sum(F.mse_loss(y[:, t], target[:, t]) for t in range(x.shape[1]))
    expected = dict(zip(names, torch.autograd.grad(total, [model.get_parameter(n) for n in names]), strict=True))
    expected["recurrent.weight"].fill_diagonal_(0)
    learner, _ = bound(model, F.mse_loss, feedback="symmetric")
    outcome = learner.learn(x, target)
    assert_close({n: grads(model)[n] for n in names}, expected)
    torch.testing.assert_close(outcome.output, y.detach())
    torch.testing.assert_close(outcome.loss, F.mse_loss(y, target).detach())


def test_backprop_on_the_same_net_is_automatic_differentiation_through_time():
    """The baseline: nothing is stopped, and the output is the mean readout."""
    model, (x, label) = net(adaptive=3, refractory=2e-3), sequences()
    loss = F.cross_entropy(run(model, x, adaptive=3, silent=2, stop=False)["y"].mean(1), label)
    parameters = dict(model.named_parameters())
    expected = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
    outcome = plausible.bind(copy.deepcopy(model), "backprop", F.cross_entropy).learn(x, label)
    learner = plausible.bind(model, "backprop", F.cross_entropy)
    learner.learn(x, label)
    assert_close(grads(model), expected)
    torch.testing.assert_close(outcome.loss, loss.detach())


def test_frozen_teaches_the_readout_alone():
    model, (x, label) = net(), sequences()
    W, b = model.readout.weight, model.readout.bias
    expected = torch.autograd.grad(F.cross_entropy(run(model, x)["y"].mean(1), label), [W, b])
    plausible.bind(model, "frozen", F.cross_entropy).learn(x, label)
    assert_close(grads(model), {"readout.weight": expected[0], "readout.bias": expected[1]})


# --- time -----------------------------------------------------------------------------------------------------------


@KINDS
def test_a_sequence_in_pieces_teaches_what_the_whole_does(adaptive, silent):
    model, (x, label) = net(adaptive=adaptive, refractory=silent * 1e-3), sequences()
    twin = copy.deepcopy(model)
    learner, _ = bound(model)
    learner.learn(x, label)
    pieces, _ = bound(twin)
    for a, b in pairwise((0, 1, 5, 14)):
        before = pieces(x[:, a:b])
        assert torch.equal(pieces.learn(x[:, a:b], label).output, before)  # evaluation goes on from the same state
    assert_close(grads(twin), grads(model))


class Live(TorchDispatchMode):
    """The most bytes that were alive at once, of what has been computed within; what is ``known`` does not count."""

    def __init__(self, known: Tensor) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known = known.untyped_storage()
        self.known.counted = True

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor):
                self.count(tensor.untyped_storage())
        return result

    def count(self, storage) -> None:
        size = storage.nbytes()
        if not hasattr(storage, "counted"):
            storage.counted = True
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.free, size)

    def free(self, size: int) -> None:
        self.now -= size


@pytest.mark.parametrize(("rule", "grows"), [("eprop", False), ("backprop", True)])
def test_memory_does_not_grow_with_the_length_of_the_sequence(rule, grows):
    peak = []
    for steps in (5, 80):
        model, (x, label) = net(adaptive=3), sequences(steps=steps)
        learner = plausible.bind(model, rule, F.cross_entropy)
        with Live(x) as live:
            learner.learn(x, label)
        peak.append(live.peak)
    assert (peak[1] > 1.5 * peak[0]) == grows
    assert grows or peak[1] == peak[0]


def test_streams_are_forgotten_one_by_one():
    model, (x, label) = net(adaptive=3), sequences(n=2)
    (first, second), (later, _) = x.unsqueeze(1), sequences(n=2, seed=5)
    alone = []
    for history in (None, second):
        each = copy.deepcopy(model)
        learner, _ = bound(each)
        if history is not None:
            learner.learn(history, label[1:])
        learner.zero_grad()
        k = 0 if history is None else 1
        learner.learn(later[k : k + 1], label[k : k + 1])
        alone.append(grads(each))
    learner, _ = bound(model)
    learner.learn(torch.cat([first, second]), label)
    learner.reset(torch.tensor([True, False]))
    learner.zero_grad()
    learner.learn(later, label)
    assert_close(grads(model), {key: (alone[0][key] + alone[1][key]) / 2 for key in alone[0]})
    learner.reset()
    assert torch.equal(learner(x), model(x))


def test_a_refractory_neuron_has_no_pseudo_derivative():
    model, (x, label) = net(refractory=2e-3), sequences()
    seen = run(model, x, silent=2)
    learner, _ = bound(model)
    within = 0
    for t in range(x.shape[1]):
        learner.learn(x[:, t : t + 1], label)
        psi, v = learner.state[1].psi, seen["v"][:, t]
        near = ((v - 0.3) / 0.3).abs() < 1
        assert torch.equal(psi != 0, near & ~seen["silent"][:, t])
        within += int((near & seen["silent"][:, t]).sum())
    assert within > 5  # the test had something to see


# --- what travels ---------------------------------------------------------------------------------------------------


def test_every_message_passes_its_wire_at_every_step():
    model, (x, label) = net(), sequences()
    learner, _ = bound(model)
    heard = []

    def listen(name: str, message: Tensor, source: str, target: str) -> Tensor:
        heard.append((name, source, target, tuple(message.shape)))
        return message

    learner.context.tap = listen
    learner.learn(x, label)
    step = [
        ("error", "teacher", "output", (4, 3)),
        ("input.learning_signal", "output", "input", (4, 7)),
        ("recurrent.learning_signal", "output", "recurrent", (4, 7)),
    ]
    assert heard == step * x.shape[1]


def test_the_learning_signals_reach_their_own_layers_alone():
    model, (x, label) = net(), sequences()
    learner, _ = bound(model)
    learner.learn(x, label)
    free = grads(model)
    for deaf in ("input", "recurrent"):
        learner.reset()
        learner.zero_grad()
        learner.context.tap = lambda name, message, *_, deaf=deaf: message * (name != f"{deaf}.learning_signal")
        learner.learn(x, label)
        for key, update in grads(model).items():
            assert torch.equal(update, free[key] * (not key.startswith(deaf))), key


def test_nothing_of_the_readout_travels_back_unless_symmetric():
    x, label = sequences()
    for feedback, same in (("random", True), ("symmetric", False)):
        updates = []
        for scale in (1.0, 2.0):
            model = net()
            learner, _ = bound(model, feedback=feedback)
            learner.context.tap = lambda name, message, *_: torch.ones_like(message) if name == "error" else message
            with torch.no_grad():
                model.readout.weight *= scale
            learner.learn(x, label)
            updates.append(grads(model)["recurrent.weight"])
        assert torch.equal(*updates) == same


def test_random_feedback_is_standard_normal_times_its_scale():
    for scale in (1.0, 3.0):
        learner, _ = bound(net(width=2000), scale=scale)
        B = learner.state_dict()["feedback.readout.B"] / scale
        assert B.shape == (3, 2000) and abs(B.mean()) < 5 / 6000**0.5 and abs(B.std() - 1) < 5 / 12000**0.5


def test_adaptive_feedback_takes_the_readouts_steps_and_decays_with_it():
    """W − B shrinks by 1 − lr · decay a step, so that B becomes W."""
    model, (x, label) = net(), sequences()
    learner, optimizer = bound(model, feedback="adaptive")
    B, W = learner.feedback.readout.B, model.readout.weight
    start = (W - B).detach().clone()
    for _ in range(5):
        optimizer.zero_grad()
        learner.reset()
        learner.learn(x, label)
        optimizer.step()
    torch.testing.assert_close((W - B).detach(), start * (1 - 0.1 * 0.1) ** 5, rtol=1e-10, atol=1e-14)


# --- what it refuses ------------------------------------------------------------------------------------------------


def test_what_it_cannot_teach_is_refused():
    with pytest.raises(CoverageError, match="does not run step by step"):
        plausible.bind(nn.Sequential(nn.Linear(2, 2)), "eprop", F.cross_entropy)
    extended = net()
    extended.extra = nn.Linear(3, 3)
    with pytest.raises(CoverageError, match=r"cannot teach 'extra\.weight'"):
        plausible.bind(extended, "eprop", F.cross_entropy)
    extended.readout = nn.Identity()
    with pytest.raises(CoverageError, match="no such 'readout'"):
        plausible.bind(extended, "eprop", F.cross_entropy)
    with pytest.raises(ConfigurationError, match="optimiser"):
        plausible.bind(net(), registry.make("eprop", feedback="adaptive"), F.cross_entropy)


def test_other_streams_may_not_go_on_from_a_state_that_is_not_theirs():
    learner, _ = bound(net())
    x, label = sequences()
    learner.learn(x, label)
    for use in (lambda: learner(x[:2]), lambda: learner.learn(x[:2], label[:2])):
        with pytest.raises(ConfigurationError, match=r"4 streams, and the input has 2.*reset"):
            use()
