"""Populations of spiking neurons, one behind the other, between what was trained for their rates."""

import copy
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from plausible.functional.lif import Membrane, Population
from plausible.functional.synapses import Alpha, LowPass
from plausible.models.soft_lif import SoftLIF
from plausible.models.stepped import SteppedNet

Synapse = Alpha | LowPass


class Cells(NamedTuple):
    """What a population remembers from step to step; every tensor has the shape (N, …) of its units.

    Attributes:
        membrane: of the neurons.
        synapse: of the synapses that the neurons' spikes reach.
        spikes: of the last step, 0 or amplitude / dt.
        filtered: what has come through the synapses; it drives the next population in the next step.
    """

    membrane: Membrane
    synapse: Any
    spikes: Tensor
    filtered: Tensor


class SpikingNet(SteppedNet):
    """Spiking neurons that look at a still image: what :func:`plausible.models.to_spikes` gives.

    A spike reaches the next population one step later, as in nengo, so a wave takes a step for each layer.

    Attributes:
        names: of the populations, in the model that was converted.
        blocks: what stands before each population, and after the last.
        units: the soft LIF units of the populations, which have their currents and rates.
        duration: of the presentation, in seconds.
        window: over which the readout is averaged, from and to, in seconds after the beginning.
    """

    def __init__(
        self,
        blocks: list[nn.Sequential],
        units: dict[str, SoftLIF],
        synapse: Synapse,
        dt: float,
        duration: float,
        window: tuple[float, float],
    ) -> None:
        super().__init__(stepwise=False)
        self.time_axis: int | None = None  # the image stands still
        self.names, self.synapse, self.dt, self.duration, self.window = tuple(units), synapse, dt, duration, window
        self.blocks = nn.ModuleList(blocks)
        self.units = tuple(units.values())
        self.populations = nn.ModuleList(Population(unit.cell, dt) for unit in self.units)

    def train(self, mode: bool = True) -> "SpikingNet":
        """Nothing in here learns: dropout stays off, and batch normalisation at its statistics."""
        return super().train(False)

    def rest(self, x: Tensor) -> tuple[Cells, ...]:
        """The state of a net that has never been driven, for images like ``x``."""
        cells, h = [], x
        for block in self.blocks[:-1]:
            h = torch.zeros_like(block(h))
            cells.append(Cells(Membrane(h, h, h), self.synapse.rest(h), h, h))
        return tuple(cells)

    def frames(self, x: Tensor) -> Iterator[Tensor]:
        """What drives the first population at each step, before gain and bias: the same for the whole presentation."""
        drive = self.blocks[0](x)
        for _ in range(round(self.duration / self.dt)):
            yield drive

    def step(self, state: tuple[Cells, ...], x_t: Tensor) -> tuple[tuple[Cells, ...], Tensor]:
        """One step under the drive of the first population: the new state, and the readout (N, classes)."""
        drives = [x_t, *(block(cells.filtered) for block, cells in zip(self.blocks[1:-1], state, strict=False))]
        new = []
        for unit, population, cells, drive in zip(self.units, self.populations, state, drives, strict=True):
            spikes, membrane = population(unit.current(drive), cells.membrane)
            filtered, synapse = self.synapse.step(cells.synapse, spikes, self.dt)
            new.append(Cells(membrane, synapse, spikes, filtered))
        return tuple(new), self.blocks[-1](new[-1].filtered)

    def summary(self, readouts: Iterable[Tensor]) -> Tensor:
        """The mean of the readouts (N, classes) in the window."""
        first, last = (round(t / self.dt) for t in self.window)
        within = [y for k, y in enumerate(readouts) if first <= k < last]
        return torch.stack(within).mean(0)

    def at_rates(self, x: Tensor) -> Tensor:
        """The output (N, classes) with all neurons at the constant rates of their currents, without a soft corner.

        With one population it is what the mean readout comes to. Later populations get currents that ripple with the
        spikes, and a neuron's mean rate is not that of its mean current: the longer the synapse, the closer it is.
        """
        for block, unit in zip(self.blocks[:-1], self.units, strict=True):
            x = unit.rate(block(x))
        return self.blocks[-1](x)

    def fan_out(self, x: Tensor) -> list[Tensor]:
        """How many synapses a spike of each unit reaches, (1, …) for each population; ``x``: one image or more.

        Pooled units have the synapses of their pool, whose windows are taken not to overlap.
        """
        counts = []
        for block, cells in zip(self.blocks[1:], self.rest(x[:1]), strict=True):
            ones = copy.deepcopy(block)
            for name, value in ones.state_dict(keep_vars=True).items():
                value.fill_(0 if name.endswith("running_mean") else 1)
            with torch.enable_grad():  # all weights are alike, so the derivatives differ by the number of ways alone
                h = torch.zeros_like(cells.filtered, requires_grad=True)
                reached = ones(h)
                (total,) = torch.autograd.grad(reached.sum(), h, retain_graph=True)
                (of_one,) = torch.autograd.grad(reached.flatten()[0], h)
            counts.append((total / of_one.max()).round())
        return counts

    def extra_repr(self) -> str:
        """For print."""
        return f"synapse={self.synapse}, dt={self.dt:g}, duration={self.duration:g}, window={self.window}"
