"""Fixed feedback with the signs the weights had at the start."""

import copy
from math import sqrt

import numpy as np
import torch
from literal import Literal, assert_convnet_updates, assert_updates, batch, convnet, images, mlp, transported, weights
from torch.nn import functional as F

import plausible


def test_mlp_keeps_the_signs_of_initialisation():
    """B = sign(W at bind)/√fan_in, also after every weight has changed its sign."""
    model, (x, y) = mlp(), batch()
    B = [np.sign(w) / sqrt(w.shape[1]) for w in weights(model)[0]]
    learner = plausible.bind(model, "signed-init", F.cross_entropy)
    for _ in range(2):
        expected = Literal(model, transported(B)).updates(x, y)
        learner.zero_grad()
        learner.learn(x, y)
        assert_updates(model, expected)
        with torch.no_grad():
            for p in model.parameters():
                p.neg_()


def test_convolutional_net():
    """s = √(2/(k²·C_out)) for the convolution."""
    model, (x, y) = convnet(), images()
    before = copy.deepcopy(model)
    plausible.bind(model, "signed-init", F.cross_entropy).learn(x, y)
    W = [before[k].weight.detach().numpy() for k in (0, 2, 5)]
    B = [s * np.sign(w) for s, w in zip((0.0, sqrt(2 / 12), 1 / sqrt(27)), W, strict=True)]
    assert_convnet_updates(model, before, B, x, y)
