"""Rates of LIF neurons as an activation, to train what will run in spikes (Hunsberger & Eliasmith 2015, 2016)."""

import torch
from torch import Tensor, nn

from plausible.core.errors import ConfigurationError
from plausible.functional.lif import Cell, rate, soft_rate

CELL = Cell(tau_rc=0.02, tau_ref=0.002, amplitude=1 / 63.04)
"""Hunsberger's cell: a current of twice the threshold makes it fire at 63 Hz, which then counts as an activity of 1."""


class SoftLIF(nn.Module):
    """The soft rates of LIF neurons under the current J = gain · x + bias, in training with noise.

    The noise stands for what spikes will add to the filtered output of a neuron: Gaussian, of one size for all rates,
    and drawn from torch's global random state. It may make an output negative. Evaluation has none.

    Args:
        cell: the neurons' constants; activities are rates times the amplitude.
        gamma: over how much of the current the corner at the threshold is rounded, in units of the threshold; see
            :func:`plausible.functional.lif.soft_rate`.
        gain: of the current, in units of the threshold.
        bias: likewise; 1 puts a neuron without input at its threshold.
        noise: standard deviation in Hz; the output gets ``noise`` times the amplitude.

    Raises:
        ConfigurationError: a gamma or gain that is not positive, negative noise, or a cell that adapts and so has no
            constant rate.
    """

    def __init__(
        self, cell: Cell = CELL, *, gamma: float = 0.02, gain: float = 1.0, bias: float = 1.0, noise: float = 10.0
    ) -> None:
        super().__init__()
        for name, value in {"gamma": gamma, "gain": gain}.items():
            if not value > 0:
                raise ConfigurationError(f"SoftLIF: {name} is {value!r}; it must be a number above 0.")
        if not noise >= 0:
            raise ConfigurationError(f"SoftLIF: noise is {noise!r}; it is in Hz, 0 for none.")
        if cell.inc_n:
            raise ConfigurationError(
                f"SoftLIF: the cell adapts (inc_n = {cell.inc_n:g}), so its rate is not that of its current. "
                "Leave inc_n at 0."
            )
        self.cell, self.gamma, self.gain, self.bias, self.noise = cell, gamma, gain, bias, noise

    def current(self, x: Tensor) -> Tensor:
        """J, in units of the threshold, in the shape of ``x``."""
        return self.gain * x + self.bias

    def rate(self, x: Tensor) -> Tensor:
        """The rates of spiking neurons, times the amplitude: the same with the corner, and without noise."""
        return rate(self.cell, self.current(x))

    def forward(self, x: Tensor) -> Tensor:
        """Activities in the shape of ``x``."""
        activity = soft_rate(self.cell, self.current(x), self.gamma)
        if self.training and self.noise:
            activity = activity + self.noise * self.cell.amplitude * torch.randn_like(activity)
        return activity

    def extra_repr(self) -> str:
        """For print."""
        return f"{self.cell}, gamma={self.gamma:g}, gain={self.gain:g}, bias={self.bias:g}, noise={self.noise:g}"
