"""Back-propagation is Rumelhart, Hinton & Williams' chain rule, and leaves the model as it is."""

import copy

import torch
from literal import Literal, assert_convnet_updates, assert_updates, batch, convnet, images, mlp, transported, weights
from torch import nn
from torch.nn import functional as F

import plausible


def test_mlp_is_the_papers_equations():
    model, (x, y) = mlp(), batch()
    expected = Literal(model, transported(weights(model)[0])).updates(x, y)
    plausible.bind(model, "backprop", F.cross_entropy).learn(x, y)
    assert_updates(model, expected)


def test_convolutional_net_is_the_papers_equations():
    model, (x, y) = convnet(), images()
    before = copy.deepcopy(model)
    plausible.bind(model, "backprop", F.cross_entropy).learn(x, y)
    B = [before[k].weight.detach().numpy() for k in (0, 2, 5)]
    assert_convnet_updates(model, before, B, x, y)


def test_any_layer_will_do_and_the_report_says_so():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.PReLU(), nn.ConvTranspose1d(2, 1, 3), nn.Flatten(), nn.Linear(6, 3))
    types = [type(m) for m in model]
    learner = plausible.bind(model, "backprop", F.cross_entropy)
    learner.learn(torch.randn(2, 1, 6), torch.tensor([0, 2]))
    assert [type(m) for m in model] == types
    assert learner.report()["covered"] == [] and learner.report()["backprop"] == ["0", "1", "2", "4"]
    assert all(p.grad is not None for p in model.parameters())
