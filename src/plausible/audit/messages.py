"""Listens on the wires of a learner, and interferes with what they carry."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor

from plausible.audit.criterion import Batch
from plausible.audit.recording import recorded
from plausible.audit.subject import Subject

TEACHER = "teacher"
"""The source of a wire through which something enters from outside."""

Drive = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Hearing:
    """What one call of ``learn`` sent and changed.

    Attributes:
        messages: by wire, what was delivered, call by call.
        ends: by wire, its source and target.
        updates: what came of it.
        order: the weight layers, in the order of their first calls.
    """

    messages: dict[str, list[Tensor]] = field(default_factory=dict)
    ends: dict[str, tuple[str, str]] = field(default_factory=dict)
    updates: dict[str, Tensor] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)

    def flat(self, wire: str) -> Tensor:
        """All numbers that passed a wire, one after the other."""
        return torch.cat([torch.zeros(0), *(m.flatten().cpu().double() for m in self.messages.get(wire, ()))])


def listen(subject: Subject, batch: Batch, *, drive: Drive | None = None, clamp: Collection[str] = ()) -> Hearing:
    """Let a fresh copy learn from ``batch``, and record its messages.

    Args:
        subject: of whom the copy is.
        batch: what it learns from.
        drive: changes what enters from the teacher, where it is a number and no index.
        clamp: wires that deliver zeros.
    """
    specimen, heard = subject.copy(), Hearing()

    def tap(name: str, message: Tensor, source: str, target: str) -> Tensor:
        if name in clamp:
            message = torch.zeros_like(message)
        elif drive is not None and source == TEACHER and message.is_floating_point():
            message = drive(message)
        heard.messages.setdefault(name, []).append(message.detach().clone())
        heard.ends[name] = (source, target)
        return message

    specimen.tap(tap)
    with recorded(specimen.model) as record:
        heard.updates.update(specimen.update(batch.x, batch.y))
    heard.order.extend(record.order)
    return heard


def relabelled(batch: Batch, by: int = 1) -> Batch:
    """The same examples, each with the next label, or that so many further on."""
    return Batch(batch.x, (batch.y + by) % batch.classes, batch.classes)
