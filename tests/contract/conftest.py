"""Every registered rule on two small nets; no rule is named anywhere here."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.core import Learner, Rule, registry

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


SHAPES: dict[Callable[[], nn.Module], tuple[int, ...]] = {mlp: (6,), cnn: (2, 6, 6)}


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

    def batch(self, seed: int = 0, n: int = 6) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(seed)
        x = torch.randn((n, *SHAPES[self.net]), generator=draw, dtype=torch.float64)
        return x, torch.randint(CLASSES, (n,), generator=draw)

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


@pytest.fixture(params=registry.names())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=SHAPES, ids=lambda net: net.__name__)
def case(request: pytest.FixtureRequest, name: str) -> Case:
    return Case(name, request.param)


@pytest.fixture
def small(name: str) -> Case:
    """For what does not depend on the net."""
    return Case(name, mlp)
