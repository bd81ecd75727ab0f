"""Neurons in the one form that all of NIR's take after discretisation: see :mod:`plausible.models.nir`."""

import torch
from torch import Tensor, nn

from plausible.functional.neurons import Spike


class Constants(nn.Module):
    """Constants of neurons as buffers, each of one number or one for each neuron."""

    def __init__(self, **values: Tensor) -> None:
        super().__init__()
        for name, value in values.items():
            self.register_buffer(name, value)


class Integrator(Constants):
    """u ← keep · u + gain · x; the output is u + offset. ``keep`` is β, or 1 where nothing leaks."""

    keep: Tensor
    gain: Tensor
    offset: Tensor

    def __init__(self, keep: Tensor, gain: Tensor, offset: Tensor) -> None:
        super().__init__(keep=keep, gain=gain, offset=offset)

    def forward(self, x: Tensor, u: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The output, and u after the step, for an input (N, …); from rest without a u."""
        u = self.gain * x if u is None else self.keep * u + self.gain * x
        return u + self.offset, u


class Firing(Constants):
    """u ← left + gain · x, z = H(u − threshold), and what is left of u in the next step is that of a reset u.

    Args:
        keep: β, or 1 where nothing leaks.
        gain: of the input.
        threshold: above the voltage at rest.
        reset: to which u is set by a spike, above the voltage at rest.
        soft: a spike takes the threshold from the next step's voltage, and ``reset`` is not used.
        gamma: height of the pseudo-derivative γ max(0, 1 − |u − threshold|).
    """

    keep: Tensor
    gain: Tensor
    threshold: Tensor
    reset: Tensor

    def __init__(
        self, keep: Tensor, gain: Tensor, threshold: Tensor, reset: Tensor, *, soft: bool = False, gamma: float = 0.3
    ) -> None:
        super().__init__(keep=keep, gain=gain, threshold=threshold, reset=reset)
        self.soft, self.spike = soft, Spike(gamma)

    def forward(self, x: Tensor, left: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Spikes, 0 or 1, and what is left for the next step, for an input (N, …); from rest if nothing is."""
        u = self.gain * x if left is None else left + self.gain * x
        z = self.spike(u - self.threshold)
        if self.soft:
            return z, self.keep * u - self.threshold * z
        return z, self.keep * torch.where(z > 0, self.reset, u)


class Synaptic(nn.Module):
    """A synapse and, behind it, a membrane."""

    def __init__(self, synapse: Integrator, membrane: Integrator | Firing) -> None:
        super().__init__()
        self.synapse, self.membrane = synapse, membrane

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The membrane's output, and what both remember."""
        current, synapse = self.synapse(x, state and state[0])
        y, membrane = self.membrane(current, state and state[1])
        return y, (synapse, membrane)


class Scale(Constants):
    """scale · x."""

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__(scale=scale)

    def forward(self, x: Tensor) -> Tensor:
        """The input, scaled."""
        return self.scale * x


REMEMBERING = (Integrator, Firing, Synaptic)
