"""Activity stops while errors travel back: learning takes phases, and a teacher that is there in time.

Two experiments. *The late teacher*: examples follow one another, each for a random number of calls, state kept, no
reset, no sign of a boundary. In a copy, what comes from the teacher (wires whose source is "teacher") comes later
by some ticks; a tick is one delivery of that wire (deliveries without activity between them are simultaneous). The
value is the cosine between the updates with the teacher late and in time, of all presentations taken together as one
long vector, over the hidden layers (over what is taught, where no hidden layer is), after what any teacher would have
taught is XX The same few others serve both updates, so that unrelated ones have a cosine of 1 / (1 + OTHERS).
Only the first call of each presentation counts: to a learner of single calls, a message late by one call is not late
at all while the same stimulus is repeated. It is judged at the smallest delay: a twentieth of a call's ticks, at least
one. For a learner with one tick a call, that is a whole stimulus.

*The regimes*: how many different states does one presentation take the network through? Free activity, activity with
the teacher present, messages with the activity frozen: see :mod:`plausible.audit.timeline`, which tells them apart.
"""

from collections import deque
from math import isfinite
from statistics import pstdev

import torch
from torch import Tensor

from plausible.audit.criterion import Batch, Unmeasurable, criterion, rounding, thresholds
from plausible.audit.finding import Finding, Verdict
from plausible.audit.messages import TEACHER
from plausible.audit.subject import Subject, change
from plausible.audit.timeline import LENGTH, Stream, Timeline, Updates, of, owner
from plausible.core.context import Tap

NAME = "timing"
OTHERS = 2
SMALL = 0.05
FEW = 8  # presentations, where there are many ticks in each and all take their time


@criterion(NAME, order=5, core=True)
def timing(subject: Subject, batch: Batch) -> Finding:
    """Delay the teacher, state kept; count the regimes of one presentation."""
    if not subject.wired:
        raise Unmeasurable("its teaching messages pass no wires, so that none can be delayed")
    limits = thresholds(NAME)
    depends = max(limits["depends"], rounding(subject.dtype))
    stream = Stream(batch)
    line = Timeline(subject, stream, depends)
    if not line.updates:
        return Finding(criterion=NAME, verdict="does not apply", sentence="Nothing to measure: nothing is taught.")
    _complete(subject, stream, depends)
    late = _Lateness(subject, stream, line, depends)
    if not all(map(isfinite, (late.small, *late.each))):
        raise Unmeasurable("its updates leave the range of numbers on a stream of examples, so none can be compared")
    once, tolerant = len(line.regimes) <= 1, late.small >= limits["tolerated"]
    verdict: Verdict = "solved" if once and tolerant else "partly" if once or tolerant else "violated"
    wait = "no teacher ever spoke" if not line.ticks else f"the teacher came {late.words} late"
    whose = "hidden layers" if late.hidden else "the output layer, all that is taught,"
    return Finding(
        criterion=NAME,
        verdict=verdict,
        sentence=f"Stimuli followed one another without a boundary, and {wait}: the updates of {whose} had a cosine of "
        f"{late.small:.2f} to those in time. A presentation has {len(line.regimes)} regime{'' if once else 's'}: "
        f"{', '.join(line.regimes)}.",
        value=late.small,
        unit="cosine",
        layers=late.layers,
        samples=len(late.each),
        spread=pstdev(late.each) if len(late.each) > 1 else None,
        thresholds=limits,
        also={
            "regimes": float(len(line.regimes)),
            "ticks of a call": float(max(line.ticks.values(), default=0)),
            "cosine, a whole stimulus late": late.whole,
        },
    )


def _complete(subject: Subject, stream: Stream, depends: float) -> None:
    """With the teacher's wires silenced, no label may matter; or what is delayed is not all that teaches."""
    found = []
    for label in stream.labels[:2]:
        specimen = subject.copy()
        specimen.tap(lambda _, message, source, target: torch.zeros_like(message) if source == TEACHER else message)
        found.append(specimen.update(stream.stimuli[0], label))
    moved = change(*found)
    if moved > depends:
        raise Unmeasurable(
            f"with the wires of the teacher silenced, another label still changes the updates by {moved:.2g} of "
            "themselves: something comes from the teacher on no wire of its own, and cannot be delayed"
        )


class _Lateness:
    """How alike the updates are with the teacher late and in time.

    Attributes:
        small, whole: the cosine at the smallest delay, and a call's ticks late.
        layers: the former by layer; ``each``: by presentation.
        hidden: whether hidden layers are taught; otherwise all that is taught is judged.
        words: the smallest delay in words.
    """

    def __init__(self, subject: Subject, stream: Stream, line: Timeline, depends: float) -> None:
        delays = {name: max(1, round(SMALL * ticks)) for name, ticks in line.ticks.items()}
        hidden = {key for key in line.updates if owner(key) != line.order[-1]}
        self.hidden, keep = bool(hidden), hidden or set(line.updates)
        late = max(delays.values(), default=1)
        ticks = max(line.ticks.values(), default=1)
        self.words = "a whole stimulus" if ticks == 1 else f"{late} of {ticks} ticks"
        count = LENGTH if ticks == 1 else FEW

        def own(delays: dict[str, int]) -> list[Updates]:
            """What this teacher, so many ticks late, taught, and others as late did not."""
            late = {name: delay * line.each[name] for name, delay in delays.items()}
            shown, *others = (
                # A rule may leave a layer alone in some calls.
                [{key: each.get(key, torch.zeros_like(line.updates[key])) for key in sorted(keep)} for each in calls]
                for calls in (stream.shown(subject, count, _delayed(late), shift) for shift in range(OTHERS + 1))
            )
            return [
                {
                    key: value - torch.stack([other[place][key] for other in others]).mean(0)
                    for key, value in each.items()
                }
                for place, each in enumerate(shown)
            ]

        in_time = own(dict.fromkeys(delays, 0))
        if _size(in_time) <= depends * _size([of(line.updates, None)]):  # there is no teacher, or nobody listens
            self.small, self.whole, self.each, self.layers = 1.0, 1.0, [1.0], {}
            return
        small = own(delays)
        whole = small if delays == line.ticks else own(line.ticks)
        self.small, self.whole = _cosine(in_time, small), _cosine(in_time, whole)
        self.each = [_cosine([a], [b]) for a, b in zip(in_time, small, strict=True)]
        self.layers = {
            name: _cosine([of(update, name) for update in in_time], [of(update, name) for update in small])
            for name in dict.fromkeys(map(owner, sorted(keep)))
        }


def _delayed(delays: dict[str, int]) -> Tap:
    """Delivers what was said so many deliveries ago; nothing at first, nor where it had another shape."""
    waiting: dict[str, deque[Tensor]] = {}

    def tap(name: str, message: Tensor, source: str, target: str) -> Tensor:
        if source != TEACHER:
            return message
        line = waiting.setdefault(name, deque())
        line.append(message.detach().clone())
        old = line.popleft() if len(line) > delays.get(name, 0) else None
        return torch.zeros_like(message) if old is None or old.shape != message.shape else old

    return tap


def _cosine(a: list[Updates], b: list[Updates]) -> float:
    """Of all of ``a`` and all of ``b``, each as one long vector; 0 if either is zero."""
    both = sum(float((p[key] * q[key]).sum()) for p, q in zip(a, b, strict=True) for key in p)
    sizes = _size(a) * _size(b)
    return both / sizes if sizes else 0.0


def _size(updates: list[Updates]) -> float:
    return sum(float(value.square().sum()) for update in updates for value in update.values()) ** 0.5
