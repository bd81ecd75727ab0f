"""Fixed-prediction predictive coding is back-propagation once it has settled (Rosenbaum 2022)."""

import copy

import pytest
import torch
from literal import batch, linears, mlp
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.audit import Batch, LearnerSubject
from plausible.audit.criteria.weight_transport import weight_transport
from plausible.core import registry


def cnn() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 4)),
    ).double()


def examples(net) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(5, 1, 8, 8, generator=draw, dtype=torch.float64)
    return batch() if net is mlp else (x, torch.randint(4, (5,), generator=draw))


def grads(model: nn.Module) -> list[Tensor]:
    return [p.grad for p in model.parameters()]


def gap(a: list[Tensor], b: list[Tensor]) -> float:
    return max(float((u - v).abs().max()) for u, v in zip(a, b, strict=True))


@pytest.mark.parametrize("net", [mlp, cnn])
def test_one_step_for_each_layer_gives_the_gradient(net):
    model, (x, y) = net(), examples(net)
    twin = copy.deepcopy(model)
    plausible.bind(model, "fixed-prediction", F.cross_entropy).learn(x, y)
    F.cross_entropy(twin(x), y).backward()
    assert gap(grads(model), grads(twin)) < 1e-12 < max(float(g.abs().max()) for g in grads(twin))


def test_at_a_low_rate_it_settles_to_the_gradient():
    (x, y), off = batch(), []
    for steps in (10, 30, 400):
        model, twin = mlp(), mlp()
        plausible.bind(model, registry.make("fixed-prediction", steps=steps, rate=0.1), F.cross_entropy).learn(x, y)
        F.cross_entropy(twin(x), y).backward()
        off.append(gap(grads(model), grads(twin)))
    assert off[0] > 2 * off[1] > 1e-4 and off[2] < 1e-12


def test_the_error_descends_one_layer_a_step():
    x, y = batch()
    for steps, taught in ((1, [False, True, True]), (2, [True, True, True])):
        model = mlp()
        plausible.bind(model, registry.make("fixed-prediction", steps=steps), F.cross_entropy).learn(x, y)
        assert [bool(layer.weight.grad.any()) for layer in linears(model)] == taught


@pytest.mark.parametrize("net", [mlp, cnn])
def test_with_random_feedback_it_is_feedback_alignment(net):
    model, (x, y) = net(), examples(net)
    twin = copy.deepcopy(model)
    plausible.bind(model, registry.make("fixed-prediction", feedback="random", seed=3), F.cross_entropy).learn(x, y)
    plausible.bind(twin, registry.make("fa", seed=3), F.cross_entropy).learn(x, y)
    assert gap(grads(model), grads(twin)) < 1e-12


def test_dropout_is_dropped_once_as_in_back_propagation():
    x, y = batch()
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(nn.Sequential(nn.Linear(5, 30), nn.ReLU(), nn.Dropout(0.5), nn.Linear(30, 4)).double())
    torch.manual_seed(1)
    plausible.bind(models[0], "fixed-prediction", F.cross_entropy).learn(x, y)
    torch.manual_seed(1)
    F.cross_entropy(models[1](x), y).backward()
    assert gap(grads(models[0]), grads(models[1])) < 1e-12


def test_weights_are_transported_unless_feedback_is_random():
    for feedback, verdict in (("symmetric", "violated"), ("random", "solved")):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4))
        few = Batch(torch.randn(4, 20), torch.randint(4, (4,)), 4)
        rule = registry.make("fixed-prediction", feedback=feedback)
        finding = weight_transport(LearnerSubject(plausible.bind(model, rule, F.cross_entropy)), few)
        assert finding.verdict == verdict, finding.sentence
