"""The update of a sequence needs the whole of it, stored and run backwards, before anything can be learned.

The sequence is fed in halves, and one step at a time: the state goes on from piece to piece, the weights are held. A
learner that knows at each moment all it needs adds up the same update. One that credits the past from the future loses
what would have crossed the cuts; and one that peeks at a step still to come cannot do so at the end of a piece. So the
past's part of the update is the same whatever follows, exactly if the pieces add up.

* Whether the pieces' updates are to be added or averaged (a loss may be the mean over time): the better of the two.
* A teacher heard only at the end of a call would be heard too often. Of the messages on the teacher's wires, the pieces
  together get as many numbers as the whole, the last ones; those before are silenced.
* A rule that draws noise anew in each call cannot be compared exactly, and is judged by its memory: does the peak of a
  call grow with the length of the sequence? Otherwise that is reported only.
"""

import torch
from torch import Tensor

from plausible.audit.criterion import Batch, criterion, rounding, thresholds
from plausible.audit.finding import Finding
from plausible.audit.memory import peak_bytes
from plausible.audit.messages import TEACHER
from plausible.audit.subject import Subject, change

NAME = "BPTT"


@criterion(NAME, order=8)
def bptt(subject: Subject, batch: Batch) -> Finding:
    """Feed a sequence in pieces; do the updates add up to that of the whole?"""
    limits = thresholds(NAME)
    if subject.time_axis is None:
        return _nothing("it learns no sequences")
    axis, steps = subject.time_axis, batch.x.shape[subject.time_axis]
    if steps < 2:
        return _nothing("the sequence has a single step")
    batch = Batch(batch.x.to(subject.dtype) if batch.x.is_floating_point() else batch.x, batch.y, batch.classes)
    equal = max(limits["equal"], rounding(subject.dtype))
    (whole,), words = _fed(subject, batch, [steps])
    if not any(value.any() for value in whole.values()):
        return _nothing("nothing is taught")
    memory = [_memory(subject, _longer(batch, axis, times)) for times in (1, 2)]
    growth = memory[1] / memory[0]
    also = {"bytes at the peak": float(memory[0]), "peak of twice the length, relative": growth}
    if not _repeats(subject, batch, whole, equal):
        solved = growth < limits["constant memory"]
        return Finding(
            criterion=NAME,
            verdict="solved" if solved else "violated",
            sentence="Its updates differ from call to call, so that pieces cannot be compared with the whole; twice as "
            f"long a sequence takes {growth:.2f} times the memory: "
            + ("the past is not stored." if solved else "the past is stored."),
            value=growth,
            unit="ratio of peak memory",
            thresholds=limits,
            also=also,
        )
    cuts = {"halves": [steps // 2, steps - steps // 2], "single steps": [1] * steps}
    found, layers = {}, {}
    for name, lengths in cuts.items():
        pieces, heard = _fed(subject, batch, lengths)
        if heard > words:
            pieces, _ = _fed(subject, batch, lengths, silenced=heard - words)
        added = _sum(pieces, [1.0] * len(pieces))
        averaged = _sum(pieces, [length / steps for length in lengths])
        total = min((added, averaged), key=lambda each: change(whole, each))
        found[name] = change(whole, total)
        for key in whole:
            moved = change({key: whole[key]}, {key: total[key]} if key in total else {})
            layer = key.rpartition(".")[0]
            layers[layer] = max(layers.get(layer, 0.0), moved)
    value = max(found.values())
    solved = value < equal
    return Finding(
        criterion=NAME,
        verdict="solved" if solved else "violated",
        sentence=f"A sequence of {steps} steps was fed in halves and step by step, its state carried on; the updates "
        + (
            "added up to that of the whole: nothing of the past has to be stored."
            if solved
            else f"were off that of the whole by up to {value:.2g} of it: the whole sequence is needed at once."
        ),
        value=value,
        unit="relative change",
        layers=layers,
        samples=len(cuts),
        thresholds=limits,
        also={**{f"relative change, {name}": moved for name, moved in found.items()}, **also},
    )


def _nothing(why: str) -> Finding:
    return Finding(criterion=NAME, verdict="does not apply", sentence=f"Nothing to measure: {why}.")


def _fed(subject: Subject, batch: Batch, lengths: list[int], silenced: int = 0) -> tuple[list[dict[str, Tensor]], int]:
    """The update of each piece, and how many numbers came from the teacher; the first ``silenced`` of them as 0."""
    assert subject.time_axis is not None
    heard = 0

    def tap(name: str, message: Tensor, source: str, target: str) -> Tensor:
        nonlocal heard
        if source != TEACHER:
            return message
        heard += message.numel()
        return torch.zeros_like(message) if heard <= silenced else message

    specimen = subject.copy()
    if subject.wired:
        specimen.tap(tap)
    pieces, start = [], 0
    for length in lengths:
        x = batch.x.narrow(subject.time_axis, start, length)
        y = batch.y.narrow(subject.time_axis, start, length) if _in_time(batch, subject.time_axis) else batch.y
        pieces.append(specimen.update(x, y))
        start += length
    return pieces, heard


def _in_time(batch: Batch, axis: int) -> bool:
    """Whether the teacher, too, runs along the axis; labels (N,) do not."""
    return batch.y.dim() > axis and batch.y.shape[axis] == batch.x.shape[axis]


def _sum(pieces: list[dict[str, Tensor]], factors: list[float]) -> dict[str, Tensor]:
    keys = dict.fromkeys(key for piece in pieces for key in piece)
    parts = list(zip(pieces, factors, strict=True))
    return {key: torch.stack([f * piece[key] for piece, f in parts if key in piece]).sum(0) for key in keys}


def _repeats(subject: Subject, batch: Batch, whole: dict[str, Tensor], equal: float) -> bool:
    """Whether a second call, its state forgotten, gives the same update."""
    specimen = subject.copy()
    specimen.learn(batch.x, batch.y)
    specimen.reset()
    return change(whole, specimen.update(batch.x, batch.y)) < equal


def _longer(batch: Batch, axis: int, times: int) -> Batch:
    y = torch.cat([batch.y] * times, axis) if _in_time(batch, axis) else batch.y
    return Batch(torch.cat([batch.x] * times, axis), y, batch.classes)


def _memory(subject: Subject, batch: Batch) -> int:
    specimen = subject.copy()
    specimen.learn(batch.x, batch.y)  # what is made once, in the first call, does not count
    specimen.clear()
    return peak_bytes(lambda: specimen.learn(batch.x, batch.y))
