"""Sham feedback equals back-propagation: the control for all the plumbing."""

import copy

import pytest
import torch
import torchvision
from literal import batch, convnet, images, mlp
from torch import Tensor, nn
from torch.nn import functional as F

import plausible


def assert_equals_backprop(model: nn.Module, x: Tensor, y: Tensor) -> None:
    plain = copy.deepcopy(model)
    learner = plausible.bind(model, "sham", F.cross_entropy)
    for step in range(2):  # the second time with what the first left in buffers and gradients
        torch.manual_seed(step)
        learner.learn(x, y)
        torch.manual_seed(step)
        F.cross_entropy(plain(x), y).backward()
    for (name, p), q in zip(plain.named_parameters(), model.parameters(), strict=True):
        assert p.grad is not None and q.grad is not None
        floor = 1e-12 * float(p.grad.norm())  # a bias before normalisation has a gradient of nothing but rounding
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-9, atol=max(floor, 1e-13), msg=name)
    for key, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])


@pytest.mark.parametrize(("model", "data"), [(mlp, batch), (convnet, images)])
def test_small_nets(model, data):
    assert_equals_backprop(model(), *data())


def test_resnet18_with_batch_normalisation_branches_and_inplace_relu():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=4).double()
    assert_equals_backprop(model, torch.randn(2, 3, 32, 32, dtype=torch.float64), torch.tensor([1, 3]))


def test_dropout_groups_and_shared_layers():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter = nn.Conv2d(2, 4, 3, padding="same", padding_mode="circular")
            self.shared = nn.Conv2d(4, 4, 3, padding=1, groups=2)
            self.a, self.b, self.out = nn.Linear(64, 6), nn.Linear(6, 6), nn.Linear(6, 4)
            self.c = nn.Linear(6, 6)
            self.c.weight = self.b.weight

        def forward(self, x: Tensor) -> Tensor:
            h = F.gelu(self.enter(x))
            h = h + F.gelu(self.shared(h))
            h = F.dropout(F.gelu(self.shared(h)), 0.3)
            h = torch.sigmoid(self.a(h.flatten(1)))
            return self.out(self.c(torch.sigmoid(self.b(h))))

    torch.manual_seed(0)
    assert_equals_backprop(Net().double(), torch.randn(3, 2, 4, 4, dtype=torch.float64), torch.tensor([0, 1, 2]))
