"""Who acts: cells that race, one for each action, of which the first to spike decides.

    J_k = 3 + 5 ⟨y_k⟩ + σ ξ_k(t) from the moment of asking on,    the action is that of the first spike

ξ is standard normal and new at each step, so that what is explored comes from noise at the membrane and not from a
decision elsewhere. The first spike silences the others; lateral inhibition is taken to have no delay. A cell whose
value is 0 takes 8 ms without noise, one whose value is 1 takes 3; if none has fired when the world looks, nothing was
done.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from plausible.functional import lif
from plausible.functional.lif import Cell, Membrane

READY, GAIN = 3.0, 5.0
DECIDING = 0.016
"""How long before the world looks the race begins, in seconds."""


class Race(NamedTuple):
    """Where a race stands.

    Attributes:
        membrane: (N, actions) each.
        won: (N, actions), 1 for the first that has spiked.
    """

    membrane: Membrane
    won: Tensor


def ready(cell: Cell, like: Tensor) -> Race:
    """Cells (N, actions) that have not been asked."""
    return Race(cell.rest(*like.shape, like=like), torch.zeros_like(like))


def raced(cell: Cell, race: Race, values: Tensor, noise: Tensor, dt: float) -> Race:
    """A step of dt seconds of a race under values (N, actions), with the noise σ ξ in their shape."""
    spikes, membrane = lif.step(cell, race.membrane, READY + GAIN * values + noise, dt)
    fired = (spikes > 0) & ~race.won.bool().any(1, keepdim=True)
    # Of cells that fire in one step the first is silent for the shortest time from its beginning on.
    when = torch.where(fired, membrane.silent, torch.inf)
    first = torch.zeros_like(race.won).scatter_(1, when.argmin(1, keepdim=True), 1.0) * fired
    return Race(membrane, race.won + first)
