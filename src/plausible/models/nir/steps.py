"""From time constants to what is left after a step, and back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plausible.core.errors import ConfigurationError
from plausible.functional.units import seconds

Array = NDArray[np.float64]

SOFT = "subtract"
"""What the entry "reset" in a node's metadata says of neurons from whose voltage a spike takes the threshold."""


@dataclass(frozen=True)
class Steps:
    """Steps of ``dt`` seconds.

    Attributes:
        dt: length of a step, in seconds.
        exact: whether β = exp(−dt / τ), else forward Euler's 1 − dt / τ.

    Raises:
        ConfigurationError: ``dt`` is no time in seconds.
    """

    dt: float
    exact: bool

    def __post_init__(self) -> None:
        try:
            seconds("dt", self.dt)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error

    def keep(self, tau: Array, where: str) -> Array:
        """β for time constants ``tau``, in seconds.

        Raises:
            ConfigurationError: a time constant is no positive number, or shorter than a step of forward Euler.
        """
        if not (np.isfinite(tau).all() and (tau > 0).all()):
            raise ConfigurationError(f"{where} is {tau.min():g}: a time constant is a number of seconds above 0.")
        if self.exact:
            return np.exp(-self.dt / tau)
        if (tau < self.dt).any():
            raise ConfigurationError(
                f"{where} is {tau.min():g} s, less than the step of {self.dt:g} s, at which forward Euler overshoots. "
                "Take a smaller dt, or exact=True."
            )
        return 1 - self.dt / tau

    def tau(self, keep: Array) -> Array:
        """The time constants, in seconds, of which so much is left: the inverse of :meth:`keep`."""
        return -self.dt / np.log(keep) if self.exact else self.dt / (1 - keep)
