"""Frozen hidden layers: the output layer alone learns, by its exact gradient."""

import copy

import torch
from literal import Literal, batch, linears, mlp
from torch import nn
from torch.nn import functional as F

import plausible


def test_the_output_layer_alone_learns_by_e_h():
    """ΔW_L = −η e hᵀ; everything else keeps grad = None, so that not even Adam's momentum moves it."""
    model, (x, y) = mlp(), batch()
    dW, db = Literal(model, lambda W, a, h, e: [h[1], h[2]]).updates(x, y)[-1]
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    learner = plausible.bind(model, "frozen", F.cross_entropy, optimizer=optimizer)
    learner.learn(x, y)
    *hidden, output = linears(model)
    assert all(layer.weight.grad is None and layer.bias.grad is None for layer in hidden)
    torch.testing.assert_close(output.weight.grad, torch.from_numpy(dW), rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(output.bias.grad, torch.from_numpy(db), rtol=1e-10, atol=1e-14)
    optimizer.step()
    moved = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
    assert moved == ["4.weight", "4.bias"]
    assert learner.report()["covered"] == ["4"]


def test_batch_statistics_are_collected_and_their_weights_do_not_learn():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4)).double()
    x, y = batch()
    plausible.bind(model, "frozen", F.cross_entropy).learn(x, y)
    a = x @ model[0].weight.detach().t() + model[0].bias.detach()
    torch.testing.assert_close(model[1].running_mean, 0.1 * a.mean(0))
    assert model[1].weight.grad is None and model[1].bias.grad is None
