"""The angle between a learner's updates and the direction in which the loss falls."""

from copy import deepcopy
from math import acos, degrees
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plausible.audit.criterion import Batch
from plausible.audit.gradient import differentiable
from plausible.audit.subject import Specimen
from plausible.audit.timeline import owner
from plausible.core.attach import detach
from plausible.functional.alignment import angle

STEP = 0.1  # of the weight's norm: large enough that spikes appear and vanish
DIRECTIONS = 24
SCALES = torch.logspace(-1, 1.5, 16, dtype=torch.float64)


def best_scale(outputs: Tensor, y: Tensor) -> float:
    """The factor with which ``outputs`` (N, classes) best serve as logits of the labels ``y`` (N,): whatever the
    learner's own loss is, it may answer with logits, probabilities or activities."""
    return min(map(float, SCALES), key=lambda scale: float(F.cross_entropy(scale * outputs.double(), y)))


def by_gradient(specimen: Specimen, layers: list[str], batch: Batch) -> dict[str, float]:
    """Mean angle of each layer's update to the gradient of the cross-entropy, over single examples, in degrees.

    The gradient is that of the plain model. Empty where there is none: where the model answers otherwise than the
    learner does, or its backward pass is not its derivative.
    """
    specimen.model.eval()  # a single example has no batch statistics
    specimen.reset()
    plain = deepcopy(specimen.model)
    detach(plain)
    x = batch.x.to(next(plain.parameters()).dtype) if batch.x.is_floating_point() else batch.x
    if not (_alike(plain, specimen, x) and differentiable(plain, x, batch.y)):
        return {}
    found: dict[str, list[float]] = {name: [] for name in layers}
    for n in range(len(batch.y)):
        specimen.reset()
        updates = specimen.update(batch.x[n : n + 1], batch.y[n : n + 1])
        plain.zero_grad()
        F.cross_entropy(plain(x[n : n + 1]), batch.y[n : n + 1]).backward()
        for key, p in plain.named_parameters():
            if owner(key) in found and p.dim() > 1 and p.grad is not None and key in updates:
                found[owner(key)].append(float(angle(updates[key], p.grad)))
    finite = {name: [value for value in values if value == value] for name, values in found.items()}
    return {name: fmean(values) for name, values in finite.items() if values}


def by_steps(specimen: Specimen, layers: list[str], batch: Batch) -> dict[str, float]:
    """The angle of each layer's update of the whole batch to the gradient, in degrees, from answers alone.

    The loss is taken a small step along the update and against it, and likewise along random directions, of which
    n-dimensional space shows how steep it is: E[slope²] = ‖gradient‖² / n. It needs no derivative, as learners that
    spike or relax have none to show; the price is an error of some degrees.
    """
    specimen.model.eval()
    specimen.reset()
    updates = specimen.update(batch.x, batch.y)
    draw = torch.Generator().manual_seed(0)
    scale = best_scale(_respond(specimen, batch.x), batch.y)
    found = {}
    for name in layers:
        key = f"{name}.weight" if name else "weight"
        if key not in updates or not updates[key].any():
            continue
        weight = specimen.model.get_parameter(key)
        along = _slope(specimen, weight, updates[key], batch, scale)
        noise = [torch.randn(weight.shape, generator=draw).to(weight) for _ in range(DIRECTIONS)]
        steepness = fmean(_slope(specimen, weight, each, batch, scale) ** 2 for each in noise) * weight.numel()
        if steepness:
            found[name] = degrees(acos(max(-1.0, min(1.0, along / steepness**0.5))))
    return found


def _slope(specimen: Specimen, weight: nn.Parameter, direction: Tensor, batch: Batch, scale: float) -> float:
    kept = weight.detach().clone()
    step = STEP * float(kept.norm()) / float(direction.norm())
    losses = []
    with torch.no_grad():
        for sign in (1, -1):
            weight.copy_(kept + sign * step * direction)
            losses.append(float(F.cross_entropy(scale * _respond(specimen, batch.x).double(), batch.y)))
        weight.copy_(kept)
    return (losses[0] - losses[1]) / (2 * STEP * float(kept.norm()))


def _respond(specimen: Specimen, x: Tensor) -> Tensor:
    specimen.reset()
    response = specimen.respond(x)
    specimen.reset()
    return response


def _alike(plain: nn.Module, specimen: Specimen, x: Tensor) -> bool:
    try:
        with torch.no_grad():
            return torch.allclose(plain(x), specimen.respond(x), rtol=1e-4, atol=1e-6)
    except Exception:  # somebody else's model may want what only their own learner gives it
        return False
