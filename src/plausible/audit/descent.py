"""The angle between a learner's updates and the direction in which the loss falls."""

from copy import deepcopy
from math import acos, cos, degrees, inf, isfinite, radians
from statistics import fmean, stdev

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plausible.audit.criterion import Batch
from plausible.audit.gradient import differentiable
from plausible.audit.subject import Specimen, change
from plausible.audit.timeline import owner
from plausible.core.attach import detach, evaluating, full_name
from plausible.functional.alignment import angle

STEP = 0.1  # of the weight's norm: large enough that spikes appear and vanish
DIRECTIONS = 24
REPEATS = 64
ROUNDING = 1e-9  # relative: what an update may differ by from the same one
SCALES = torch.logspace(-1, 1.5, 16, dtype=torch.float64)


def best_scale(outputs: Tensor, y: Tensor) -> float:
    """The factor with which ``outputs`` (N, classes) best serve as logits of the labels ``y`` (N,): whatever the
    learner's own loss is, it may answer with logits, probabilities or activities."""
    return min(map(float, SCALES), key=lambda scale: float(F.cross_entropy(scale * outputs.double(), y)))


def by_gradient(specimen: Specimen, layers: list[str], batch: Batch) -> tuple[dict[str, float], float]:
    """Mean angle of each layer's update to the gradient of the cross-entropy, over single examples, in degrees.

    Where updates are random, their mean over repetitions is taken: a rule may descend on average, and by a single
    attempt go almost anywhere. The gradient is that of the plain model. Empty where there is none: where the model
    answers otherwise than the learner does, or its backward pass is not its derivative.

    Returns:
        The angles by layer; and where updates are random, by how many standard errors over the examples the cosine,
        averaged over the layers, lies above 0, else infinity. It tells descent on average from none where what is
        random has no side; a fixed feedback with noise upon it has one, right or wrong.
    """
    with evaluating(specimen.model):  # a single example has no batch statistics
        specimen.reset()
        plain = deepcopy(specimen.model)
        detach(plain)
        x = batch.x.to(next(plain.parameters()).dtype) if batch.x.is_floating_point() else batch.x
        if not (_alike(plain, specimen, x) and differentiable(plain, x, batch.y)):
            return {}, inf
        found: dict[str, list[float]] = {name: [] for name in layers}
        cosines, repeats = [], _repeats(specimen, batch)
        for n in range(len(batch.y)):
            updates = _update(specimen, batch.x[n : n + 1], batch.y[n : n + 1], repeats)
            plain.zero_grad()
            F.cross_entropy(plain(x[n : n + 1]), batch.y[n : n + 1]).backward()
            angles = [
                (owner(key), float(angle(updates[key], p.grad)))
                for key, p in plain.named_parameters()
                if owner(key) in found and p.dim() > 1 and p.grad is not None and key in updates
            ]
            defined = [(name, value) for name, value in angles if isfinite(value)]
            for name, value in defined:
                found[name].append(value)
            if defined:  # one for each example, whose noise its layers share
                cosines.append(fmean(cos(radians(value)) for _, value in defined))
    means = {name: fmean(values) for name, values in found.items() if values}
    if repeats == 1 or len(cosines) < 2:
        return means, inf
    error = stdev(cosines) / len(cosines) ** 0.5
    return means, fmean(cosines) / error if error else inf


def by_steps(specimen: Specimen, layers: list[str], batch: Batch) -> dict[str, float]:
    """The angle of each layer's update of the whole batch to the gradient, in degrees, from answers alone.

    The loss is taken a small step along the update and against it, and likewise along random directions, of which
    n-dimensional space shows how steep it is: E[slope²] = ‖gradient‖² / n. It needs no derivative, as learners that
    spike or relax have none to show; the price is an error of some degrees.
    """
    updates = _update(specimen, batch.x, batch.y, _repeats(specimen, batch))
    draw = torch.Generator().manual_seed(0)
    scale = best_scale(_respond(specimen, batch.x), batch.y)
    found = {}
    for name in layers:
        key = full_name(name, "weight")
        if key not in updates or not updates[key].any():
            continue
        weight = specimen.model.get_parameter(key)
        along = _slope(specimen, weight, updates[key], batch, scale)
        noise = [torch.randn(weight.shape, generator=draw).to(weight) for _ in range(DIRECTIONS)]
        steepness = fmean(_slope(specimen, weight, each, batch, scale) ** 2 for each in noise) * weight.numel()
        if steepness:
            found[name] = degrees(acos(max(-1.0, min(1.0, along / steepness**0.5))))
    return found


def _repeats(specimen: Specimen, batch: Batch) -> int:
    """How many updates to take the mean of: one if the next is the same."""
    one, other = (_update(specimen, batch.x, batch.y, 1) for _ in range(2))
    return REPEATS if change(one, other) > ROUNDING else 1


def _update(specimen: Specimen, x: Tensor, y: Tensor, repeats: int) -> dict[str, Tensor]:
    """The mean of the updates, each with random numbers of its own."""
    total: dict[str, Tensor] = {}
    for _ in range(repeats):
        specimen.reset()
        for name, update in specimen.update(x, y).items():
            total[name] = total[name] + update if name in total else update
    return {name: each / repeats for name, each in total.items()}


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
    with evaluating(specimen.model):
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
