"""Derivative transport: the controls, the gate between them, relaxing and recurrent nets, and what may hide."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from toys import SHAPES, Broadcast, Hebb, LearnerSubject, Relaxing, examples, mlp, subject, unwired

from plausible.audit import Unmeasurable
from plausible.audit.activations import anatomy
from plausible.audit.criteria import derivative_transport as module
from plausible.audit.criteria.derivative_transport import bent, derivative_transport
from plausible.audit.nonlinearity import bends
from plausible.audit.subject import change


@pytest.mark.parametrize("net", SHAPES)
@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        *((rule, "violated") for rule in ("backprop", "sham", "fa", "usf", "kolen-pollack", "weight-mirror", "ifa")),
        *((rule, "solved") for rule in ("dfa", "drtp")),
        ("frozen", "does not apply"),
    ],
)
def test_verdicts(rule, verdict, net):
    batch = examples(*SHAPES[net])
    found = derivative_transport(subject(rule, net(), batch.x), batch)
    assert found.verdict == verdict
    if verdict == "does not apply":
        return
    assert list(found.layers) == (["0", "2"] if net is mlp else ["0", "4"])
    assert found.also["change at own synapses"] > 0.1, "each cell's own derivative may show at its own synapses"
    if verdict == "solved":
        assert found.value == 0.0
    elif rule == "ifa":  # the tangent travels up with the activity: derivatives show downstream
        assert found.also["change upstream"] == 0.0 and found.also["change downstream"] > 0.1
    else:
        assert found.also["change upstream"] > 0.1 and found.also["change downstream"] == 0.0
        assert next(iter(found.layers.values())) == 0.0, "nothing lies upstream of the first"


def test_where_a_zero_layer_lets_no_error_by_nothing_is_called_solved():
    batch, model = examples(10), mlp()
    nn.init.zeros_(model[-1].weight)
    with pytest.raises(Unmeasurable, match="zero to begin with"):
        derivative_transport(subject("backprop", model, batch.x), batch)
    found = derivative_transport(subject("dfa", model, batch.x), batch)
    assert found.verdict == "solved" and found.also["change at own synapses"] > 0.1


def test_the_value_is_that_of_back_propagation_with_another_derivative():
    """δ_1 = (W_2ᵀ (δ_2 ∘ (φ′ + s))) ∘ φ′ in NumPy's manner, against what was measured."""
    batch, model = examples(10), mlp().double()
    found = derivative_transport(subject("backprop", copy.deepcopy(model)), batch)
    x, (W1, b1, W2, b2, W3, b3) = batch.x.double(), [p.detach() for p in model.parameters()]
    h1 = torch.tanh(x @ W1.t() + b1)
    h2 = torch.tanh(h1 @ W2.t() + b2)
    e = ((h2 @ W3.t() + b3).softmax(1) - F.one_hot(batch.y, 4)) / len(x)
    s = 0.5 + torch.rand(8, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    updates = []
    for slope in (1 - h2**2, 1 - h2**2 + s):
        delta = ((e @ W3) * slope @ W2) * (1 - h1**2)
        updates.append({"W": delta.t() @ x, "b": delta.sum(0)})
    assert found.layers["2"] == pytest.approx(change(*updates), rel=1e-9)


# --- planted violations and what lies between ---------------------------------------------------------------------


def test_local_derivatives_alone_are_no_transport():
    found = derivative_transport(subject(Broadcast()), examples(10))
    assert (found.verdict, found.value) == ("solved", 0.0)
    assert derivative_transport(subject(Hebb()), examples(10)).also["change at own synapses"] == 0.0


@pytest.mark.parametrize("leak", [1.0, 1e-3])
def test_a_derivative_that_leaks_upstream_is_caught(leak):
    found = derivative_transport(subject(Broadcast(slope_leak=leak)), examples(10))
    assert found.verdict == "violated" and found.layers["0"] == 0.0 < found.layers["2"]
    assert found.sentence.endswith("derivatives travel (those behind 2).")


def test_where_only_the_gate_travels_the_verdict_is_between():
    net = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 4))
    found = derivative_transport(subject(Broadcast(gate_leak=1.0), copy.deepcopy(net)), examples(10))
    assert found.verdict == "partly" and found.also["change with gates held"] == 0.0
    found = derivative_transport(subject("fa", net), examples(10))
    assert found.verdict == "violated" and found.also["change with gates held"] > 0.1


def test_what_activity_carries_is_not_the_derivative():
    """Cells that relax by their own derivative reach other values by another one; held to their values, none shows."""
    relaxing, batch = subject(Relaxing()), examples(10)
    found = derivative_transport(relaxing, batch)
    assert found.verdict == "solved" and found.value is not None and found.value < 1e-12
    body = anatomy(relaxing, batch)
    site = body.activations[1]
    assert site.owners == ("2",) and len(site.values) > 8
    specimen = relaxing.copy()
    with bent(specimen.model, replace(site, values=[]), module._any_slope):  # the control: values not held
        after = specimen.update(batch.x, batch.y)
    assert change(body.updates, after) > 1e-3


# --- recurrent nets ---------------------------------------------------------------------------------------------


class Sum(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class Recurrent(nn.Module):
    def __init__(self, through_time: bool) -> None:
        super().__init__()
        self.enter, self.again, self.bend, self.leave = nn.Linear(3, 6), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 4)
        self.sum, self.through_time = Sum(), through_time

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 6)
        for t in range(x.shape[1]):
            h = self.bend(self.sum(self.enter(x[:, t]), self.again(h if self.through_time else h.detach())))
        return self.leave(h)


@pytest.mark.parametrize(("through_time", "verdict"), [(True, "violated"), (False, "solved")])
def test_within_a_layer_that_drives_itself(through_time, verdict):
    """Through time, a cell's derivative reaches the other cells' synapses; an update cut at each step has its own."""
    found = derivative_transport(subject("backprop", Recurrent(through_time)), examples(5, 3))
    assert found.verdict == verdict and list(found.layers) == ["enter + again"]
    assert (found.also["change in the same layer"] > 1e-3) == through_time
    assert found.also["change at own synapses"] > 1e-3 and found.also["change downstream"] == 0.0


# --- whose activation it is ---------------------------------------------------------------------------------------


class Shared(nn.Module):
    """One activation module in two places, and a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.branch, self.leave = nn.Linear(10, 6), nn.Linear(6, 6), nn.Linear(6, 4)
        self.norm, self.bend = nn.BatchNorm1d(6), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.enter(x)
        h = self.bend(skip.clone())
        return self.leave(self.bend(self.norm(self.branch(h)) + skip))


def test_owners_along_a_skip_connection():
    body = anatomy(subject("backprop", Shared()), examples(10))
    assert [(each.name, each.owners, each.only_after) for each in body.activations] == [
        ("bend", ("enter",), "enter"),
        ("bend", ("enter", "branch"), "branch"),
    ]
    assert body.order == ["enter", "branch", "leave"] and body.homes["norm.weight"] == "branch"
    first, second = body.activations
    assert body.downstream(first) == {n for n in body.updates if n.split(".")[0] in ("branch", "norm", "leave")}
    assert body.upstream(second) == set() and not body.recurrent(first)


@pytest.mark.parametrize(("rule", "verdict"), [("backprop", "violated"), ("dfa", "solved")])
def test_one_module_in_two_places(rule, verdict):
    bend = nn.ReLU()
    net = nn.Sequential(nn.Linear(10, 8), bend, nn.Linear(8, 8), bend, nn.Linear(8, 4))
    found = derivative_transport(subject(rule, net), examples(10))
    assert found.verdict == verdict and list(found.layers) == ["0", "2"] and found.layers["0"] == 0.0


class Step(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x > 0).to(x)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        *((part, True) for part in (nn.ReLU(inplace=True), nn.Tanh(), nn.PReLU(), nn.GELU(), nn.Hardtanh(), Step())),
        *((part, False) for part in (nn.Identity(), nn.Flatten(), nn.Dropout(), nn.Softmax(1), nn.LayerNorm(5))),
        *((part, False) for part in (nn.BatchNorm1d(5, affine=False), nn.BatchNorm1d(5, affine=False).eval())),
        *((part, False) for part in (nn.AvgPool1d(3, 1, 1), nn.MaxPool1d(3, 1, 1))),
    ],
    ids=repr,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_activations_are_known_by_what_they_do(part, expected, dtype):
    example = 0.1 * torch.randn(6, 5, generator=torch.Generator().manual_seed(2), dtype=dtype)
    before = example.clone()
    assert bends(part.to(dtype), example) == expected
    assert torch.equal(example, before)


@pytest.mark.parametrize("inplace", [True, False])
def test_bent_keeps_the_values_and_adds_to_the_derivative(inplace):
    model = nn.Sequential(nn.Linear(10, 8), nn.ReLU(inplace=inplace), nn.Linear(8, 4)).double()
    batch = examples(10)
    site = anatomy(subject("backprop", model), batch).activations[0]
    a = torch.randn(8, 8, dtype=torch.float64, requires_grad=True)
    for _ in range(2):  # at every call, also beyond the last that was recorded
        with bent(model, replace(site, values=[]), module._any_slope):
            out = model[1](a * 1)
        assert torch.equal(out, a.relu())
        (slope,) = torch.autograd.grad(out.sum(), a)
        torch.testing.assert_close(slope, (a > 0) + module._positive(a))
    with bent(model, site, module._any_slope):
        assert torch.equal(model[1](a * 1), site.values[0])
    assert not model[1]._forward_hooks and not model[0]._forward_hooks


# --- what cannot be measured, and what is left alone ------------------------------------------------------------


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(10, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(torch.tanh(self.one(x)))


def test_a_nonlinearity_in_a_function_call_cannot_be_reached():
    with pytest.raises(Unmeasurable, match="function call"):
        derivative_transport(subject("backprop", Functional()), examples(10))


def test_a_linear_net_and_a_single_layer_have_nothing_that_could_travel():
    linear = nn.Sequential(nn.Linear(10, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    assert derivative_transport(subject("backprop", linear), examples(10)).verdict == "does not apply"
    shallow = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 4))
    assert derivative_transport(subject("backprop", shallow), examples(10)).verdict == "does not apply"


def test_a_formula_of_ones_own_is_no_proof_in_foreign_code():
    batch = examples(10)
    with pytest.raises(Unmeasurable, match="formula"):
        derivative_transport(unwired(Broadcast(formula=True)), batch)
    assert derivative_transport(unwired(Broadcast()), batch).verdict == "solved"
    assert derivative_transport(unwired("backprop"), batch).verdict == "violated"


def test_the_subject_is_left_as_it_was():
    net = nn.Sequential(
        nn.Linear(10, 8), nn.Dropout(), nn.ReLU(inplace=True), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4)
    )
    learner = subject("fa", net).copy().learner
    before = {k: v.clone() for k, v in learner.state_dict().items() if isinstance(v, Tensor)}
    random_state = torch.get_rng_state()
    assert derivative_transport(LearnerSubject(learner), examples(10)).verdict == "violated"
    assert all(torch.equal(v, learner.state_dict()[k]) for k, v in before.items())
    assert torch.equal(random_state, torch.get_rng_state())
    assert all(p.grad is None for p in learner.parameters()) and learner.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in learner.modules())
