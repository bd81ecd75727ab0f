"""Sign symmetry with fixed random magnitude: B = M ∘ sign(W), M ≥ 0 fixed."""

import copy
from math import sqrt

import numpy as np
import pytest
import torch
from literal import Literal, assert_convnet_updates, assert_updates, batch, convnet, images, mlp, transported, weights
from torch import nn
from torch.nn import functional as F

import plausible
from plausible.core import Learner
from plausible.functional.alignment import angle


def magnitudes(learner: Learner) -> dict[str, np.ndarray]:
    return {k.split(".")[1]: v.numpy() for k, v in learner.state_dict().items() if k.endswith(".M")}


def test_mlp_is_the_papers_equation_and_follows_the_current_signs():
    model, (x, y) = mlp(), batch()
    learner = plausible.bind(model, "frsf", F.cross_entropy)
    M = magnitudes(learner)
    for _ in range(2):
        B = [M[k] * np.sign(w) for k, w in zip("024", weights(model)[0], strict=True)]
        expected = Literal(model, transported(B)).updates(x, y)
        learner.zero_grad()
        learner.learn(x, y)
        assert_updates(model, expected)
        with torch.no_grad():
            model[2].weight.neg_()
            model[4].weight[0].neg_()
    for key, before in M.items():
        assert np.array_equal(before, magnitudes(learner)[key])


def test_convolutional_net_is_the_papers_equation():
    model, (x, y) = convnet(), images()
    before = copy.deepcopy(model)
    learner = plausible.bind(model, "frsf", F.cross_entropy)
    learner.learn(x, y)
    M = magnitudes(learner)
    B = [M[str(k)] * np.sign(before[k].weight.detach().numpy()) for k in (0, 2, 5)]
    assert_convnet_updates(model, before, B, x, y)


def test_distribution_of_the_magnitudes():
    """|N(0, s)| for convolutions, U(0, s) for linear layers."""
    model = nn.Sequential(nn.Conv2d(32, 64, 3), nn.Flatten(), nn.Linear(256, 128))
    M = magnitudes(plausible.bind(model, "frsf", F.cross_entropy))
    z = M["0"] / sqrt(2 / (9 * 64))
    n = z.size
    assert z.min() >= 0 and abs(z.mean() - sqrt(2 / np.pi)) < 5 * 0.603 / sqrt(n)
    assert abs((z**2).mean() - 1) < 5 * sqrt(2 / n)
    z = M["2"] * sqrt(256)
    n = z.size
    assert z.min() >= 0 and z.max() <= 1 and abs(z.mean() - 0.5) < 5 * sqrt(1 / 12 / n)
    assert abs((z < 0.25).mean() - 0.25) < 5 * 0.44 / sqrt(n)


@pytest.mark.parametrize("rule", ["frsf", "brsf"])
@pytest.mark.parametrize(
    ("layer", "fill", "degrees"),
    [
        (lambda: nn.Conv2d(170, 170, 3), nn.init.normal_, 50.5),
        (lambda: nn.Linear(500, 500), nn.init.normal_, 46.3),
        (lambda: nn.Linear(500, 500), lambda w: nn.init.uniform_(w, -1, 1), 41.4),
    ],
    ids=["normal W, normal M", "normal W, uniform M", "uniform W, uniform M"],
)
def test_angle_at_the_start(rule: str, layer, fill, degrees: float):
    """cos = E|w| E|m| / √(E w² E m²): 2/π, √(3/(2π)) and 3/4."""
    torch.manual_seed(0)
    model = nn.Sequential(layer())
    weight = fill(model[0].weight.data)
    learner = plausible.bind(model, rule, F.mse_loss)
    (site,) = learner.sites()
    B = site.feedback(learner.weight(site).detach())
    assert abs(float(angle(weight, B)) - degrees) < 5 * 57.3 / sqrt(weight.numel()) + 0.05
