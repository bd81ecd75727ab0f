"""What a channel carries, events or numbers, and which channels lie between neurons.

A channel is what enters one weight layer, or what passes one wire. It carries events if each of its units only ever
sends 0 or one amplitude of its own, the same at all times and for all examples.
"""

from typing import Literal

import torch
from torch import Tensor

from plausible.audit.recording import Recording, recorded
from plausible.audit.subject import Specimen, Subject

Kind = Literal["events", "graded", "silent"]


def carried(said: list[Tensor], tolerance: float) -> Kind:
    """What a channel carries; calls of other shapes (another phase, another use) are judged apart.

    A channel of which no unit spoke twice is silent: one value shows no amplitude. What never changes, such as a
    constant, is not an event: it has to be absent at times.

    Args:
        said: for each call, (times and examples, units).
        tolerance: by how much an amplitude may vary, relative to it.
    """
    found: set[Kind] = set()
    for width in {each.shape[1] for each in said}:
        values = torch.cat([each for each in said if each.shape[1] == width])
        spoke = (values != 0).sum(0)
        if spoke.max() < 2:
            continue
        values = values[:, spoke > 1]
        heard = values != 0
        high = values.where(heard, -torch.inf).amax(0)
        low = values.where(heard, torch.inf).amin(0)
        one = (high - low <= tolerance * torch.maximum(high.abs(), low.abs())).all()
        found.add("events" if one and not heard.all() else "graded")
    return "graded" if "graded" in found else "events" if found else "silent"


def presynaptic(layer: torch.nn.Module, x: Tensor) -> Tensor:
    """(times and examples, units): a linear layer's units lie along the last dimension, a convolution's are all but
    the examples."""
    if layer.get_parameter("weight").dim() == 2:
        return x.reshape(-1, x.shape[-1])
    return x.flatten(1) if x.dim() == layer.get_parameter("weight").dim() else x.reshape(1, -1)


def by_unit(message: Tensor, x: Tensor, time_axis: int | None) -> Tensor:
    """(times and examples, units) of a message on a wire; one without a dimension of examples is one unit's.

    Args:
        message: what passed.
        x: the inputs that were learned from meanwhile.
        time_axis: the dimension of the inputs along which time runs, if it does.
    """
    if message.dim() < 2:
        return message.reshape(-1, 1)
    axis = time_axis or 0
    if axis and message.dim() > axis + 1 and message.shape[axis] == x.shape[axis]:
        message = message.movedim(axis, 1).flatten(0, 1)
    return message.flatten(1)


def stimulated(subject: Subject, learning: Recording, x: Tensor, y: Tensor) -> set[str]:
    """The layers that are fed by the stimulus, which is no message between neurons: what enters them is something, and
    stays the same when all weights change.

    Args:
        subject: of whom a copy gets other weights.
        learning: what a copy with its own weights met; its first calls were those of learning from ``x`` and ``y``.
        x, y: examples and labels.
    """
    other = _another(subject.copy())
    with recorded(other.model) as changed:
        other.learn(x, y)
    return {name for name in learning.inputs if _same(name, learning, changed)}


def _another(specimen: Specimen) -> Specimen:
    """The same with other weights: as far from these as they are large."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in specimen.model.parameters():
            size = p.square().mean().sqrt().cpu()
            p += (size * torch.randn(p.shape, generator=generator, dtype=torch.float64)).to(p)
    return specimen


def _same(name: str, recording: Recording, changed: Recording) -> bool:
    pairs = list(zip(recording.inputs.get(name, []), changed.inputs.get(name, []), strict=False))
    return all(torch.equal(a, b) for a, b in pairs) and any(a.any() for a, _ in pairs)
