"""torch's recurrent nets written out: what torch computes, to rounding; and FA in them against the formula."""

import copy
from collections.abc import Callable

import pytest
import torch
from along import through
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm as norm
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import plausible
from plausible.core import recurrent
from plausible.core.errors import CoverageError

NETS: dict[str, Callable[[], nn.Module]] = {
    "RNN": lambda: nn.RNN(3, 4),
    "RNN, ReLU, two layers": lambda: nn.RNN(3, 4, 2, nonlinearity="relu", bias=False),
    "GRU, both directions": lambda: nn.GRU(3, 4, 2, bidirectional=True),
    "LSTM": lambda: nn.LSTM(3, 4),
    "LSTM, batch first": lambda: nn.LSTM(3, 4, 2, batch_first=True),
    "LSTM, projected": lambda: nn.LSTM(3, 4, 2, proj_size=2, bidirectional=True),
}
CELLS: dict[str, Callable[[], nn.Module]] = {
    "RNNCell": lambda: nn.RNNCell(3, 4),
    "RNNCell, ReLU": lambda: nn.RNNCell(3, 4, nonlinearity="relu"),
    "GRUCell": lambda: nn.GRUCell(3, 4),
    "LSTMCell": lambda: nn.LSTMCell(3, 4),
}


def own(net: nn.Module) -> Callable[[str, Tensor], Tensor]:
    return lambda name, x: F.linear(x, getattr(net, f"weight_{name}"), getattr(net, f"bias_{name}", None))


def flat(found: object) -> list[Tensor]:
    if isinstance(found, PackedSequence):
        return [found.data, *pad_packed_sequence(found)]
    return [t for each in found for t in flat(each)] if isinstance(found, (tuple, list)) else [found]


def assert_same(found: object, expected: object) -> None:
    for a, b in zip(flat(found), flat(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def states(net: nn.RNNBase, n: int | None) -> object:
    """A state to begin with, for a batch of n, or for one alone."""
    k = net.num_layers * (2 if net.bidirectional else 1)
    h = torch.randn(k, *([] if n is None else [n]), net.proj_size or net.hidden_size, dtype=torch.float64)
    c = torch.randn(k, *([] if n is None else [n]), net.hidden_size, dtype=torch.float64)
    return (h, c) if isinstance(net, nn.LSTM) else h


@pytest.mark.parametrize("start", [False, True], ids=["from rest", "from a state"])
@pytest.mark.parametrize("build", NETS.values(), ids=NETS)
def test_nets(build: Callable[[], nn.Module], start: bool):
    torch.manual_seed(0)
    net = build().double()
    x = torch.randn(5, 5, 3, dtype=torch.float64)  # five steps, or five sequences
    hx = states(net, 5) if start else None
    assert_same(recurrent.run(net, own(net), x, hx), net(x, hx))
    hx = states(net, None) if start else None
    assert_same(recurrent.run(net, own(net), x[0], hx), net(x[0], hx))


@pytest.mark.parametrize("in_order", [True, False], ids=["sorted", "in any order"])
@pytest.mark.parametrize("build", NETS.values(), ids=NETS)
def test_sequences_of_several_lengths(build: Callable[[], nn.Module], in_order: bool):
    torch.manual_seed(0)
    net = build().double()
    lengths = [5, 3, 3, 1] if in_order else [3, 5, 1, 3]
    x = pack_padded_sequence(torch.randn(5, 4, 3, dtype=torch.float64), torch.tensor(lengths), enforce_sorted=in_order)
    for hx in (None, states(net, 4)):
        assert_same(recurrent.run(net, own(net), x, hx), net(x, hx))


@pytest.mark.parametrize("build", CELLS.values(), ids=CELLS)
def test_cells(build: Callable[[], nn.Module]):
    torch.manual_seed(0)
    cell = build().double()
    for x in (torch.randn(2, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)):
        first = cell(x)
        assert_same(recurrent.run(cell, own(cell), x), first)
        assert_same(recurrent.run(cell, own(cell), x, first), cell(x, first))


def test_dropout_between_layers_draws_as_torch_does():
    net = nn.LSTM(3, 4, 3, dropout=0.5).double()
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    for training in (True, False):
        net.train(training)
        torch.manual_seed(0)
        expected = net(x)
        torch.manual_seed(0)
        assert_same(recurrent.run(net, own(net), x), expected)


class Doubled(nn.LSTM):
    """Its forward is its own."""

    def forward(self, input, hx=None):
        return super().forward(2 * input, hx)


class Derived(Doubled):
    """And so is that of what is derived from it."""


@pytest.mark.parametrize(
    "net",
    [
        Derived(3, 4),
        norm(nn.LSTM(3, 4), "weight_hh_l0"),
        norm(norm(nn.GRUCell(3, 4, bias=False), "weight_hh"), "weight_ih"),
    ],
    ids=["derived", "parametrised", "wholly parametrised"],
)
@pytest.mark.parametrize("example", [True, False], ids=["with an example", "without"])
def test_what_is_not_torchs_own_is_refused_and_not_back_propagated(net: nn.Module, example: bool):
    model = Last(net)
    x = torch.randn(4, 5, 2)
    model(x)
    with pytest.raises(CoverageError, match="'net"):
        plausible.bind(model, "fa", F.cross_entropy, example=x if example else None)


def test_rules_that_teach_layers_alone_refuse_recurrent_nets():
    model, x = Last(nn.LSTM(3, 4)), torch.randn(4, 5, 2)
    model(x)
    with pytest.raises(CoverageError, match="'net', a LSTM"):
        plausible.bind(model, "ifa", F.cross_entropy, example=x)


class Last(nn.Module):
    """A net in time, cells in a loop, and a readout of the last step."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.enter, self.net, self.leave = nn.Linear(2, 3), net, nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.enter(x))
        if isinstance(self.net, nn.RNNBase):
            found = self.net(h if self.net.batch_first else h.transpose(0, 1))[0]
            return self.leave(found[:, -1] if self.net.batch_first else found[-1])
        state = None
        for step in h.unbind(1):
            state = self.net(step, state)
        return self.leave(state[0] if isinstance(state, tuple) else state)


@pytest.mark.parametrize("build", {**NETS, **CELLS}.values(), ids={**NETS, **CELLS})
def test_sham_is_back_propagation_through_time_and_fa_the_same_through_b(build: Callable[[], nn.Module]):
    torch.manual_seed(0)
    model, x, y = Last(build()), torch.randn(4, 5, 2), torch.tensor([0, 1, 2, 0])
    model(x)
    model, x = model.double(), x.double()

    def run(m: nn.Module) -> Tensor:
        return F.cross_entropy(m(x), y)

    for rule in ("sham", "fa"):
        taught = copy.deepcopy(model)
        learner = plausible.bind(taught, rule, F.cross_entropy)
        written_out = copy.deepcopy(model)  # torch's fused kernels keep more than weights and activity
        plausible.bind(written_out, "sham", F.cross_entropy)
        feedback = {site.made_of[0]: site["B"] for site in learner.sites()} if rule == "fa" else {}
        expected = through(written_out, x, run, feedback) if rule == "fa" else {}
        learner.learn(x, y)
        if rule == "sham":
            plain = copy.deepcopy(model)
            run(plain).backward()
            expected = {name: p.grad for name, p in plain.named_parameters()}
        for name, grad in expected.items():
            torch.testing.assert_close(taught.get_parameter(name).grad, grad, rtol=1e-10, atol=1e-12, msg=name)
