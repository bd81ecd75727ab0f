"""Random numbers that an experiment has to itself, whichever library draws them."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class RandomStreams:
    """The global random states of torch, NumPy and ``random``, seeded, and kept apart from everybody else's.

    Calling it gives a context in which they are in force; the next context goes on where the last one ended, and
    outside nothing has been drawn.
    """

    def __init__(self, seed: int) -> None:
        outside = _states()
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        self._mine = _states()
        _restore(outside)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Within, everybody draws from these streams."""
        outside = _states()
        _restore(self._mine)
        try:
            yield
        finally:
            self._mine = _states()
            _restore(outside)


def _states() -> tuple[Any, ...]:
    # The generators of all CUDA devices, but only once something has woken CUDA: seeding it must not.
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return torch.get_rng_state(), cuda, np.random.get_state(), random.getstate()


def _restore(states: tuple[Any, ...]) -> None:
    cpu, cuda, numpy, python = states
    torch.set_rng_state(cpu)
    if cuda:
        torch.cuda.set_rng_state_all(cuda)
    np.random.set_state(numpy)
    random.setstate(python)
