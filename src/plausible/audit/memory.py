"""The most memory that a computation holds at once, counted and not sampled: exact, and free of noise."""

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_bytes(computation: Callable[[], object]) -> int:
    """The most bytes of tensors that lived at once among those that ``computation`` brought forth, on any device.

    Blind to scratch memory inside an operation.
    """
    with _Allocations() as allocations:
        computation()
    return allocations.peak


def kept_bytes(computation: Callable[[], object]) -> int:
    """The bytes of tensors that ``computation`` brought forth and that outlive it, its result apart, on any device."""
    with _Allocations() as allocations:
        computation()
    return allocations.now


class _Allocations(TorchDispatchMode):
    """Counts the bytes of the storages that operations bring forth, for as long as each lives.

    A storage that an operation returns and was not given is new; a view's and an in-place result's are not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id(storage) for storage in storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage in storages(result):
            if id(storage) not in given and id(storage) not in self._alive:
                self._alive[id(storage)] = storage.nbytes()
                self.now += storage.nbytes()
                weakref.finalize(storage, self._freed, id(storage))
        self.peak = max(self.peak, self.now)
        return result

    def _freed(self, key: int) -> None:
        self.now -= self._alive.pop(key)


def storages(tree: Any) -> Iterator[torch.UntypedStorage]:
    """The storages of the tensors in a nest of containers."""
    return (leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
