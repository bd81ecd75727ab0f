"""One call of ``learn`` in the middle of a stream of stimuli, seen from outside: who is active, and who teaches when.

Time is counted in calls of weight layers. There are up to three regimes.

* Free: a stretch of activity without the teacher that is longer than a tick of the teacher's wire (which is the median
  number of layer calls between its deliveries) and that matters: noise in it changes the updates. What
  is run only to be reported does not count. A teacher that comes once has no tick: all before it is free.
* Taught: activity after the teacher's first word, unless it follows all messages and does not matter.
* Frozen: messages sent after the activity has stopped, more than in any tick; that is the backward pass. It does not
  count if nobody has to wait for it: if no layer's update depends on the activity downstream of the layer.

Back-propagation is free, then frozen; a contrast of phases is free, then taught; a learner in time is taught
throughout.
"""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from statistics import median

import torch
from torch import Tensor

from plausible.audit.criterion import Batch, Unmeasurable
from plausible.audit.messages import TEACHER
from plausible.audit.recording import recorded, weight_layers
from plausible.audit.subject import Subject, change
from plausible.core.context import Tap

LENGTH = 30  # presentations
ROWS = 8  # streams side by side: more teaching at no more cost, and enough for batch normalisation
LONGEST = 3  # calls for which a stimulus may last
DRAWS = 3  # of noise, until one of them has an effect

Updates = dict[str, Tensor]


class Stream:
    """Presentations one after the other, each for a random number of calls; several streams side by side.

    Attributes:
        whole: two calls with all examples there are, (x, y) each.
    """

    def __init__(self, batch: Batch) -> None:
        # By turns of the labels, so that neighbours differ.
        turn, seen = [], Counter[int]()
        for row, label in enumerate(batch.y.reshape(len(batch.y), -1)[:, 0].tolist()):
            turn.append((seen[label], label, row))
            seen[label] += 1
        if len(seen) < 2:
            raise Unmeasurable("a stream of different stimuli takes examples of two labels at least")
        order = torch.tensor([row for *_, row in sorted(turn)])
        n, rows = len(order), min(ROWS, len(order))
        starts = torch.arange(rows) * n // rows
        chunks = [order[(starts + place) % n] for place in range(LENGTH)]
        self.stimuli, self.labels = [batch.x[chunk] for chunk in chunks], [batch.y[chunk] for chunk in chunks]
        self.calls = torch.randint(1, LONGEST + 1, (LENGTH,), generator=torch.Generator().manual_seed(0)).tolist()
        self.whole = [(batch.x[each], batch.y[each]) for each in (order, order.roll(1))]

    def shown(self, subject: Subject, count: int, tap: Tap | None = None, shift: int = 0) -> list[Updates]:
        """The updates of the first calls of ``count`` presentations; with the labels of those ``shift`` before."""
        specimen = subject.copy()
        specimen.tap(tap)
        found = []
        for place in range(count):
            x, y = self.stimuli[place], self.labels[place - shift]
            found.append(specimen.update(x, y))
            for _ in range(self.calls[place] - 1):
                specimen.learn(x, y)
        return found


class Timeline:
    """One call of ``learn``, in the middle of the stream.

    Attributes:
        updates: of that call.
        order: weight layers, upstream first.
        ticks: by wire of the teacher, how often it speaks; ``each``: in how many messages at a time.
        regimes: what is to be told apart; see the head of this file.
    """

    def __init__(self, subject: Subject, stream: Stream, depends: float) -> None:
        self._subject, self._stream, self._depends = subject, stream, depends
        words: list[tuple[int, str, bool]] = []

        def listen(name: str, message: Tensor, source: str, target: str) -> Tensor:
            words.append((len(record.events), name, source == TEACHER))
            return message

        specimen = subject.copy()
        specimen.learn(*stream.whole[0])
        specimen.tap(listen)
        with recorded(specimen.model) as record:
            self.updates = specimen.update(*stream.whole[1])
        self.order = record.order
        said = Counter(name for _, name, teaching in words if teaching)
        self.ticks = {name: len({place for place, other, _ in words if other == name}) for name in said}
        self.each = {name: said[name] // ticks for name, ticks in self.ticks.items()}
        self.regimes = self._regimes(words, len(record.events))

    def _regimes(self, words: list[tuple[int, str, bool]], end: int) -> list[str]:
        if not self.ticks:
            return ["free"]
        main = max(self.ticks, key=lambda name: self.ticks[name])
        last = words[-1][0]
        if end > last and not self._matters(lambda index, _: index >= last):
            end = last  # run after all was said, to be reported
        teaching = sorted({place for place, _, is_teacher in words if is_teacher})
        beats = sorted({place for place, name, _ in words if name == main})
        tick = int(median(b - a for a, b in pairwise(beats))) if len(beats) > 1 else 0
        # The tick itself lies before the teacher's word, or after the last.
        free = [(a, b - tick) for a, b in pairwise([0, *teaching])] + [(teaching[-1] + tick, end)]
        alone = {index for a, b in free for index in range(a, b)}
        after = Counter(place for place, *_ in words)
        busiest = max((n for place, n in after.items() if place < end), default=0) if tick else 0
        found = []
        if alone and self._matters(lambda index, _: index in alone):
            found.append("free")
        if teaching[0] < end:
            found.append("taught")
        if after[end] > busiest and self._waits():
            found.append("frozen")
        return found or ["taught"]

    def _waits(self) -> bool:
        """Whether an update depends on activity downstream of its layer."""
        for place, name in enumerate(self.order[:-1]):
            later = set(self.order[place + 1 :])
            if self._matters(lambda _, layer, later=later: layer in later, only=name):
                return True
        return False

    def _matters(self, chosen: Callable[[int, str], bool], only: str | None = None) -> bool:
        """Whether updates (of one layer) change if noise drowns what layers answer in the chosen calls."""
        # More than once: a reward of one bit, or a spike, may well be the same by chance.
        return any(self._moved(chosen, only, seed) > self._depends for seed in range(DRAWS))

    def _moved(self, chosen: Callable[[int, str], bool], only: str | None, seed: int) -> float:
        specimen = self._subject.copy()
        specimen.learn(*self._stream.whole[0])
        index, generator = -1, torch.Generator().manual_seed(seed)
        for name, layer in weight_layers(specimen.model).items():

            def hook(_: object, inputs: object, output: Tensor, name: str = name) -> Tensor:
                nonlocal index
                index += 1
                if not chosen(index, name):
                    return output
                noise = torch.randn(output.shape, generator=generator).to(output)
                return output + output.detach().square().mean().sqrt() * noise

            layer.register_forward_hook(hook)
        found = specimen.update(*self._stream.whole[1])
        return change(of(self.updates, only), of(found, only))


def of(updates: Updates, layer: str | None) -> Updates:
    """The updates of one layer; of all for None."""
    return {key: value for key, value in updates.items() if layer is None or owner(key) == layer}


def owner(parameter: str) -> str:
    """The layer that a parameter belongs to."""
    return parameter.rpartition(".")[0]
