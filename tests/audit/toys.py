"""Rules for tests alone: each can be given one fault at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.audit import Batch, LearnerSubject
from plausible.core import Learner, Rule
from plausible.core.chain import Block, chain
from plausible.core.rule import Claims, Inputs, Outcome, Teacher
from plausible.functional.random import generator

CLAIMS = Claims(
    reads="", forward_weights="none", derivatives_travel=False, phases=1, online=False, additive=True, paper=""
)
CARRIERS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda m: m,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "root": lambda m: m.sign() * m.abs().sqrt(),
}


@dataclass(frozen=True, kw_only=True)
class Toy(Rule):
    """Binds a chain of linear layers to the learner of the class."""

    name = "toy"
    claims = CLAIMS
    learner: ClassVar[type["ToyLearner"]]

    def bind(self, model: nn.Module, loss, example=None) -> "ToyLearner":
        return self.learner(model, self, loss)


@dataclass
class Pass:
    """One block's part of a forward pass: what entered, what answered, what left, and φ′."""

    block: Block
    x: Tensor
    a: Tensor
    h: Tensor

    @property
    def slope(self) -> Tensor:
        a = self.a.detach().requires_grad_()
        return torch.autograd.grad(self.block.activate(a).sum(), a)[0]

    def add(self, delta: Tensor) -> None:
        weight = self.block.layer.get_parameter("weight")
        weight.grad = delta.t() @ self.x + (0 if weight.grad is None else weight.grad)


class ToyLearner(Learner):
    """Runs the chain, layer by layer, without a graph between them."""

    def __init__(self, model: nn.Module, rule: Rule, loss) -> None:
        super().__init__(model, rule, loss)
        self.blocks = chain(model, rule)

    def passes(self, x: Tensor) -> list[Pass]:
        found = []
        with torch.no_grad():
            for block in self.blocks:
                a = block.drive(x)
                found.append(Pass(block, x, a, block.activate(a)))
                x = found[-1].h
        return found

    def matrix(self, name: str, *shape: int) -> Tensor:
        draw = generator(self.rule.seed, name)
        return torch.randn(*shape, generator=draw, dtype=torch.float64) / shape[-1] ** 0.5


class BroadcastLearner(ToyLearner):
    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
        rule = self.rule
        assert isinstance(rule, Broadcast) and isinstance(x, Tensor) and isinstance(y, Tensor)
        *hidden, last = passes = self.passes(x)
        error = (last.h.softmax(1) - F.one_hot(y, last.h.shape[1])) / len(y)
        entered = self.wire("error", error, "teacher", "output")
        carry, rest = CARRIERS[rule.carrier], float(rule.carrier == "sigmoid") / 2
        for each, after in zip(hidden, passes[1:], strict=True):
            B = self.matrix(each.block.name, error.shape[1], each.a.shape[1])
            m = (error if rule.past_the_teacher else entered) @ B
            sent = self.wire(f"{each.block.name}.teach", carry(m), "output", each.block.name) - rest
            delta = (sent + rule.around * m) * (1 - each.h**2 if rule.formula else each.slope)
            if after is not last:
                delta = delta * (1 + rule.slope_leak * after.slope.mean(1, keepdim=True))
                delta = delta * (1 + rule.gate_leak * (after.slope > 0).to(delta).mean(1, keepdim=True))
            each.add(delta)
        last.add(entered)
        if rule.normed:
            for each in passes:
                grad = each.block.layer.get_parameter("weight").grad
                assert grad is not None
                grad /= grad.norm()
        return Outcome(self.loss(last.h, y), last.h)


@dataclass(frozen=True, kw_only=True)
class Broadcast(Toy):
    """Direct feedback through a carrier. ``around``: how much of it goes past the wire; ``past_the_teacher``: it does
    not enter by the teacher's; leaks: of the next layer's derivative, or of whether it has one; ``formula``: φ′ is
    1 − φ², whatever the module; ``normed``: a layer's update has the norm 1, which no synapse of it can know."""

    learner = BroadcastLearner
    carrier: Literal["linear", "sigmoid", "tanh", "relu", "root"] = "linear"
    around: float = 0.0
    past_the_teacher: bool = False
    slope_leak: float = 0.0
    gate_leak: float = 0.0
    formula: bool = False
    normed: bool = False


class RewardLearner(ToyLearner):
    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
        assert isinstance(x, Tensor) and callable(y)
        *hidden, last = self.passes(x)
        draw = generator(self.rule.seed, "action", self.context.iteration)
        action = torch.multinomial(last.h.softmax(1), 1, generator=draw)[:, 0]
        reward = self.wire("reward", y(action), "teacher", "all")
        for each in hidden:
            each.add(-reward[:, None] * each.h / len(x))
        last.add(reward[:, None] * (last.h.softmax(1) - F.one_hot(action, last.h.shape[1])) / len(x))
        return Outcome(-reward.mean(), last.h)


@dataclass(frozen=True, kw_only=True)
class Reward(Toy):
    """Hebb's rule times a reward. ``graded``: it says by how much the action was wrong."""

    learner = RewardLearner
    graded: bool = False

    def teacher(self, y: Tensor) -> Teacher:
        if self.graded:
            return lambda action: -(action - y).abs().double()
        return lambda action: (action == y).double()


class HebbLearner(ToyLearner):
    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
        assert isinstance(self.rule, Hebb) and isinstance(x, Tensor) and isinstance(y, Tensor)
        passes = self.passes(x)
        for each in passes:
            each.add(-each.h / len(x))
        passes[0].add(self.rule.leak * F.one_hot(y, passes[0].h.shape[1]).double() / len(x))
        return Outcome(passes[-1].h.mean(), passes[-1].h)


@dataclass(frozen=True, kw_only=True)
class Hebb(Toy):
    """Learns without a teacher; ``leak``: how much the label has a say all the same."""

    learner = HebbLearner
    leak: float = 0.0


class RelaxingLearner(ToyLearner):
    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
        assert isinstance(x, Tensor) and isinstance(y, Tensor)
        start = [each.a for each in self.passes(x)]
        target = F.one_hot(y, start[-1].shape[1]).double()
        free, nudged = self._relax(x, start, None), self._relax(x, start, target)
        rates = [(x, x), *self._rates(free, nudged), (free[-1], nudged[-1])]
        for block, below, above in zip(self.blocks, rates[:-1], rates[1:], strict=True):
            weight = block.layer.get_parameter("weight")
            weight.grad = (above[0].t() @ below[0] - above[1].t() @ below[1]) / len(x)
        return Outcome(F.cross_entropy(start[-1], y), start[-1])

    def _rates(self, *states: list[Tensor]) -> list[tuple[Tensor, ...]]:
        with torch.no_grad():
            pairs = zip(*states, strict=True)
            return [tuple(b.activate(s) for s in two) for b, two in zip(self.blocks[:-1], pairs, strict=False)]

    def _relax(self, x: Tensor, start: list[Tensor], target: Tensor | None) -> list[Tensor]:
        s = [each.clone() for each in start]
        for _ in range(8):
            s = [each.detach().requires_grad_() for each in s]
            below, energy = x, torch.zeros((), dtype=x.dtype)
            for block, state in zip(self.blocks, s, strict=True):
                above = state if block is self.blocks[-1] else block.activate(state)
                energy = energy + 0.5 * state.square().sum() - (above * block.drive(below)).sum()
                below = above
            moves = [-g for g in torch.autograd.grad(energy, s)]
            if target is not None:
                moves[-1] = moves[-1] + self.wire("nudge", target, "teacher", self.blocks[-1].name) - s[-1]
            s = [each.detach() + 0.3 * move for each, move in zip(s, moves, strict=True)]
        return s


@dataclass(frozen=True, kw_only=True)
class Relaxing(Toy):
    """Equilibrium propagation of a Hopfield energy: cells use their own derivative in their own dynamics."""

    learner = RelaxingLearner


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 4))


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1, groups=2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, 4),
    )


SHAPES = {mlp: (10,), cnn: (2, 4, 4)}


def examples(*shape: int, n: int = 8, classes: int = 4) -> Batch:
    draw = torch.Generator().manual_seed(1)
    return Batch(torch.randn(n, *shape, generator=draw), torch.randint(classes, (n,), generator=draw), classes)


def subject(rule: str | Rule, model: nn.Module | None = None, example: Tensor | None = None) -> LearnerSubject:
    """The rule, bound to a multilayer perceptron unless told otherwise."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = mlp() if model is None else model
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-4)
        example = torch.randn(8, 10) if example is None else example
        return LearnerSubject(plausible.bind(model, rule, F.cross_entropy, example=example, optimizer=optimizer))


class Unwired(LearnerSubject):
    """The same learner, if it were foreign code."""

    wired = False


def unwired(rule: str | Rule) -> Unwired:
    return Unwired(subject(rule).copy().learner)
