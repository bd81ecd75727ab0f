"""Operations against hand counts, loops over every product, and torch's own counter of dense operations."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import plausible
from plausible.probes import operations


def net() -> nn.Sequential:
    """2 → 3 → 2, of whose hidden cells the last is silent for every input that is not negative."""
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False)).double()
    with torch.no_grad():
        model.get_parameter("0.weight").copy_(torch.tensor([[1.0, 2.0], [3.0, 0.0], [-1.0, -2.0]]))
        model.get_parameter("2.weight").copy_(torch.tensor([[1.0, -2.0, 3.0], [0.5, 4.0, 5.0]]))
    return model


X = torch.tensor([[1.0, 0.0], [2.0, 3.0]], dtype=torch.float64)
Y = torch.tensor([0, 1])
# Inputs: the first example has one that is not zero, with a fan-out of 3; the second has two, with fan-outs of 3 and 2
# (one synapse is zero). Hidden: two cells are active in both examples, each with a fan-out of 2.
FORWARD = (3 + 3 + 2) + (4 + 4)


def test_a_forward_pass_by_hand():
    with torch.no_grad():
        counted = operations(lambda: net()(X))
    assert (counted.macs, counted.synaptic) == (2 * (2 * 3 + 3 * 2), FORWARD)
    assert counted.accumulates == 0
    assert counted.elementwise == 2 * 3  # ReLU


# The second layer's weights change by error times activity: 2 errors x 2 active cells in both examples. The first
# layer's by error times input, where the cell is active (2 cells): 1 input, then 2. Dense: as many as forward.
CHANGE, DENSE = (4 + 4) + (2 * 1 + 2 * 2), 2 * (2 * 3 + 3 * 2)


@pytest.mark.parametrize("rule", ["backprop", "sham", "fa"])
def test_a_step_of_what_sends_the_error_layer_by_layer(rule):
    learner = plausible.bind(net(), rule, F.cross_entropy, example=X)
    counted = operations(lambda: learner.learn(X, Y))
    back = 2 * (2 * 3)  # 2 errors through 2 x 3 feedback weights, none of which is zero
    assert counted.synaptic == FORWARD + CHANGE + back
    assert counted.macs == 2 * DENSE + back


def test_a_step_of_direct_feedback_alignment():
    learner = plausible.bind(net(), "dfa", F.cross_entropy, example=X)
    counted = operations(lambda: learner.learn(X, Y))
    assert counted.synaptic == FORWARD + CHANGE + 2 * (2 * 3)
    assert counted.macs == 2 * DENSE + 2 * (2 * 3)


def test_frozen_layers_cost_no_feedback():
    learner = plausible.bind(net(), "frozen", F.cross_entropy, example=X)
    assert operations(lambda: learner.learn(X, Y)).synaptic == FORWARD + (4 + 4)


def test_spikes_and_signs_are_added():
    spikes, signs = torch.tensor([[0.0, 2.0, 2.0]]), torch.tensor([[1.0], [-1.0], [1.0]])
    graded = torch.tensor([[1.0], [2.0], [3.0]])
    assert operations(lambda: spikes @ graded).accumulates == 2
    assert operations(lambda: graded.t() @ signs).accumulates == 3
    assert operations(lambda: graded.t() @ graded).accumulates == 0


def sparse(*shape: int, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=draw)
    return values * (torch.rand(shape, generator=draw) < 0.6)


@pytest.mark.parametrize("shapes", [((4, 3), (3, 5)), ((2, 4, 3), (2, 3, 5)), ((4, 3), (3,)), ((3,), (3,))])
def test_every_product_of_matrices(shapes):
    a, b = sparse(*shapes[0], seed=1), sparse(*shapes[1], seed=2)
    counted = operations(lambda: a @ b)
    left = a.reshape(-1, a.shape[-2] if a.dim() > 1 else 1, 3)
    right = b.reshape(-1, 3, b.shape[-1] if b.dim() > 1 else 1)
    terms = [
        (left[n, i, k] * right[n, k, j]).item()
        for n, i, j, k in itertools.product(range(len(left)), range(left.shape[1]), range(right.shape[2]), range(3))
    ]
    assert counted.macs == len(terms)
    assert counted.synaptic == sum(term != 0 for term in terms) < len(terms)


CONVOLUTIONS = [
    {},
    {"padding": 1},
    {"padding": 2, "stride": 2},
    {"groups": 2, "padding": 1},
    {"groups": 2, "stride": 2, "padding": 1, "dilation": 2},
]


def meetings(x: Tensor, w: Tensor, g: Tensor, stride=1, padding=0, dilation=1, groups=1):
    """Every (input, weight, output) index of a convolution that lies within the input."""
    per_out, per_in = g.shape[1] // groups, w.shape[1]
    for n, o, i, j, c, a, b in itertools.product(*map(range, (*g.shape, per_in, *w.shape[2:]))):
        row, column = i * stride + a * dilation - padding, j * stride + b * dilation - padding
        if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
            yield (n, (o // per_out) * per_in + c, row, column), (o, c, a, b), (n, o, i, j)


@pytest.mark.parametrize("how", CONVOLUTIONS)
def test_a_convolution_forward_and_back_product_by_product(how):
    x = sparse(2, 4, 6, 5, seed=1).requires_grad_()
    w = sparse(6, 4 // how.get("groups", 1), 3, 2, seed=2).requires_grad_()
    with torch.no_grad():
        forward = operations(lambda: F.conv2d(x, w, **how))
    out = F.conv2d(x, w, **how)
    g = sparse(*out.shape, seed=3)
    back = operations(lambda: out.backward(g))
    met = list(meetings(x, w, g, **how))
    assert forward.synaptic == sum(bool(x[i] != 0 and w[k] != 0) for i, k, _ in met)
    assert back.synaptic == sum(bool(g[o] != 0) * (int(w[k] != 0) + int(x[i] != 0)) for i, k, o in met)
    assert forward.macs == out.numel() * w[0].numel()
    assert back.macs == 2 * forward.macs


def test_a_transposed_convolution_product_by_product():
    x, w = sparse(2, 4, 3, 3, seed=1), sparse(4, 3, 2, 2, seed=2)
    counted = operations(lambda: F.conv_transpose2d(x, w, stride=2, padding=1))
    # It is the way back through a convolution: its output is that one's input.
    outer = F.conv_transpose2d(x, w, stride=2, padding=1)
    met = meetings(outer, w, x, stride=2, padding=1)
    assert counted.synaptic == sum(bool(x[o] != 0 and w[k] != 0) for _, k, o in met)
    assert counted.macs == x.numel() * w[0].numel()


def test_dense_operations_are_those_of_torch_s_own_counter():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2),  # no groups: torch's formula for their way back leaves them out
        nn.Flatten(),
        nn.Linear(72, 5),
    )
    x = torch.randn(4, 3, 8, 8)

    def step() -> None:
        model(x).square().sum().backward()

    with FlopCounterMode(display=False) as torchs:
        step()
    assert 2 * operations(step).macs == torchs.get_total_flops()


def test_entries_are_counted_where_they_are_computed():
    a, b = torch.ones(4, 1), torch.ones(1, 5)

    def step() -> None:
        trace = a * b
        trace.mul_(0.5).add_(1.0)
        trace.clone().view(20).sum()

    assert operations(step).elementwise == 3 * 20
