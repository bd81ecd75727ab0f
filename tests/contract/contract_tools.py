"""What the contract suite looks at: every registered rule on the small nets that it can teach, none by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.core import Learner, Rule, registry
from plausible.core.errors import CoverageError
from plausible.core.rule import Teacher
from plausible.models import build

CLASSES = 4


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, CLASSES))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6, CLASSES),
    )


def rsnn() -> nn.Module:
    """Spiking and recurrent: the rows of an image come one after the other."""
    return build("rsnn", shape=(1, 4, 3), classes=CLASSES, width=6)


def lif() -> nn.Module:
    """Spiking from the sensors to the output; an image is a sequence of one entry."""
    return build("lif-mlp", shape=(1, 6), classes=CLASSES, width=6, depth=1, cells=4, shown=0.06, bias=True)


SHAPES: dict[Callable[[], nn.Module], tuple[int, ...]] = {mlp: (6,), cnn: (2, 6, 6), rsnn: (1, 4, 3), lif: (1, 6)}


@dataclass(frozen=True)
class Case:
    """One rule on one net. Everything is float64 and the same at each call."""

    name: str
    net: Callable[[], nn.Module]

    def rule(self, **options: object) -> Rule:
        return registry.make(self.name, **options)

    def model(self, seed: int = 0) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.net().double()

    def examples(self, seed: int = 0, n: int = 6) -> tuple[Tensor, Tensor]:
        """Inputs and labels."""
        draw = torch.Generator().manual_seed(seed)
        x = torch.randn((n, *SHAPES[self.net]), generator=draw, dtype=torch.float64)
        return x, torch.randint(CLASSES, (n,), generator=draw)

    def batch(self, seed: int = 0, n: int = 6) -> tuple[Tensor, Teacher]:
        """Inputs and what the rule is told of their labels."""
        x, y = self.examples(seed, n)
        return x, self.rule().teacher(y)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)

    def bind(
        self, model: nn.Module | None = None, optimizer: torch.optim.Optimizer | None = None, **options
    ) -> Learner:
        """Bound to a fresh model and optimiser, unless given."""
        model = self.model() if model is None else model
        optimizer = self.optimizer(model) if optimizer is None else optimizer
        example = self.batch()[0].to(next(model.parameters()))
        return plausible.bind(model, self.rule(**options), F.cross_entropy, example=example, optimizer=optimizer)


@cache
def teachable(name: str) -> tuple[Callable[[], nn.Module], ...]:
    """The nets that the rule can be bound to."""
    found = []
    for net in SHAPES:
        try:
            Case(name, net).bind()
        except CoverageError:
            continue
        found.append(net)
    return tuple(found)


def taught(model: nn.Module) -> dict[str, Tensor]:
    """The gradients there are, by name; copies."""
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def own_state(learner: Learner) -> dict[str, Tensor]:
    """What the learner keeps besides the model; copies."""
    state = {k: v for k, v in learner.state_dict().items() if isinstance(v, Tensor) and not k.startswith("model.")}
    return {k: v.clone() for k, v in state.items()}


def assert_same_clock(a: dict[str, Any], b: dict[str, Any]) -> None:
    """Of two state dicts, the entries that are no tensors: the clock, and the streams that go on. Takes them out."""
    one, two = a.pop("_extra_state"), b.pop("_extra_state")
    streams = [each.pop("state", []) for each in (one, two)]
    assert one == two
    assert_same(*({str(i): part for i, part in enumerate(parts)} for parts in streams))


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """The same entries, bit for bit."""
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key
