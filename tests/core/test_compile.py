"""A bound model compiles whole, a learner in time compiles its steps, and both learn the same."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torch.nn import functional as F

import plausible
from plausible.core import registry
from plausible.core.families.broadcast import BroadcastRule
from plausible.core.families.online import OnlineRule
from plausible.core.families.transport import TransportRule
from plausible.models import build

FORWARD = [
    name
    for name in registry.names()
    if isinstance(registry.make(name), TransportRule | BroadcastRule) or name == "backprop"
]
IN_TIME = [name for name in registry.names() if isinstance(registry.make(name), OnlineRule)]


@pytest.mark.parametrize("rule", FORWARD)
def test_a_bound_model_compiles_without_a_graph_break_and_not_in_each_step(rule: str):
    """Three steps: what is drawn anew in each must not be compiled anew, and untaught weights must not decay."""
    torch.manual_seed(0)
    made = registry.make(rule)
    plain = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5)).double()
    x, y = torch.randn(4, 2, 4, 4, dtype=torch.float64), torch.arange(4)
    found = []
    for compiled in (False, True):
        model = copy.deepcopy(plain)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
        learner = plausible.bind(model, made, F.cross_entropy, example=x, optimizer=optimizer)
        if compiled:
            torch.compiler.reset()
            counters.clear()
            learner.compile(backend="aot_eager", fullgraph=True)
        for _ in range(3):
            optimizer.zero_grad()
            learner.learn(x, made.teacher(y))
            optimizer.step()
        found.append(dict(learner.named_parameters()))
    assert counters["stats"]["unique_graphs"] <= 2  # in the first pass sites note that they are reached
    for name, eager in found[0].items():
        torch.testing.assert_close(found[1][name], eager, rtol=1e-12, atol=1e-15, msg=name)


@pytest.mark.parametrize("rule", IN_TIME)
def test_compiled_steps_learn_and_evaluate_as_eager_ones(rule: str):
    torch.compiler.reset()
    counters.clear()
    x = torch.randn(5, 1, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.arange(5) % 4
    found = []
    for compiled in (False, True):
        torch.manual_seed(0)
        made = registry.make(rule)
        model = build(made.model or "mlp", shape=(1, 4, 3), classes=4, width=6).double()
        learner = plausible.bind(model, made, F.cross_entropy)
        if compiled:
            learner.compile(backend="aot_eager")
        for _ in range(3):
            learner.learn(x, made.teacher(y))
        with torch.no_grad():
            found.append([learner(x), *(p.grad for p in model.parameters() if p.grad is not None)])
    assert counters["stats"]["unique_graphs"] > 1, "nothing was compiled"
    for eager, traced in zip(*found, strict=True):
        torch.testing.assert_close(traced, eager, rtol=1e-12, atol=1e-15)


def test_a_compiled_learner_is_copied_and_pickled_without_what_was_compiled():
    model = build("lif-mlp", shape=(1, 6), classes=4, width=6, shown=0.1)
    learner = plausible.bind(model, "nef-dfa", F.cross_entropy)
    learner.compile(backend="aot_eager")
    x, y = torch.ones(2, 1, 6), torch.arange(2)
    copied, unpickled = copy.deepcopy(learner), pickle.loads(pickle.dumps(learner))
    for each in (copied, unpickled):
        each.learn(x, y)
        assert all(p.grad is not None for p in each.model.parameters())
