"""A synapse's change depends on more than the two cells it joins, and what reaches them.

Everything that reaches both cells of a synapse is clamped to what it was: the response of every weight layer, and every
message on the wires, call by call. Then the rest is perturbed, and the synapse's update must not notice: once the
activity of the other presynaptic cells, and once the weights of all other layers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from plausible.audit.criterion import Batch, Unmeasurable, criterion, thresholds
from plausible.audit.finding import Finding, Verdict
from plausible.audit.recording import recorded, weight_layers
from plausible.audit.subject import Specimen, Subject, change
from plausible.audit.synapses import by_neuron, half, neurons_axis, outgoing

NAME = "locality"
EXAMPLES = 64
SIZE = 0.5  # of a perturbation, relative to what it perturbs
TURNS = 3  # halves of the cells to try: all that are alive, of a layer of few, may lie in one

Noise = Callable[[Tensor], Tensor]


@criterion(NAME, order=10)
def locality(subject: Subject, batch: Batch) -> Finding:
    """Clamp what reaches both cells of each synapse, perturb the rest, and compare the updates."""
    limits = thresholds(NAME)
    if not subject.wired:
        raise Unmeasurable(
            "Its messages pass through no wires, so those that reach a synapse's cells cannot be clamped."
        )
    world = _World(subject, batch.first(EXAMPLES))
    if not world.taught:
        why = "no linear or convolutional layer is taught"
        return Finding(criterion=NAME, verdict="does not apply", sentence=f"Nothing to measure: {why}.")
    cells = {name: moved for name in world.taught if (moved := world.other_cells(name)) is not None}
    weights = {name: world.other_weights(name) for name in world.taught} if len(world.record.order) > 1 else {}
    measured = [name for name in world.taught if name in {*cells, *weights}]
    if not measured:
        raise Unmeasurable("Nothing that could be perturbed beside a synapse's own cells leaves these as they are.")
    layers = {name: max(cells.get(name, 0.0), weights.get(name, 0.0)) for name in measured}
    bad = [name for name, moved in layers.items() if moved >= limits["depends"]]
    verdict: Verdict = "solved" if not bad else "violated" if len(bad) == len(layers) else "partly"
    worst = max(layers.values())
    kinds = (("other presynaptic cells", cells), ("the weights of other layers", weights))
    perturbed = " and ".join(words for words, found in kinds if found)
    seen = "no synapse's update changed"
    if bad:
        seen = f"updates of {', '.join(bad)} changed by up to {worst:.2g} of themselves"
    together = [name for name in measured if name not in cells]
    if together:
        seen += f" (in {', '.join(together)}, other presynaptic cells could not be perturbed apart)"
    return Finding(
        criterion=NAME,
        verdict=verdict,
        sentence=f"With all that reaches both cells of a synapse clamped, and {perturbed} perturbed, {seen}.",
        value=worst,
        unit="relative change",
        layers=layers,
        samples=len(layers),
        thresholds=limits,
        also={
            **{f"other presynaptic cells: {name}": moved for name, moved in cells.items()},
            **{f"other layers' weights: {name}": moved for name, moved in weights.items()},
        },
    )


@dataclass(frozen=True)
class _Disturbance:
    """Where the activity of some cells is perturbed.

    Attributes:
        cells: which of the neurons there: (neurons,) bool.
        x: what the net is given instead of its input.
        response: of this layer: what the cells' own input becomes.
        entry: of this layer: what enters it instead.
        noise: what is done to ``response`` or ``entry``.
    """

    cells: Tensor
    x: Tensor | None = None
    response: str | None = None
    entry: str | None = None
    noise: Noise = field(default=lambda x: x)


class _World:
    """One call of ``learn`` that can be repeated with everything clamped.

    Attributes:
        record: what the layers met.
        messages: by wire, what it carried, call by call.
        updates: what came of it.
        taught: the layers whose weights have an update.
    """

    def __init__(self, subject: Subject, batch: Batch) -> None:
        self._subject, self._batch = subject, batch
        self.messages: dict[str, list[Tensor]] = {}
        specimen = subject.copy()
        self._layers = weight_layers(specimen.model)

        def listen(name: str, message: Tensor, source: str, target: str) -> Tensor:
            self.messages.setdefault(name, []).append(message.detach().clone())
            return message

        specimen.tap(listen)
        with recorded(specimen.model) as self.record:
            self.updates = specimen.update(batch.x, batch.y)
        self.taught = [n for n in self.record.order if _weight(n) in self.updates and self.updates[_weight(n)].any()]

    def other_weights(self, name: str) -> float:
        """The relative change of the layer's update when the weights of all other layers change."""
        specimen = self._subject.copy()
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for other, layer in weight_layers(specimen.model).items():
                if other != name:
                    layer.get_parameter("weight").copy_(_noisy(layer.get_parameter("weight"), draw))
        key = _weight(name)
        return change({key: self.updates[key]}, {key: self._again(specimen)[key]})

    def other_cells(self, name: str) -> float | None:
        """The relative change of the updates at some presynaptic cells when the activity of others changes.

        The others are perturbed in what drives them, or, if that cannot be confined to them, as they reach the layer.

        Returns:
            None if neither is possible, or their own synapses do not notice.
        """
        place = self.record.order.index(name)
        for turn in range(TURNS):
            before = self._in_input(name, turn) if place == 0 else self._in_drive(self.record.order[place - 1], turn)
            for disturbance in (before, self._in_entry(name, turn)):
                found = None if disturbance is None else self._compare(name, disturbance)
                if found is not None:
                    return found
        return None

    def _in_input(self, name: str, turn: int) -> _Disturbance | None:
        x, axis = self._batch.x, neurons_axis(self._layers[name])
        if not x.is_floating_point():
            return None
        if x.shape[axis] != self.record.inputs[name][0].shape[axis]:
            cells = _half(x[0].numel(), turn)
            return _Disturbance(cells, x=torch.where(cells.view(x.shape[1:]), _noisy(x, _draw()), x))
        cells = _half(x.shape[axis], turn)
        return _Disturbance(cells, x=_only(cells, axis)(x))

    def _in_drive(self, sender: str, turn: int) -> _Disturbance:
        axis = neurons_axis(self._layers[sender])
        cells = _half(self.record.outputs[sender][0].shape[axis], turn)
        return _Disturbance(cells, response=sender, noise=_only(cells, axis))

    def _in_entry(self, name: str, turn: int) -> _Disturbance:
        axis = neurons_axis(self._layers[name])
        cells = _half(self.record.inputs[name][0].shape[axis], turn)
        return _Disturbance(cells, entry=name, noise=_only(cells, axis))

    def _compare(self, name: str, disturbance: _Disturbance) -> float | None:
        specimen, layer = self._subject.copy(), self._layers[name]
        with recorded(specimen.model) as again:
            updates = self._again(specimen, disturbance)
        pairs = zip(self.record.inputs[name], again.inputs[name], strict=True)
        moved = torch.stack([(by_neuron(layer, a) != by_neuron(layer, b)).any(1) for a, b in pairs]).any(0)
        before, after = (outgoing(layer, each[_weight(name)]) for each in (self.updates, updates))
        if not moved.any() or moved.all() or torch.equal(before[moved], after[moved]):
            return None
        before, after = before[~moved], after[~moved]
        if disturbance.response and self.record.events.count(name) > 1 and before.shape[1] == len(disturbance.cells):
            # In a loop, the cells perturbed may be those that the layer drives, whose synapses have a right to notice.
            before, after = before[:, ~disturbance.cells], after[:, ~disturbance.cells]
        return change({name: before}, {name: after})

    def _again(self, specimen: Specimen, disturbance: _Disturbance | None = None) -> dict[str, Tensor]:
        """The updates, with all responses and messages as they were; ``disturbance`` comes on top."""
        other = disturbance or _Disturbance(torch.zeros(0))
        handles = []
        for name, layer in weight_layers(specimen.model).items():
            held = _Held(self.record.outputs.get(name, []), f"calls of {name}")

            def enter(_: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> tuple[Tensor, ...]:
                return (other.noise(inputs[0]), *inputs[1:]) if name == other.entry else inputs

            def leave(_: nn.Module, inputs: object, output: Tensor, name: str = name, held: _Held = held) -> Tensor:
                value = other.noise(held.next()) if name == other.response else held.next()
                return value + (output - output.detach())  # the value is held; an error still finds its way

            handles += [layer.register_forward_pre_hook(enter), layer.register_forward_hook(leave)]
        wires = {name: _Held(carried, f"messages on {name}") for name, carried in self.messages.items()}
        nothing = _Held([], "wires")
        specimen.tap(lambda name, *_: wires.get(name, nothing).next())
        updates = specimen.update(self._batch.x if other.x is None else other.x, self._batch.y)
        for handle in handles:
            handle.remove()
        return updates


class _Held:
    """What is delivered, call by call, in place of what would be."""

    def __init__(self, values: list[Tensor], what: str) -> None:
        self._values, self._what = iter(values), what

    def next(self) -> Tensor:
        """The next of them.

        Raises:
            Unmeasurable: there are no more.
        """
        try:
            return next(self._values).clone()
        except StopIteration:
            raise Unmeasurable(
                f"Perturbed, it has more {self._what} than undisturbed: these cannot be clamped."
            ) from None


def _only(cells: Tensor, axis: int) -> Noise:
    draw = _draw()
    return lambda x: torch.where(cells.to(x.device), _noisy(x, draw).movedim(axis, -1), x.movedim(axis, -1)).movedim(
        -1, axis
    )


def _noisy(x: Tensor, draw: torch.Generator) -> Tensor:
    return x + SIZE * x.detach().std() * torch.randn(x.shape, generator=draw).to(x)


def _half(neurons: int, turn: int) -> Tensor:
    return half(neurons, torch.Generator().manual_seed(turn))


def _draw() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def _weight(layer: str) -> str:
    return f"{layer}.weight" if layer else "weight"
