"""A short look inside a spiking net that is learning: who fired when, and what came of it.

What a model's cells do at a step it tells itself (:class:`Spiking`). The populations that teach it are heard on the
wires of the rule: where a wire carries events, and not numbers, its cells are a population as well.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from plausible.core.attach import device_of
from plausible.core.errors import DataError
from plausible.core.families.online import State, Stepped
from plausible.core.learner import Learner
from plausible.functional.random import random_state, replayed

CELLS = 20
"""So many cells of a population are kept, evenly spread over it."""


@runtime_checkable
class Spiking(Stepped, Protocol):
    """A model in time whose cells can be watched.

    Attributes:
        dt: length of a step, in seconds.
    """

    dt: float

    def populations(self, state: State) -> Mapping[str, tuple[Tensor, Tensor | None]]:
        """By name, from the input to the output, the spikes (N, n) of the last step, 0 where there is none, and the
        voltages (N, n) in units of the threshold, if they are kept."""
        ...


@dataclass(frozen=True)
class Moment:
    """What one stream did in one step.

    Attributes:
        cells: of the model, as :meth:`Spiking.populations` tells it, (n,) each.
        readout: (classes,).
        messages: what passed the teaching wires, (n,) each, by the wire's name.
    """

    cells: dict[str, tuple[Tensor, Tensor | None]]
    readout: Tensor
    messages: dict[str, Tensor] = field(default_factory=dict)


class Population(NamedTuple):
    """Cells of one kind.

    Attributes:
        name: the layer they are, or the wire that they send on.
        size: how many there are.
        rate: of all of them, spikes per second and cell.
        cells: which are kept.
        spikes: of each of these, the steps at which it fired.
    """

    name: str
    size: int
    rate: float
    cells: list[int]
    spikes: list[list[int]]


class Trace(NamedTuple):
    """The voltage of one cell at the end of each step, in units of the threshold; it is set back by a spike."""

    population: str
    cell: int
    voltage: list[float]


@dataclass(frozen=True, kw_only=True)
class Activity:
    """What was seen while stimuli were shown, each as long as the others.

    Attributes:
        dt: length of a step, in seconds.
        shown: the label of each stimulus.
        answered: what the output was greatest at.
        populations: the model's from the input to the output, then those that teach it.
        traces: some voltages.
        readout: (steps, classes).
    """

    dt: float
    shown: list[int]
    answered: list[int]
    populations: list[Population]
    traces: list[Trace]
    readout: list[list[float]]

    def to_json(self) -> str:
        """As a JSON document."""
        return json.dumps(asdict(self), separators=(",", ":")) + "\n"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` has written, as it is read from there.

        Raises:
            DataError: it is something else.
        """
        try:
            populations = [Population(*each) for each in values["populations"]]
            return cls(**{**values, "populations": populations, "traces": [Trace(*each) for each in values["traces"]]})
        except (TypeError, KeyError) as error:
            raise DataError(f"this is no record of activity ({type(error).__name__}: {error})") from error


def activity(learner: Learner, x: Tensor, y: Tensor) -> Activity | None:
    """Show stimuli to a copy of the learner, one after the other in one stream, and let it learn as in training.

    Its weights are held. The first stimulus meets a net at rest, and is left out of the record. The learner and the
    random state stay as they are.

    Args:
        learner: of any model.
        x: (k, …), the stimuli, two or more.
        y: (k,), their labels.

    Returns:
        None if the model's cells cannot be watched, or if its output has an entry for each step.
    """
    if not isinstance(learner.model, Spiking) or learner.model.stepwise:
        return None
    device = device_of(learner.model)
    copy = deepcopy(learner)
    copy.reset()
    moments: list[Moment] = []
    answered: list[int] = []
    with replayed(device, random_state(device)):
        for place, (stimulus, label) in enumerate(zip(x.split(1), y.split(1), strict=True)):
            if not copy.rule.continuous:
                copy.reset()
            with watched(copy) as seen:
                outcome = copy.learn(stimulus, copy.rule.teacher(label))
            copy.zero_grad()
            if place:
                moments += seen
                answered.append(int(outcome.output.argmax(1)))
    return record(learner.model.dt, moments, y[1:].tolist(), answered)


@contextmanager
def watched(learner: Learner, stream: int = 0) -> Iterator[list[Moment]]:
    """Watch one stream of a learner whose model is :class:`Spiking`; the list grows with every step it makes."""
    model, moments, before = learner.model, [], learner.context.tap
    assert isinstance(model, Spiking), "who calls has seen to it"
    plain = model.step

    def step(state: State, x_t: Tensor) -> tuple[State, Tensor]:
        after, y = plain(state, x_t)
        cells = {
            name: (_row(spikes, stream), None if voltage is None else _row(voltage, stream))
            for name, (spikes, voltage) in model.populations(after).items()
        }
        moments.append(Moment(cells, _row(y, stream)))
        return after, y

    def tap(name: str, message: Tensor, source: str, target: str) -> Tensor:
        # What a wire says before the first step, and what the teacher says, is said by no cell.
        if moments and source != "teacher" and message.dim() == 2:
            moments[-1].messages[name] = _row(message, stream)
        return before(name, message, source, target) if before else message

    vars(model)["step"], learner.context.tap = step, tap  # over the class's own, and off again
    try:
        yield moments
    finally:
        del vars(model)["step"]
        learner.context.tap = before


def firing(moments: Sequence[Moment]) -> dict[str, Tensor]:
    """Who has fired at each step, by population: (steps, cells), bool. The model's come first; then every wire that
    carries events at every step."""
    found = {name: torch.stack([m.cells[name][0] for m in moments]) > 0 for name in moments[0].cells}
    for name in moments[0].messages:
        if all(name in moment.messages for moment in moments):
            said = torch.stack([moment.messages[name] for moment in moments])
            if ((said == 0) | (said == said.max())).all():
                found[name] = said > 0
    return found


def record(
    dt: float, moments: Sequence[Moment], shown: list[int], answered: list[int], cells: Sequence[int] | None = None
) -> Activity:
    """Moments as a record.

    Args:
        dt: length of a step, in seconds.
        moments: of all stimuli, one after the other.
        shown: the label of each.
        answered: what the output took each for.
        cells: whose voltages are kept, of the first population that has any; by default a busy one and two others.
    """
    populations = [_population(name, fired, dt) for name, fired in firing(moments).items()]
    return Activity(
        dt=dt,
        shown=shown,
        answered=answered,
        populations=populations,
        traces=_traces(moments, populations, cells),
        readout=[[round(float(value), 4) for value in m.readout] for m in moments],
    )


def _row(values: Tensor, stream: int) -> Tensor:
    return values[stream].detach().clone()


def _population(name: str, fired: Tensor, dt: float) -> Population:
    size = fired.shape[1]
    cells = torch.linspace(0, size - 1, min(size, CELLS)).round().long().tolist()
    spikes = [fired[:, cell].nonzero().flatten().tolist() for cell in cells]
    return Population(name, size, float(fired.double().mean()) / dt, cells, spikes)


def _traces(moments: Sequence[Moment], populations: Sequence[Population], cells: Sequence[int] | None) -> list[Trace]:
    kept = {name for name, (_, voltage) in moments[0].cells.items() if voltage is not None}
    chosen = next((p for p in populations if p.name in kept), None)
    if chosen is None:
        return []
    if cells is None:
        busiest = sorted(zip(chosen.cells, chosen.spikes, strict=True), key=lambda pair: -len(pair[1]))
        places = dict.fromkeys([0, len(busiest) // 4, len(busiest) // 2])
        cells = [busiest[place][0] for place in places]
    voltages = torch.stack([voltage for m in moments if (voltage := m.cells[chosen.name][1]) is not None])
    return [Trace(chosen.name, cell, [round(float(v), 3) for v in voltages[:, cell]]) for cell in cells]
