"""Copies of a learner on the ranks of ``torch.distributed`` that learn as one: same state, rows of one batch."""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


class Ranks:
    """The processes that share a batch, each of which has as many rows of it.

    Args:
        group: of ``torch.distributed``; None for a learner that is alone.

    Attributes:
        rank: which of them this is.
        count: how many there are.
        apart: whether gradients are left as they are, each rank's its own.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group
        self.rank, self.count = (0, 1) if group is None else (dist.get_rank(group), dist.get_world_size(group))
        self.apart = False

    def __reduce__(self) -> tuple[Any, ...]:
        return Ranks, ()  # a copy of a learner, and one that comes out of a file, is alone

    def rows(self, n: int, draw: Callable[[int], Tensor]) -> Tensor:
        """This rank's ``n`` rows of what ``draw`` gives for the rows of all, so that it is what one process would draw
        for the whole batch."""
        return draw(n) if self.count == 1 else draw(n * self.count)[self.rank * n : (self.rank + 1) * n]

    def unite(self, tensors: Iterable[Tensor]) -> None:
        """Give ``tensors`` the values that they have on the first rank."""
        _together(tensors, lambda flat: dist.broadcast(flat, group=self.group, group_src=0))

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Give ``tensors`` the mean of their values on all ranks."""
        _together(tensors, lambda flat: dist.all_reduce(flat.div_(self.count), group=self.group))

    def average_grads(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give gradients the mean over all ranks; None counts as zero, unless it is None everywhere."""
        if not parameters:
            return
        taught = torch.tensor([p.grad is not None for p in parameters], dtype=torch.uint8, device=parameters[0].device)
        dist.all_reduce(taught, op=dist.ReduceOp.MAX, group=self.group)
        moved = [p for p, yes in zip(parameters, taught.tolist(), strict=True) if yes]
        for p in moved:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        self.average(p.grad for p in moved if p.grad is not None)


def shared_as(value: Tensor, weight: Tensor) -> Tensor:
    """``value``, which is the same on all ranks, in parts on them as ``weight`` is, if that is and has its shape."""
    if isinstance(weight, DTensor) and not isinstance(value, DTensor) and value.shape == weight.shape:
        return distribute_tensor(value, weight.device_mesh, weight.placements, src_data_rank=None)
    return value


def sharded(model: nn.Module) -> bool:
    """Whether its Parameters lie in parts on several ranks, as ``fully_shard`` leaves them."""
    return any(isinstance(p, DTensor) for p in model.parameters())


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that is in parts on several ranks; a plain one as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _together(tensors: Iterable[Tensor], exchange: Callable[[Tensor], Any]) -> None:
    """One exchange for all tensors of a type and device, rather than one for each."""

    def kind(t: Tensor) -> str:
        return f"{t.device} {t.dtype}"

    with torch.no_grad():
        for _, alike in groupby(sorted(tensors, key=kind), kind):
            members = list(alike)
            flat = torch.cat([t.reshape(-1) for t in members])
            exchange(flat)
            for t, part in zip(members, flat.split([t.numel() for t in members]), strict=True):
                t.copy_(part.view_as(t))
