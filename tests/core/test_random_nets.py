"""Small nets that nobody drew: residual, branching, shared, recurrent, with weights in layers and outside of them.

Sham has to be back-propagation on each, and feedback alignment may read no weight: by what coverage measures on each,
and by the audit on nets of layers that are called, the only ones whose activity it can see.

PLAUSIBLE_NETS=1000 pytest tests/core/test_random_nets.py examines that many; ordinarily it is a few.
"""

import copy
import os
import random
from collections.abc import Callable

import pytest
import torch
from along import gradients, through
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import plausible
from plausible.audit import Batch, LearnerSubject
from plausible.audit.coverage import coverage
from plausible.audit.criteria.weight_transport import weight_transport

NETS, T, N = int(os.environ.get("PLAUSIBLE_NETS", "25")), 3, 4


class Wired(nn.Module):
    """(N, T, n) to the same, by a random way through its parts."""

    def __init__(self, forward: Callable[..., Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.way, self.parts = forward, nn.ModuleList(parts)

    def forward(self, h: Tensor) -> Tensor:
        return self.way(h, *self.parts)


class Own(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.weight, self.gain = nn.Parameter(torch.randn(n, n) / n**0.5), nn.Parameter(torch.ones(n))

    def forward(self, h: Tensor) -> Tensor:
        return (h @ self.weight) * self.gain


def part(draw: random.Random, n: int, depth: int) -> nn.Module:
    """Something that keeps the shape (N, T, n)."""

    def inner() -> nn.Module:
        return part(draw, n, depth - 1)

    kinds: list[Callable[[], nn.Module]] = [
        lambda: nn.Linear(n, n),
        lambda: Own(n),
        lambda: Wired(lambda h, conv: conv(h.transpose(1, 2)).transpose(1, 2), nn.Conv1d(n, n, 3, padding=1)),
        lambda: Wired(lambda h, conv: conv(h.mT)[..., :T].mT, nn.ConvTranspose1d(n, n, 2, groups=draw.choice([1, 2]))),
        lambda: Wired(lambda h, net: net(h)[0], draw.choice([nn.RNN, nn.GRU, nn.LSTM])(n, n, batch_first=True)),
        lambda: Wired(lambda h, a: a(h, h, h, need_weights=False)[0], nn.MultiheadAttention(n, 2, batch_first=True)),
        lambda: draw.choice([parametrizations.weight_norm, parametrizations.orthogonal])(nn.Linear(n, n)),
        lambda: nn.LayerNorm(n),
        lambda: draw.choice([nn.Tanh, nn.GELU, nn.PReLU])(),
    ]
    wirings: list[Callable[[], nn.Module]] = [
        lambda: nn.Sequential(inner(), inner()),
        lambda: Wired(lambda h, a: h + a(h), inner()),
        lambda: Wired(lambda h, a, b: torch.tanh(a(h)) * torch.sigmoid(b(h)), inner(), inner()),
        lambda: Wired(lambda h, a: a(torch.tanh(a(h))), inner()),
        lambda: Wired(lambda h, a, b: a(h) if h.shape[0] > 1 else b(h), inner(), inner()),  # one of them is never used
    ]
    return draw.choice(wirings if depth > 0 and draw.random() < 0.7 else kinds)()


def net(seed: int) -> nn.Module:
    draw = random.Random(seed)
    torch.manual_seed(seed)
    n = draw.choice([2, 4, 6])
    middle = [part(draw, n, 2) for _ in range(draw.randint(1, 2))]
    return nn.Sequential(nn.Linear(3, n), nn.Tanh(), *middle, nn.Flatten(), nn.Linear(T * n, 3)).double()


class Called(nn.Module):
    """A layer, called with (N, T, n) and answering in that shape; or twice, as recurrent and shared layers are."""

    def __init__(self, layer: nn.Module, times: int = 1) -> None:
        super().__init__()
        self.layer, self.times = layer, times

    def forward(self, h: Tensor) -> Tensor:
        conv = isinstance(self.layer, nn.Conv1d)
        for turn in range(self.times):
            h = self.layer(h.mT).mT if conv else self.layer(h)
            h = torch.tanh(h) if turn < self.times - 1 else h
        return h


class Unrolled(nn.Module):
    """A recurrent net of two layers, written as a loop over time: (N, T, n) to the same."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.enter, self.again = nn.Linear(n, n), nn.Linear(n, n)

    def forward(self, x: Tensor) -> Tensor:
        states = [torch.tanh(self.enter(x[:, 0]))]
        for t in range(1, x.shape[1]):
            states.append(torch.tanh(self.enter(x[:, t]) + self.again(states[-1])))
        return torch.stack(states, 1)


def called_part(draw: random.Random, n: int, depth: int) -> nn.Module:
    """As :func:`part`, of layers that are called: their presynaptic vectors are for the audit to see."""

    def inner() -> nn.Module:
        return called_part(draw, n, depth - 1)

    kinds: list[Callable[[], nn.Module]] = [
        lambda: Called(nn.Linear(n, n, bias=draw.random() < 0.5)),
        lambda: Called(nn.Conv1d(n, n, 3, padding=1, groups=draw.choice([1, 2]))),
        lambda: Called(nn.Linear(n, n), 2),  # shared
        lambda: Unrolled(n),
        lambda: draw.choice([nn.Tanh, nn.GELU, nn.ReLU])(),
    ]
    wirings: list[Callable[[], nn.Module]] = [
        lambda: nn.Sequential(inner(), nn.Tanh(), inner()),
        lambda: Wired(lambda h, a: h + a(h), inner()),
        lambda: Wired(lambda h, a, b: torch.tanh(a(h)) * torch.sigmoid(b(h)), inner(), inner()),
        lambda: Wired(lambda h, a: a(torch.tanh(a(h))), inner()),
    ]
    return draw.choice(wirings if depth > 0 and draw.random() < 0.7 else kinds)()


def net_of_layers(seed: int) -> nn.Module:
    """Wide enough that weights have a null space."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    n = 16
    middle = [called_part(draw, n, 2) for _ in range(draw.randint(1, 2))]
    return nn.Sequential(nn.Linear(3, n), nn.Tanh(), *middle, nn.Flatten(), nn.Linear(T * n, 3)).double()


@pytest.mark.parametrize("seed", range(NETS))
def test_the_audit_finds_weight_transport_in_sham_and_none_in_fa(seed: int):
    model = net_of_layers(seed)
    x, y = torch.randn(N, T, 3, dtype=torch.float64), torch.randint(3, (N,))
    expected = gradients(model, lambda m: F.cross_entropy(m(x), y))
    for rule, verdict in (("sham", "violated"), ("fa", "solved")):
        learner = plausible.bind(copy.deepcopy(model), rule, F.cross_entropy, example=x)
        finding = weight_transport(LearnerSubject(learner), Batch(x, y, 3))
        assert finding.verdict == verdict, finding.sentence
        if rule == "sham":
            floor = 1e-12 * max(float(g.abs().max()) for g in expected.values())
            learner.zero_grad()
            learner.learn(x, y)
            for name, p in learner.model.named_parameters():
                torch.testing.assert_close(p.grad, expected.get(name), rtol=1e-9, atol=floor, msg=name)


@pytest.mark.parametrize("seed", range(NETS))
def test_sham_is_back_propagation_and_fa_reads_no_weight(seed: int):
    model = net(seed)
    x, y = torch.randn(N, T, 3, dtype=torch.float64), torch.randint(3, (N,))

    def run(m: nn.Module) -> Tensor:
        return F.cross_entropy(m(x), y)

    expected = gradients(model, run)
    sham = plausible.bind(copy.deepcopy(model), "sham", F.cross_entropy, example=x)
    sham.learn(x, y)
    floor = 1e-12 * max(float(g.abs().max()) for g in expected.values())
    for name, p in sham.model.named_parameters():
        assert (p.grad is None) == (name not in expected)
        if p.grad is not None:
            torch.testing.assert_close(p.grad, expected[name], rtol=1e-9, atol=floor, msg=name)

    fa = plausible.bind(copy.deepcopy(model), "fa", F.cross_entropy, example=x)
    for carrier in coverage(fa, x, y):
        assert carrier.by in ("feedback", "gain", "nothing"), carrier
    if not any(site.computed for site in fa.sites()):
        written_out = plausible.bind(copy.deepcopy(model), "sham", F.cross_entropy, example=x).model  # recurrent nets
        formula = through(written_out, x, run, {site.made_of[0]: site["B"] for site in fa.sites()})
        fa.zero_grad()
        fa.learn(x, y)
        for name, grad in formula.items():
            torch.testing.assert_close(fa.model.get_parameter(name).grad, grad, rtol=1e-9, atol=floor, msg=name)
