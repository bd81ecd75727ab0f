"""The processes of one run: those that ``torchrun`` has started, or this one alone."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
import torch.distributed as dist

from plausible.core.errors import PlausibleError
from plausible.core.ranks import Ranks

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others: as long as the first may take to evaluate, or to fetch data."""

_LOST = ("peer", "Connection", "connection", "Socket", "NCCL", "timed out", "Timed out")


class Lost(PlausibleError):
    """Another process of the same run has ended, or does not answer."""


class Team(Ranks):
    """The processes that train one run together. The first of them leads: it alone writes and speaks."""

    @property
    def leads(self) -> bool:
        """Whether this is the first."""
        return self.rank == 0

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all processes; ``tensor`` stays as it is."""
        if self.count == 1:
            return tensor
        tensor = tensor.clone()
        dist.all_reduce(tensor, group=self.group)
        return tensor

    def largest(self, *numbers: int) -> list[int]:
        """The largest of each number over all processes, so that what one of them wants all do."""
        if self.count == 1:
            return [*numbers]
        every: list[Any] = [None] * self.count
        dist.all_gather_object(every, numbers, group=self.group)
        return [max(each) for each in zip(*every, strict=True)]

    def told(self, value: Any) -> Any:
        """What the leader has for ``value``."""
        if self.count == 1:
            return value
        message = [value]
        dist.broadcast_object_list(message, src=0, group=self.group)
        return message[0]

    def known(self, facts: dict[str, str]) -> dict[str, str]:
        """What any of them knows."""
        if self.count == 1:
            return facts
        every: list[Any] = [None] * self.count
        dist.all_gather_object(every, facts, group=self.group)
        return {key: value for each in every for key, value in each.items()}

    def gathered(self, rows: list[torch.Tensor]) -> list[torch.Tensor]:
        """Tensors whose rows are those of all processes."""
        if self.count == 1:
            return rows
        return [torch.cat(self._every(part)) for part in rows]

    def own(self, rows: list[torch.Tensor]) -> list[torch.Tensor]:
        """This process' rows of what :meth:`gathered` gave."""
        return [part.chunk(self.count)[self.rank] for part in rows]

    def _every(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        found = [torch.empty_like(tensor) for _ in range(self.count)]
        dist.all_gather(found, tensor.contiguous(), group=self.group)
        return found


@contextmanager
def team(device: torch.device) -> Iterator[Team]:
    """The processes that ``torchrun`` has started with this one.

    Raises:
        Lost: one of them has ended.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "MASTER_ADDR" not in os.environ:
        yield Team()
        return
    began = not dist.is_initialized()
    if began:
        if device.type == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) if device.index is None else device.index)
        # Numbers that only decide go by the CPU, where nobody has to wait for the GPU.
        _meet("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield Team(dist.group.WORLD)
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not any(word in str(error) for word in _LOST):
            raise
        raise Lost(
            f"Another process of this run has ended or does not answer ({shorten(str(error), 120)}). What torchrun "
            "prints says which, and why. All until the last checkpoint is kept: the same command goes on from there; "
            "torchrun --max-restarts=N gives it again by itself."
        ) from error
    finally:
        if began and dist.is_initialized():
            dist.destroy_process_group()


def _meet(backend: str) -> None:
    """Find the other processes."""
    own: dict[str, Any] = {}
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # Those that are started again find in torchrun's store where those before them were, and wait there.
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        start = f"start-{os.environ['TORCHELASTIC_RESTART_COUNT']}"
        meeting: Any = dist  # whose stubs do not know its stores
        store = meeting.PrefixStore(start, meeting.TCPStore(address, port, is_master=False, timeout=PATIENCE))
        own = {"store": store, "rank": int(os.environ["RANK"]), "world_size": int(os.environ["WORLD_SIZE"])}
    dist.init_process_group(backend, timeout=PATIENCE, **own)


@contextmanager
def directory_of(team: Team, directory: str | Path) -> Iterator[Path]:
    """Where a process writes: the leader in the run's directory, the others where it is forgotten."""
    if team.leads:
        yield Path(directory)
        return
    with tempfile.TemporaryDirectory() as nowhere:
        yield Path(nowhere)
