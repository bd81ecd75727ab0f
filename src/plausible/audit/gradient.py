"""Whether differentiating somebody's model gives its gradient: a layer may have a backward pass of its own."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLOSE = 0.05
"""Relative difference to a difference quotient.

It is 1e-6 in float64; in float32, where steps must be large, a gradient that has almost vanished may be turned down.
Another backward pass differs by far more.
"""


def differentiable(model: nn.Module, x: Tensor, y: Tensor) -> bool:
    """Whether the derivatives of the cross-entropy of ``model(x)`` (N, classes), along each weight's own gradient, are
    those that small steps in this direction show. They are not where a backward pass uses feedback weights, or a spike
    has a surrogate derivative. The model's weights are afterwards what they were."""
    weights = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    try:
        gradients = torch.autograd.grad(F.cross_entropy(model(x), y), weights, allow_unused=True)
        return all(_holds(model, x, y, w, g) for w, g in zip(weights, gradients, strict=True) if g is not None)
    except Exception:  # somebody else's backward pass may want what only their own step gives it
        return False


def _holds(model: nn.Module, x: Tensor, y: Tensor, weight: Tensor, gradient: Tensor) -> bool:
    size = float(gradient.norm())
    if not size:
        return True
    step = torch.finfo(weight.dtype).eps ** (1 / 3) * float(weight.detach().norm())
    kept, losses = weight.detach().clone(), []
    with torch.no_grad():
        for sign in (1, -1):
            weight.copy_(kept + sign * step / size * gradient)
            losses.append(float(F.cross_entropy(model(x), y).double()))
        weight.copy_(kept)
    return abs((losses[0] - losses[1]) / (2 * step) - size) < CLOSE * size
