"""Feedback alignment: Lillicrap et al. (2016), with Xiao's scales."""

import copy
from math import sqrt

import numpy as np
import pytest
import torch
from literal import Literal, assert_convnet_updates, assert_updates, batch, convnet, images, mlp, transported
from torch import nn
from torch.nn import functional as F

import plausible
from plausible.core import Learner, registry
from plausible.functional.alignment import angle


def feedback(learner: Learner) -> dict[str, np.ndarray]:
    return {k.split(".")[1]: v.numpy() for k, v in learner.state_dict().items() if k.endswith(".B")}


def test_mlp_is_the_papers_equation():
    model, (x, y) = mlp(), batch()
    learner = plausible.bind(model, "fa", F.cross_entropy)
    B = feedback(learner)
    expected = Literal(model, transported([B["0"], B["2"], B["4"]])).updates(x, y)
    learner.learn(x, y)
    assert_updates(model, expected)


def test_convolutional_net_is_the_papers_equation():
    model, (x, y) = convnet(), images()
    before = copy.deepcopy(model)
    learner = plausible.bind(model, "fa", F.cross_entropy)
    learner.learn(x, y)
    B = feedback(learner)
    assert_convnet_updates(model, before, [B["0"], B["2"], B["5"]], x, y)


@pytest.mark.parametrize("per_layer", [True, False])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_distribution_of_the_feedback(per_layer: bool, scale: float):
    """U(−s, s) with s = 1/√fan_in for linear layers; N(0, s) with s = √(2/(k²·C_out)) for convolutions."""
    model = nn.Sequential(nn.Conv2d(32, 64, 3), nn.Conv2d(64, 64, 3, groups=4), nn.Flatten(), nn.Linear(256, 128))
    learner = plausible.bind(model, registry.make("fa", scale=scale, per_layer=per_layer), F.cross_entropy)
    B = feedback(learner)
    s_linear, s_conv, s_grouped = 1 / sqrt(256), sqrt(2 / (9 * 64)), sqrt(2 / (9 * 64 / 4))
    if not per_layer:
        s_linear = s_conv = s_grouped = 1.0
    for name, s in (("0", s_conv), ("1", s_grouped)):
        n = B[name].size
        z = B[name] / (scale * s)
        assert abs(z.mean()) < 5 / sqrt(n) and abs(z.std() - 1) < 5 / sqrt(2 * n)
        assert abs((np.abs(z) < 1).mean() - 0.6827) < 5 * 0.47 / sqrt(n), "Gaussian"
    z = B["3"] / (scale * s_linear)
    n = z.size
    assert np.abs(z).max() <= 1 and np.abs(z).max() > 0.999
    assert abs(z.mean()) < 5 / sqrt(3 * n) and abs((np.abs(z) < 0.5).mean() - 0.5) < 5 * 0.5 / sqrt(n), "uniform"


def test_angle_at_the_start_is_90_degrees_within_57_over_root_n():
    """The cosine of two independent random vectors has standard deviation 1/√n."""
    n = 20 * 25
    found = []
    for seed in range(300):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(25, 20))
        B = torch.from_numpy(feedback(plausible.bind(model, registry.make("fa", seed=seed), F.mse_loss))["0"])
        found.append(float(angle(model[0].weight.detach(), B)))
    spread = 57.3 / sqrt(n)
    assert abs(np.mean(found) - 90) < 5 * spread / sqrt(len(found))
    assert abs(np.std(found) / spread - 1) < 5 / sqrt(2 * len(found))
    assert max(abs(a - 90) for a in found) < 5 * spread


def test_layers_and_seeds_draw_their_own():
    model = nn.Sequential(nn.Linear(30, 30), nn.Linear(30, 30))
    a = feedback(plausible.bind(copy.deepcopy(model), "fa", F.mse_loss))
    b = feedback(plausible.bind(copy.deepcopy(model), registry.make("fa", seed=1), F.mse_loss))
    for first, second in ((a["0"], a["1"]), (a["0"], b["0"]), (a["1"], b["1"])):
        cos = (first * second).sum() / np.linalg.norm(first) / np.linalg.norm(second)
        assert abs(cos) < 5 / 30


def test_layers_that_share_a_weight_share_its_feedback():
    """One synapse, one feedback synapse: δ passes the same B wherever the weight stands."""
    model = mlp((5, 6, 6, 6))
    model[4].weight = model[2].weight
    learner = plausible.bind(model, "fa", F.mse_loss)
    assert list(feedback(learner)) == ["0", "2"]
    delta = torch.randn(3, 6, dtype=torch.float64)
    for layer in (model[2], model[4]):
        h = torch.zeros(3, 6, dtype=torch.float64, requires_grad=True)
        layer(h).backward(delta)
        np.testing.assert_allclose(h.grad.numpy(), delta.numpy() @ feedback(learner)["2"], rtol=1e-12)


def test_a_linear_net_aligns():
    """Lillicrap's linear example: 30-20-10, small initial weights, a random linear target; W comes to face B."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 20, bias=False), nn.Linear(20, 10, bias=False)).double()
    for layer in model:
        nn.init.uniform_(layer.weight, -0.01, 0.01)
    target = torch.empty(10, 30, dtype=torch.float64).uniform_(-1, 1)
    rule = registry.make("fa", per_layer=False, scale=0.5)
    learner = plausible.bind(model, rule, lambda o, t: 0.5 * (o - t).square().sum(1).mean())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    angles, errors = [], []
    for _ in range(400):
        x = torch.randn(20, 30, dtype=torch.float64)
        optimizer.zero_grad()
        errors.append(float(learner.learn(x, x @ target.t()).loss))
        optimizer.step()
        W, B = learner.feedback_weights()["1"]
        angles.append(float(angle(W, B)))
    assert abs(angles[0] - 90) < 5 * 57.3 / sqrt(200)
    assert angles[-1] < 60
    assert errors[-1] < 0.2 * errors[0]
