"""Kolen-Pollack: both weights learn by the same product and the same decay (Akrout et al. 2019, eqs. 16-17).

That the difference shrinks by exactly (1 − λ) a step is tested in core/test_steps.py.
"""

import copy

import numpy as np
import torch
from literal import Literal, assert_convnet_updates, batch, convnet, images, linears, mlp, transported
from torch import nn
from torch.nn import functional as F

import plausible
from plausible.core import Learner
from plausible.functional.alignment import angle


def feedback(learner: Learner) -> list[np.ndarray]:
    return [v.numpy().copy() for k, v in learner.state_dict().items() if k.endswith(".B")]


def test_mlp_is_the_papers_equations():
    """ΔW = −η δ hᵀ − λ W and ΔB = −η h δᵀ − λ B, step after step, with the B of each step carrying δ."""
    eta, lam = 0.2, 0.01
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), eta, weight_decay=lam / eta)
    learner = plausible.bind(model, "kolen-pollack", F.cross_entropy, optimizer=optimizer)
    B = feedback(learner)
    literal = Literal(model, transported(B))
    for step in range(5):
        x, y = batch(seed=step)
        for k, (dW, db) in enumerate(literal.updates(x, y)):
            literal.W[k] += -eta * dW - lam * literal.W[k]
            literal.b[k] += -eta * db - lam * literal.b[k]
            B[k] += -eta * dW - lam * B[k]  # in the shape of W: the paper's (h δᵀ) is transposed
        optimizer.zero_grad()
        learner.learn(x, y)
        optimizer.step()
        for k, (layer, found) in enumerate(zip(linears(model), feedback(learner), strict=True)):
            np.testing.assert_allclose(layer.weight.detach().numpy(), literal.W[k], rtol=1e-10, atol=1e-13)
            np.testing.assert_allclose(layer.bias.detach().numpy(), literal.b[k], rtol=1e-10, atol=1e-13)
            np.testing.assert_allclose(found, B[k], rtol=1e-10, atol=1e-13)


def test_convolutional_net():
    model, (x, y) = convnet(), images()
    before = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    learner = plausible.bind(model, "kolen-pollack", F.cross_entropy, optimizer=optimizer)
    B = feedback(learner)
    learner.learn(x, y)
    assert_convnet_updates(model, before, B, x, y)


def test_feedback_becomes_the_forward_weight():
    """(1 − .02)^200 = .018 of the first difference is left."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(16, 3))
    optimizer = torch.optim.AdamW(model.double().parameters(), lr=0.01, weight_decay=2.0)
    learner = plausible.bind(model, "kolen-pollack", F.cross_entropy, optimizer=optimizer)
    x, y = torch.randn(16, 1, 6, 6, dtype=torch.float64), torch.arange(16) % 3
    angles = []
    for _ in range(200):
        optimizer.zero_grad()
        learner.learn(x, y)
        optimizer.step()
        angles.append({name: float(angle(W, B)) for name, (W, B) in learner.feedback_weights().items()})
    assert angles[0].keys() == {"2", "4"}
    assert all(a > 70 for a in angles[0].values()) and all(a < 10 for a in angles[-1].values())
