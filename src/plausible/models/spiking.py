"""A recurrent net of spiking neurons with a leaky readout, as in e-prop's experiments (Bellec et al. 2020)."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from plausible.core.errors import ConfigurationError
from plausible.functional.neurons import Leak, Neurons, NeuronState
from plausible.models.checks import one_of, whole
from plausible.models.stepped import SteppedNet


class State(NamedTuple):
    """What the net remembers from step to step.

    Attributes:
        neurons: state of the population.
        y: (N, classes), the readout.
    """

    neurons: NeuronState
    y: Tensor


class RecurrentSpikingNet(SteppedNet):
    """Input → recurrent spiking neurons → leaky linear readout, one time step after another.

    Images (N, C, H, W) are read row by row, sequences (N, T, n_in) entry by entry: see :func:`rsnn`, which builds it.

    Attributes:
        time_axis: the dimension of the inputs along which time runs: 2 of images, 1 of sequences (N, T, n_in).
        stepwise: whether the output has an entry for each step.
        hold: for how many steps each row or entry lasts.
        dt: length of a step, in seconds.
    """

    def __init__(
        self, n_in: int, classes: int, neurons: Neurons, leak: Leak, *, time_axis: int, stepwise: bool, hold: int
    ) -> None:
        super().__init__(stepwise=stepwise)
        self.time_axis, self.hold, self.dt = time_axis, hold, neurons.dt
        self.input = nn.Linear(n_in, neurons.n)
        self.recurrent = nn.Linear(neurons.n, neurons.n, bias=False)
        self.neurons = neurons
        self.readout = nn.Linear(neurons.n, classes)
        self.leak = leak
        with torch.no_grad():
            for layer in (self.input, self.recurrent, self.readout):
                layer.weight.normal_(0, layer.in_features**-0.5)
            self.recurrent.weight.fill_diagonal_(0)  # no neuron drives itself
            self.input.bias.zero_()
            self.readout.bias.zero_()

    def rest(self, x: Tensor) -> State:
        """The state of a net that has never been driven, for inputs like ``x``."""
        weight = self.readout.weight
        return State(self.neurons.rest(len(x), weight), weight.new_zeros(len(x), self.readout.out_features))

    def frames(self, x: Tensor) -> Iterator[Tensor]:
        """What drives the net at each step, (N, n_in)."""
        for row in x.unbind(self.time_axis):
            row = row.flatten(1)
            for _ in range(self.hold):
                yield row

    def step(self, state: State, x_t: Tensor) -> tuple[State, Tensor]:
        """One step under the input (N, n_in): the new state, and the readout (N, classes)."""
        neurons = self.neurons(state.neurons, self.input(x_t) + self.recurrent(state.neurons.z))
        y = self.leak(state.y, self.readout(neurons.z))
        return State(neurons, y), y

    def populations(self, state: State) -> dict[str, tuple[Tensor, Tensor]]:
        """Spikes and voltages (N, n) of the last step; voltages in units of the threshold."""
        return {"neurons": (state.neurons.z, state.neurons.v / self.neurons.threshold)}


def rsnn(
    *,
    shape: tuple[int, ...],
    classes: int,
    width: int = 100,
    adaptive: int = 0,
    hold: int = 1,
    output: str = "mean",
    dt: float = 5e-3,
    tau: float = 20e-3,
    tau_a: float = 200e-3,
    tau_out: float = 20e-3,
    threshold: float = 0.1,
    beta: float = 0.01,
    gamma: float = 0.3,
    refractory: float = 0.0,
) -> RecurrentSpikingNet:
    """``width`` recurrent LIF neurons, the last ``adaptive`` of them with an adaptive threshold, and a leaky readout.

    shape: (C, H, W), images whose rows come one after the other, or (n_in,), for sequences (N, T, n_in).
    hold: number of time steps that each row lasts.
    output: "mean" of the readout over time, or the whole "sequence" of it.
    dt, tau, tau_a, tau_out, refractory: seconds. threshold, beta: in the unit of the voltage. See
    :class:`plausible.functional.neurons.Neurons`. Weights start as N(0, 1 / fan-in), biases as zero.
    """
    if len(shape) not in (1, 3):
        raise ConfigurationError(
            f"model 'rsnn' reads images (C, H, W) row by row, or sequences of vectors (n_in,); examples have shape "
            f"{shape}."
        )
    whole("width", width, 1)
    whole("adaptive", adaptive, 0)
    whole("hold", hold, 1)
    one_of("output", output, ("mean", "sequence"))
    if adaptive > width:
        raise ConfigurationError(f"adaptive is {adaptive}; no more than the {width} neurons (width) can adapt.")
    for name, value in {"dt": dt, "tau": tau, "tau_a": tau_a, "tau_out": tau_out, "threshold": threshold}.items():
        if not value > 0:
            raise ConfigurationError(f"{name} is {value!r}; it must be a number above 0.")
    neurons = Neurons(
        width,
        adaptive=adaptive,
        dt=dt,
        tau=tau,
        tau_a=tau_a,
        threshold=threshold,
        beta=beta,
        gamma=gamma,
        refractory=refractory,
    )
    images = len(shape) == 3
    return RecurrentSpikingNet(
        shape[0] * shape[2] if images else shape[0],
        classes,
        neurons,
        Leak(dt, tau_out),
        time_axis=2 if images else 1,
        stepwise=output == "sequence",
        hold=hold,
    )
