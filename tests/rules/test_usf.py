"""Uniform sign symmetry: B = s·sign(W), now."""

import copy
from math import sqrt

import numpy as np
import pytest
import torch
from literal import Literal, assert_convnet_updates, assert_updates, batch, convnet, images, mlp, transported, weights
from torch import nn
from torch.nn import functional as F

import plausible
from plausible.core import registry
from plausible.functional.alignment import angle


def signs(W: list[np.ndarray], scales: list[float]) -> list[np.ndarray]:
    return [s * np.sign(w) for w, s in zip(W, scales, strict=True)]


@pytest.mark.parametrize("per_layer", [True, False])
def test_mlp_is_the_papers_equation(per_layer: bool):
    """Xiao's s = 1/√fan_in, or none; and the field ``scale`` on top."""
    model, (x, y) = mlp((5, 7, 6, 4)), batch()
    scales = [2.0 / sqrt(n) if per_layer else 2.0 for n in (5, 7, 6)]
    expected = Literal(model, transported(signs(weights(model)[0], scales))).updates(x, y)
    plausible.bind(model, registry.make("usf", scale=2.0, per_layer=per_layer), F.cross_entropy).learn(x, y)
    assert_updates(model, expected)


def test_convolutional_net_is_the_papers_equation():
    """s = √(2/(k²·C_out)) for convolutions: k² = 4, C_out = 3."""
    model, (x, y) = convnet(), images()
    before = copy.deepcopy(model)
    plausible.bind(model, "usf", F.cross_entropy).learn(x, y)
    W = [before[k].weight.detach().numpy() for k in (0, 2, 5)]
    B = signs(W, [0.0, sqrt(2 / (4 * 3)), 1 / sqrt(27)])
    assert_convnet_updates(model, before, B, x, y)


def test_it_follows_the_current_signs():
    """Whatever happens to W between steps."""
    model, (x, y) = mlp(), batch()
    learner = plausible.bind(model, "usf", F.cross_entropy)
    learner.learn(x, y)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(torch.where(torch.rand_like(p) < 0.5, -1.0, 1.0))
    scales = [1 / sqrt(n) for n in (5, 7, 6)]
    expected = Literal(model, transported(signs(weights(model)[0], scales))).updates(x, y)
    learner.zero_grad()
    learner.learn(x, y)
    assert_updates(model, expected)


def test_a_zero_weight_feeds_back_the_sign_of_its_zero():
    """A zero-initialised layer still gets an error through: ±s, never 0."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[0.0, -0.0, 0.0, 1.0], [-0.0, -0.0, 0.0, -2.0]]))
    learner = plausible.bind(model, "usf", F.cross_entropy)
    learner.learn(torch.ones(1, 3, dtype=torch.float64), torch.tensor([0]))
    _, B = learner.feedback_weights()["1"]
    expected = 0.5 * torch.tensor([[1, -1, 1, 1], [-1, -1, 1, -1]], dtype=torch.float64)
    torch.testing.assert_close(B, expected, rtol=0, atol=0)
    assert model[0].weight.grad.abs().min() > 0


def test_nothing_is_stored():
    learner = plausible.bind(mlp(), "usf", F.cross_entropy)
    assert not [key for key in learner.state_dict() if key.startswith("feedback")]


@pytest.mark.parametrize(
    ("fill", "degrees"),
    [(nn.init.normal_, 37.1), (lambda w: nn.init.uniform_(w, -1, 1), 30.0)],
    ids=["normal", "uniform"],
)
@pytest.mark.parametrize("layer", [lambda: nn.Linear(500, 500), lambda: nn.Conv2d(170, 170, 3)], ids=["linear", "conv"])
def test_angle_at_the_start(layer, fill, degrees: float):
    """cos = E|w| / √E w²: √(2/π) for Gaussian W, √3/2 for uniform W."""
    torch.manual_seed(0)
    model = nn.Sequential(layer())
    weight = fill(model[0].weight.data)
    learner = plausible.bind(model, "usf", F.mse_loss)
    (site,) = learner.sites()
    B = site.feedback(learner.weight(site).detach())
    assert abs(float(angle(weight, B)) - degrees) < 5 * 57.3 / sqrt(weight.numel()) + 0.05
