"""Numbers too small for the full precision of their type, which cost a processor a hundred times the usual."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def flushed() -> Iterator[None]:
    """Within, they count as 0: what filters forget would otherwise fill their states with them, and halve the speed."""
    already = not torch.tensor(2.0**-140).mul(1.0).item()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(already)
