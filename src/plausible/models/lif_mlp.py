"""A multi-layer perceptron of LIF neurons, spiking from the sensors to the output (after Hunsberger 2018).

    sensors   s⁰: an on and an off cell for each input; or on cells only
    hidden    J^l = 1 + α ∗ (W^l s^{l−1} + b^l), at its threshold without input
    output    a population of the NEF stands for x = α ∗ (V s^L + c), and is read as y = α ∗ (D s)

α is an alpha synapse. What a population sends arrives one step later, as in nengo.
"""

from collections.abc import Iterable, Iterator
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from plausible.core.errors import ConfigurationError
from plausible.functional import lif, nef, steady
from plausible.functional.ensemble import Ensemble
from plausible.functional.lif import Cell, Membrane
from plausible.functional.random import generator
from plausible.functional.steady import Steady
from plausible.functional.synapses import Alpha, AlphaState
from plausible.functional.units import seconds
from plausible.models.checks import one_of, whole
from plausible.models.stepped import SteppedNet


class Cells(NamedTuple):
    """A population that is driven by weights.

    Attributes:
        synapse: its filtered input, (N, n), or (N, d) where it stands for a vector.
        membrane: (N, n) each.
        spikes: (N, n), of the last step.
    """

    synapse: AlphaState
    membrane: Membrane
    spikes: Tensor


class State(NamedTuple):
    """What the net remembers from step to step.

    Attributes:
        sensors: under a stimulus that stays.
        seen: (N, sensors), their spikes of the last step.
        hidden: first layer to last.
        output: of the population at the output.
        y: the readout (N, classes), with its filter.
    """

    sensors: Steady
    seen: Tensor
    hidden: tuple[Cells, ...]
    output: Cells
    y: AlphaState


class Sensors(nn.Module):
    """Cells that answer to a number each, from an intercept on; their greatest rates lie between 100 and 120 Hz.

    Args:
        n: numbers.
        cell: the constants.
        dt: length of a step, in seconds.
        off: whether there is a second cell for each, which answers to its negative.
        reach: the number that drives a cell at its greatest rate.
        intercept: where cells begin to fire, as a fraction of the reach.
        seed: of the greatest rates.
    """

    gain: Tensor
    bias: Tensor

    def __init__(self, n: int, cell: Cell, dt: float, *, off: bool, reach: float, intercept: float, seed: int) -> None:
        super().__init__()
        self.off, self.cell, self.dt = off, cell, dt
        cells = 2 * n if off else n
        rates = 100 + 20 * torch.rand(cells, generator=generator(seed, "sensors"), dtype=torch.float64)
        gain, bias = nef.gain_bias(cell, rates, torch.full_like(rates, intercept))
        self.register_buffer("gain", (gain / reach).float())
        self.register_buffer("bias", bias.float())

    def current(self, x: Tensor) -> Tensor:
        """J (N, cells) under the numbers (N, n)."""
        return torch.addcmul(self.bias, torch.cat([x, -x], 1) if self.off else x, self.gain)

    def forward(self, current: Tensor, state: Steady) -> tuple[Tensor, Steady]:
        """Spikes and the new state."""
        return steady.step(self.cell, state, current, self.dt)


class SpikingPerceptron(SteppedNet):
    """Sensors → hidden layers of LIF neurons → an output population. :func:`lif_mlp` builds it.

    Attributes:
        hold: for how many steps an image is shown in a call.
        linear1, linear2, …, readout: what is learned.
    """

    decoders: Tensor
    voltages: Tensor

    def __init__(
        self, widths: list[int], classes: int, sensors: Sensors, output: Ensemble, decoders: Tensor, *,
        cell: Cell, dt: float, synapse: float, hold: int, settle: float, bias: bool, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(stepwise=False)
        self.time_axis = 1  # an image is a sequence of one entry
        self.dt, self.hold, self.settle, self.synapse = dt, hold, settle, Alpha(synapse)
        self.sensors = sensors
        for i, (n_in, n) in enumerate(zip([len(sensors.gain), *widths], widths, strict=False), start=1):
            self.add_module(f"linear{i}", nn.Linear(n_in, n, bias=bias))
        self.readout = nn.Linear(widths[-1], classes, bias=bias)
        self.neurons, self.output = lif.Population(cell, dt), output
        self.register_buffer("decoders", decoders)
        voltages = torch.rand(max(*widths, output.n), generator=generator(seed, "voltages"))
        self.register_buffer("voltages", voltages, persistent=False)
        self.depth = len(widths)

    @property
    def hidden(self) -> dict[str, nn.Linear]:
        """The layers below the readout, by name, first to last."""
        layers = {f"linear{i}": self.get_submodule(f"linear{i}") for i in range(1, self.depth + 1)}
        return {name: layer for name, layer in layers.items() if isinstance(layer, nn.Linear)}

    def rest(self, x: Tensor) -> State:
        """The state of a net that has never been driven, for inputs like ``x``; voltages differ from cell to cell."""
        N, like, cell = len(x), self.readout.weight, self.neurons.cell

        def cells(n: int, d: int) -> Cells:
            membrane = cell.rest(N, n, like=like, v=self.voltages[:n])
            return Cells(self.synapse.rest(like.new_zeros(N, d)), membrane, like.new_zeros(N, n))

        n_in, d = len(self.sensors.gain), self.readout.out_features
        return State(
            steady.rest(cell, N, n_in, like=like),
            like.new_zeros(N, n_in),
            tuple(cells(layer.out_features, layer.out_features) for layer in self.hidden.values()),
            cells(self.output.n, d),
            self.synapse.rest(like.new_zeros(N, d)),
        )

    def frames(self, x: Tensor) -> Iterator[Tensor]:
        """The currents (N, sensors) of the sensors at each step."""
        current = self.sensors.current(x.flatten(1))
        for _ in range(self.hold):
            yield current

    def step(self, state: State, x_t: Tensor) -> tuple[State, Tensor]:
        """One step under the sensors' currents: the new state, and the readout (N, classes)."""
        seen, sensors = self.sensors(x_t, state.sensors)
        before, hidden = state.seen, []
        for layer, cells in zip(self.hidden.values(), state.hidden, strict=True):
            j, synapse = self.synapse.step(cells.synapse, layer(before), self.dt)
            spikes, membrane = self.neurons(j + 1, cells.membrane)
            hidden.append(Cells(synapse, membrane, spikes))
            before = cells.spikes
        x, synapse = self.synapse.step(state.output.synapse, self.readout(before), self.dt)
        spikes, membrane = self.output(x, state.output.membrane)
        y, filtered = self.synapse.step(state.y, state.output.spikes @ self.decoders.t(), self.dt)
        return State(sensors, seen, tuple(hidden), Cells(synapse, membrane, spikes), filtered), y

    def populations(self, state: State) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Spikes (N, n) of the last step by population, sensors first, and voltages (N, n); the sensors' are not kept.

        A hidden population has the name of the layer that drives it.
        """
        hidden = zip(self.hidden, state.hidden, strict=True)
        return {
            "sensors": (state.seen, None),
            **{name: (cells.spikes, cells.membrane.v) for name, cells in hidden},
            "output": (state.output.spikes, state.output.membrane.v),
        }

    def summary(self, readouts: Iterable[Tensor]) -> Tensor:
        """The output of a call (N, classes): the mean readout after the net has settled."""
        kept = list(readouts)
        return torch.stack(kept[int(self.settle * len(kept)) :]).mean(0)


def lif_mlp(
    *,
    shape: tuple[int, ...],
    classes: int,
    width: int = 100,
    depth: int = 2,
    dt: float = 2e-3,
    shown: float = 0.08,
    settle: float = 0.5,
    sensors: str = "on-off",
    reach: float = 2.5,
    intercept: float = 0.0,
    cells: int = 20,
    decoders: str = "least-squares",
    tau_rc: float = 0.02,
    tau_ref: float = 0.002,
    amplitude: float = 0.01,
    synapse: float = 3e-3,
    bias: bool = False,
    spread: float = 0.1,
    seed: int = 0,
) -> SpikingPerceptron:
    """``depth`` hidden layers of ``width`` LIF neurons, and a population of ``cells`` for each class at the output.

    shape: of one example, flattened.
    dt, shown: length of a step, and for how long an image is shown, in seconds.
    settle: the part of that time at its beginning that the output leaves out.
    sensors: "on-off", a pair of cells for each input, or "on"; driven at their greatest rate by ``reach``, silent up
        to ``intercept`` · reach.
    decoders: of the output: "least-squares", or "paired": the encoders themselves, times one number.
    tau_rc, tau_ref, synapse: seconds. amplitude: the integral of a spike.
    bias: whether layers have one. spread: hidden weights start as N(0, spread²), those of the readout a tenth of it.
    seed: of the cells' tuning, which is not learned.
    """
    whole("width", width, 1)
    whole("depth", depth, 1)
    whole("cells", cells, 2)
    one_of("sensors", sensors, ("on-off", "on"))
    one_of("decoders", decoders, ("least-squares", "paired"))
    if cells % 2:
        raise ConfigurationError(f"cells is {cells}; half of them are on cells and half off: take an even number.")
    if not 0 <= settle < 1:
        raise ConfigurationError(f"settle is {settle!r}; it is a part of the time shown, from 0 to below 1.")
    try:
        cell = Cell(tau_rc=tau_rc, tau_ref=tau_ref, amplitude=amplitude)
        senses = Sensors(prod(shape), cell, dt, off=sensors == "on-off", reach=reach, intercept=intercept, seed=seed)
        output = Ensemble(
            cells * classes, classes, cell=cell, dt=dt, max_rates=(100.0, 120.0),
            encoders=nef.on_off(cells * classes, classes), seed=seed,
        )  # fmt: skip
        hold = round(seconds("shown", shown, most=10.0) / dt)
        read = output.paired() if decoders == "paired" else output.decoders()
        net = SpikingPerceptron(
            [width] * depth, classes, senses, output, read,
            cell=cell, dt=dt, synapse=synapse, hold=max(hold, 1), settle=settle, bias=bias, seed=seed,
        )  # fmt: skip
    except ValueError as error:
        raise ConfigurationError(f"model 'lif-mlp': {error}") from error
    with torch.no_grad():
        for layer in net.hidden.values():
            layer.weight.normal_(0, spread)
            if layer.bias is not None:
                layer.bias.zero_()
        net.readout.weight.normal_(0, 0.1 * spread)
        if net.readout.bias is not None:
            net.readout.bias.zero_()
    return net
