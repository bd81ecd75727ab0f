"""A bound model compiles whole, and learns the same."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import plausible


@pytest.mark.parametrize("rule", ["fa", "usf", "dfa"])
def test_a_bound_model_compiles_without_a_graph_break(rule: str):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5)).double()
    x, y = torch.randn(4, 2, 4, 4, dtype=torch.float64), torch.arange(4)
    grads = []
    for compiled in (False, True):
        model = copy.deepcopy(plain)
        learner = plausible.bind(model, rule, F.cross_entropy, example=x)
        if compiled:
            model.compile(backend="aot_eager", fullgraph=True)
        learner.learn(x, y)
        grads.append([p.grad for p in model.parameters()])
    for eager, traced in zip(*grads, strict=True):
        torch.testing.assert_close(traced, eager, rtol=1e-12, atol=1e-15)
