"""Tells by its answers whether a module, or a whole model, is a straight line."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from plausible.audit.criterion import Batch
from plausible.audit.subject import Subject
from plausible.core.attach import device_of
from plausible.functional.random import random_state, replayed

# Far above what rounding does in float32, far below what any nonlinearity does to the inputs tried here.
_CLOSE = {"rtol": 1e-4, "atol": 1e-6, "equal_nan": True}


def bends(module: nn.Module, example: Tensor) -> bool:
    """Whether ``module`` works on each number of an input like ``example`` by itself, and not by a straight line."""
    generator = torch.Generator().manual_seed(0)

    def noise() -> Tensor:
        return torch.randn(example.shape, generator=generator, dtype=torch.float64).to(example)

    def answer(x: Tensor) -> Tensor:
        # Neither its state nor random numbers are to tell one call from another, and it may work in place.
        with replayed(example.device, random_state(example.device)), torch.no_grad():
            return deepcopy(module)(x.clone())

    a, b = example + noise(), (3 + example.abs().amax()) * noise()
    left, right = answer(a), answer(b)
    mine = noise() > 0
    if left.shape != a.shape or not left.is_floating_point():
        return False
    alone = torch.allclose(answer(torch.where(mine, a, b)), torch.where(mine, left, right), **_CLOSE)
    return alone and not torch.allclose(answer((a + b) / 2), (left + right) / 2, **_CLOSE)


def affine(subject: Subject, batch: Batch) -> bool:
    """Whether the model, in evaluation mode, answers to the mean of two inputs with the mean of its answers."""
    model = subject.copy().model.eval()
    if not batch.x.is_floating_point():
        return False
    x = batch.x.to(subject.dtype)
    with replayed(device_of(model), random_state(device_of(model))), torch.no_grad():
        other = torch.randn_like(x)
        try:
            return torch.allclose(model((x + other) / 2), (model(x) + model(other)) / 2, **_CLOSE)
        except Exception:  # somebody else's model may not run without its learner
            return False
