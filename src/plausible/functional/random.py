"""Random numbers that depend on what they are for, and on nothing else."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from plausible.functional.tracing import untraced


@untraced  # hashes are not for a graph
def generator(seed: int, *key: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose stream is a function of ``(seed, *key)`` alone.

    Neither the order in which layers are visited nor the global random state matters, so a feedback
    weight drawn from it is the same on every rank, after every resume and in every process.

    Args:
        seed: the user's seed.
        key: what the numbers are for, such as a layer's name and an iteration; hashed through ``repr``.
        device: where the numbers are drawn; a CPU and a CUDA generator give different streams.
    """
    digest = hashlib.blake2b(repr((seed, *key)).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)


def random_state(device: torch.device) -> list[torch.Tensor]:
    """The global random states that a computation on ``device`` draws from."""
    cpu = torch.get_rng_state()
    return [cpu, torch.cuda.get_rng_state(device)] if device.type == "cuda" else [cpu]


@contextmanager
def replayed(device: torch.device, state: list[torch.Tensor]) -> Iterator[None]:
    """Within, the global random state is ``state``, as :func:`random_state` gave it; afterwards it is as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.set_rng_state(state[0])
        if device.type == "cuda":
            torch.cuda.set_rng_state(state[1], device)
        yield
