"""Weight mirror: feedback weights learn from each layer's response to noise (Akrout et al. 2019)."""

import copy

import numpy as np
import pytest
import torch
from literal import assert_convnet_updates, convnet, images, mlp
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.core import Learner, registry
from plausible.functional.alignment import angle, cosine
from plausible.functional.random import generator
from plausible.rules.feedback.weight_mirror import correlate


def bound(model: nn.Module, **options: object) -> tuple[Learner, torch.optim.Optimizer]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    rule = registry.make("weight-mirror", **options)
    return plausible.bind(model, rule, F.cross_entropy, optimizer=optimizer), optimizer


def angles(learner: Learner) -> list[float]:
    found = []
    for site in learner.sites():
        W = learner.weight(site).detach()
        found.append(float(angle(W, site.feedback(W))))
    return found


# --- the product -----------------------------------------------------------------------------------------------------


def test_correlate_is_the_mean_outer_product():
    torch.manual_seed(0)
    x, y = torch.randn(5, 2, 3, dtype=torch.float64), torch.randn(5, 2, 4, dtype=torch.float64)
    expected = np.zeros((2, 4, 3))
    for n, g in np.ndindex(5, 2):
        expected[g] += np.outer(y[n, g].numpy(), x[n, g].numpy()) / 5
    np.testing.assert_allclose(correlate(x, y).numpy(), expected, rtol=1e-12, atol=1e-15)


def sigmoid_mirror(W: Tensor, mean: float) -> float:
    """cos(Σ ΔB, W) after 400 batches of 128, noise .1, y = σ(W x)."""
    draw = torch.Generator().manual_seed(1)
    change = torch.zeros_like(W)
    for _ in range(400):
        x = 0.1 * torch.randn(128, W.shape[1], generator=draw, dtype=torch.float64) + mean
        y = torch.sigmoid(x @ W.t())
        change += correlate(x[:, None], y[:, None])[0]
    return float(cosine(change, W))


def test_a_sigmoid_layer_is_mirrored_by_zero_mean_noise_alone():
    """E[x yᵀ] = σ²·W/4 + mean(x)·½: the sigmoid's ½ makes a small mean outweigh the weights.

    W has the size of Akrout's initialisation, N(0, 1/(n_in + n_out)), and leans to the negative by a third of
    its spread, so that the offset, which is the same for every synapse, lies at cos = −.3 to it.
    """
    torch.manual_seed(0)
    W = (torch.randn(20, 20, dtype=torch.float64) - 0.33) / 40**0.5
    assert sigmoid_mirror(W, mean=0.0) > 0.85
    assert sigmoid_mirror(W, mean=0.02) < 0


# --- the rule --------------------------------------------------------------------------------------------------------


def test_a_mirror_step_is_the_equation():
    """ΔB along Σ x yᵀ of noise x, in steps of a fixed part of ‖B‖; ‖B‖ restored. In loops, from the same noise."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4)).double()
    start = bound(copy.deepcopy(model), warmup=0)[0].state_dict()["feedback.0.B"].numpy()
    learner, _ = bound(model, warmup=3, mirror_batch=8, mirror_rate=0.2, noise=0.5)
    W, b = (p.detach().numpy() for p in model[0].parameters())
    draw = generator(0, "0", "warmup")
    B, norm = start.copy(), np.linalg.norm(start)
    for _ in range(3):
        change = np.zeros_like(B)
        for x in 0.5 * torch.randn(8, 1, 3, generator=draw).double().numpy()[:, 0]:
            change += np.outer(W @ x + b, x)
        B = B + 0.2 * norm * change / np.linalg.norm(change)
        B *= norm / np.linalg.norm(B)
    np.testing.assert_allclose(learner.state_dict()["feedback.0.B"].numpy(), B, rtol=1e-6)


LAYERS = {
    "linear": lambda: nn.Linear(40, 30),
    "conv": lambda: nn.Conv2d(6, 8, 3, padding=1),
    "grouped dilated conv": lambda: nn.Conv2d(8, 12, 3, stride=2, dilation=2, groups=4),
    "depthwise conv": lambda: nn.Conv1d(8, 8, 5, groups=8, bias=False),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_feedback_faces_the_forward_weight(layer, dtype: torch.dtype):
    torch.manual_seed(0)
    model = nn.Sequential(layer()).to(dtype)
    before, _ = bound(copy.deepcopy(model), warmup=0)
    learner, _ = bound(model)
    assert angles(before)[0] > 70
    assert angles(learner)[0] < 35


def test_it_follows_weights_that_change():
    """The mirror phases after each step turn B to a W that has been replaced."""
    model = mlp((5, 7, 6, 4))
    learner, optimizer = bound(model)
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(torch.randn_like(layer.weight))
    assert max(angles(learner)) > 60
    for _ in range(100):
        optimizer.step()
    assert max(angles(learner)) < 35


def test_the_norm_control_acts():
    """‖B‖ keeps the norm it was drawn with; the same steps without control would double it."""
    model = nn.Sequential(nn.Linear(10, 8)).double()
    start = bound(copy.deepcopy(model), warmup=0)[0].state_dict()["feedback.0.B"]
    learner, optimizer = bound(model, warmup=20)
    for _ in range(20):
        optimizer.step()
    B = learner.state_dict()["feedback.0.B"]
    torch.testing.assert_close(B.norm(), start.norm(), rtol=1e-6, atol=0)
    direction = model[0].weight.detach() / model[0].weight.detach().norm()
    assert (start + 40 * 0.05 * start.norm() * direction).norm() > 2 * start.norm()


def test_a_phase_is_counted_in_steps():
    """Every third step, and then two mirror steps: each turns B by a little."""
    model, (x, y) = mlp(), (torch.ones(2, 5, dtype=torch.float64), torch.tensor([0, 1]))
    learner, optimizer = bound(model, mirror_every=3, mirror_steps=2, warmup=0)
    for step in range(1, 8):
        before = learner.state_dict()["feedback.2.B"].clone()
        optimizer.zero_grad()
        learner.learn(x, y)
        optimizer.step()
        turned = not torch.equal(before, learner.state_dict()["feedback.2.B"])
        assert turned == (step % 3 == 0), step


def test_learning_uses_the_mirrored_feedback():
    model, (x, y) = convnet(), images()
    before = copy.deepcopy(model)
    learner, _ = bound(model)
    B = [learner.state_dict()[f"feedback.{k}.B"].numpy().copy() for k in (0, 2, 5)]
    learner.learn(x, y)
    assert_convnet_updates(model, before, B, x, y)
