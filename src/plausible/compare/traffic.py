"""What the layers of a learner send each other: spikes, and messages in bits.

A graded message costs the bits of one number, at the precision of the parameters, for each of its units. Where a
channel carries events, hardware sends nothing but the addresses of the units that fired (address-event representation,
as on SpiNNaker and Loihi): ⌈log₂ n⌉ bits for each event among n units, at least 1, and nothing for silence. The other
way would be one bit for every unit at every step; the address is taken because it is what event-driven chips send, and
because it is cheaper as soon as fewer than one unit in ⌈log₂ n⌉ fires. On a chip the address is that of a neuron among
all there are, or of a core and an axon; here it is that of a unit among those of its own channel, the fewest bits that
tell who fired.

Whether a channel carries events is the audit's judgement (:func:`plausible.audit.channels.carried`), and so is which
layers are fed by the stimulus: that comes from outside, and is not counted.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from plausible.audit.channels import by_unit, carried, presynaptic, stimulated
from plausible.audit.criterion import rounding
from plausible.audit.messages import TEACHER
from plausible.audit.recording import recorded, weight_layers
from plausible.audit.subject import LearnerSpecimen, LearnerSubject
from plausible.core.learner import Learner


@dataclass(frozen=True)
class Traffic:
    """What a batch sent, in total.

    Attributes:
        steps: calls of the weight layer that was called most often: time steps, or phases and steps of relaxation.
        spikes: events that entered weight layers; one that several layers hear is sent once.
        forward: bits that entered weight layers, from other layers; what several hear is sent once.
        feedback: bits that passed the teaching wires inside the network, as they are delivered; where layers are left
            to back-propagation, the gradients that reach what lies before them.
        teacher: bits that entered on the teacher's wires, from outside.
    """

    steps: int
    spikes: int
    forward: int
    feedback: int
    teacher: int


def traffic(learner: Learner, x: Tensor, y: Tensor) -> tuple[Traffic, Traffic]:
    """What is sent when copies of ``learner`` answer and learn.

    Args:
        learner: stays as it is; its copies start without state.
        x: (N, …), examples; several, for one alone does not show whether a channel carries events.
        y: (N,), their labels.

    Returns:
        For inference, and for learning.
    """
    fresh = deepcopy(learner)
    fresh.reset()
    subject, word = LearnerSubject(fresh), _bits_of_a_number(learner)
    answering, learning = _Line(word), _Line(word)
    with answering.listening(specimen := subject.copy()):
        specimen.model.eval()
        specimen.respond(x)
    specimen = subject.copy()
    with recorded(specimen.model) as record, learning.listening(specimen, x, subject.time_axis):
        specimen.learn(x, y)
    outside = stimulated(subject, record, x, y)
    return answering.total(outside), learning.total(outside)


@dataclass
class _Channel:
    """Calls of a channel: (times and examples, units) each, and whether the message had been sent before."""

    said: list[Tensor] = field(default_factory=list)
    again: list[bool] = field(default_factory=list)

    def add(self, message: Tensor, again: bool = False) -> None:
        self.said.append(message.detach().clone())
        self.again.append(again)

    def sent(self, word: int) -> tuple[int, int]:
        """(events, bits)."""
        fresh = [message for message, again in zip(self.said, self.again, strict=True) if not again]
        events = sum(int((message != 0).sum()) for message in fresh)
        if carried(self.said, rounding(torch.float64)) == "events":
            units = self.said[0].shape[1]
            return events, events * max(1, (units - 1).bit_length())
        # A number has to be sent even if it is zero, unless the channel is never used at all.
        return 0, word * sum(message.numel() for message in fresh) * any(bool(message.any()) for message in self.said)


@dataclass
class _Line:
    """All channels of one call."""

    word: int
    forward: dict[str, _Channel] = field(default_factory=dict)
    feedback: dict[str, _Channel] = field(default_factory=dict)
    teacher: dict[str, _Channel] = field(default_factory=dict)

    @contextmanager
    def listening(
        self, specimen: LearnerSpecimen, x: Tensor | None = None, time_axis: int | None = None
    ) -> Iterator[None]:
        """Listen to the layers; if ``x`` is what is learned from, to the wires too."""
        heard: dict[tuple[int, int], tuple[Callable[[], object], int]] = {}

        def enter(layer: nn.Module, given: tuple[Tensor, ...], name: str) -> None:
            entering = given[0]
            # One message is one place in memory, as long as that has been neither freed nor written to since.
            place, version = (entering.data_ptr(), entering.numel()), entering._version
            alive, before = heard.get(place, (lambda: None, -1))
            heard[place] = weakref.ref(entering.untyped_storage()), version
            again = alive() is not None and before == version
            self.forward.setdefault(name, _Channel()).add(presynaptic(layer, entering), again)

        def tap(name: str, message: Tensor, source: str, target: str) -> Tensor:
            wires = self.teacher if source == TEACHER else self.feedback
            if x is not None:
                wires.setdefault(name, _Channel()).add(by_unit(message, x, time_axis))
            return message

        def wired(_: nn.Module, given: tuple[Tensor, ...], name: str) -> Tensor:
            return specimen.learner.context.tapped(f"{name}.feedback", given[0], name, "upstream")

        layers = weight_layers(specimen.model)
        handles = [layer.register_forward_pre_hook(partial(enter, name=name)) for name, layer in layers.items()]
        if x is not None:
            specimen.tap(tap)
            plain = layers.keys() & set(specimen.learner.report()["backprop"])
            handles += [layers[name].register_forward_pre_hook(partial(wired, name=name)) for name in plain]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def total(self, outside: set[str]) -> Traffic:
        """What was sent, but by the stimulus, which enters the layers ``outside``."""
        inside = [channel.sent(self.word) for name, channel in self.forward.items() if name not in outside]
        return Traffic(
            steps=max((len(channel.said) for channel in self.forward.values()), default=0),
            spikes=sum(events for events, _ in inside),
            forward=sum(bits for _, bits in inside),
            feedback=sum(channel.sent(self.word)[1] for channel in self.feedback.values()),
            teacher=sum(channel.sent(self.word)[1] for channel in self.teacher.values()),
        )


def _bits_of_a_number(learner: Learner) -> int:
    dtypes = {p.dtype for p in learner.model.parameters() if p.is_floating_point()}
    return max((torch.finfo(dtype).bits for dtype in dtypes), default=32)
