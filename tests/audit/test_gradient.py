"""Whether autograd's answer is the gradient is found out by small steps."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from plausible.audit.gradient import differentiable


class Feedback(torch.autograd.Function):
    """A linear layer that sends its error back through another matrix."""

    @staticmethod
    def forward(ctx, x, weight, feedback):
        ctx.save_for_backward(x, feedback)
        return x @ weight.T

    @staticmethod
    def backward(ctx, grad):
        x, feedback = ctx.saved_tensors
        return grad @ feedback, grad.T @ x, None


class Aligned(nn.Linear):
    def __init__(self, leak):
        super().__init__(8, 4)
        self.register_buffer("feedback", self.weight.detach() + leak * torch.randn(4, 8))

    def forward(self, x):
        return Feedback.apply(x, self.weight, self.feedback)


class Spike(nn.Module):
    def forward(self, x):
        surrogate = torch.sigmoid(x)
        return surrogate + ((x > 0).to(x) - surrogate).detach()


def net(last, act=nn.ReLU):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), act(), last())


@pytest.mark.parametrize(
    ("make", "true"),
    [
        (lambda: net(lambda: nn.Linear(8, 4)), True),
        (lambda: net(lambda: nn.Linear(8, 4), nn.Tanh), True),
        (lambda: net(lambda: Aligned(0.0)), True),
        (lambda: net(lambda: Aligned(0.3)), False),
        (lambda: net(lambda: nn.Linear(8, 4), Spike), False),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_another_backward_pass_is_told_from_the_gradient(make, true, dtype):
    model = make().to(dtype)
    before = [p.clone() for p in model.parameters()]
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(16, 6, generator=draw, dtype=torch.float64).to(dtype), torch.arange(16) % 4
    assert differentiable(model, x, y) is true
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())


def test_a_model_that_fails_alone_has_no_gradient_to_compare_with():
    class Lost(nn.Linear):
        def forward(self, x):
            raise AttributeError("what the step gives")

    assert not differentiable(Lost(6, 4), torch.randn(3, 6), torch.arange(3))


def test_a_gradient_that_has_almost_vanished_is_still_one():
    model = net(lambda: nn.Linear(8, 4)).double()
    x = torch.randn(16, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.arange(16) % 4
    for _ in range(300):
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.5 * p.grad
    assert F.cross_entropy(model(x), y) < 0.3
    assert differentiable(model, x, y)
