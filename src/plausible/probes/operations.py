"""How many arithmetic operations a computation takes: counted as it runs, whatever code it runs through.

A synapse multiplies what comes in by its weight and adds the product to a sum. Hardware counts that in two ways:

* Conventional hardware does a multiply–accumulate (MAC) for every pair, zeros and the padding of a convolution too.
* Event-driven hardware does a synaptic operation only where something arrives at a synapse that is there: both factors
  of the product are nonzero. In a forward pass that is, for each nonzero input, its fan-out. Where all nonzero entries
  of one factor have one magnitude (spikes, signs), adding or subtracting is enough, and it is an accumulate (AC).

This is NeuroBench's division into dense and effective operations, and of these into MACs and ACs (Yik et al. 2025, "The
neurobench framework for benchmarking neuromorphic computing algorithms and systems"). It is applied here to every
product of matrices and every convolution, so that the feedback and the change of weights are counted by the same
measure as the forward pass: an error times a feedback weight, an error times a presynaptic activity.

What is done entry by entry (activation functions and their derivatives, traces, products of a trace and a signal) is
counted apart, one for each entry of each result. Sums, copies and draws of random numbers are not counted.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_aten = torch.ops.aten

_PRODUCTS: dict[Any, int] = {
    _aten.mm: 0, _aten.bmm: 0, _aten.mv: 0, _aten.dot: 0, _aten.addmm: 1, _aten.baddbmm: 1, _aten.addmv: 1,
}  # fmt: skip
"""Products of matrices, and where their two factors begin among the arguments."""

_MOVED = {_aten.clone, _aten.alias, _aten.detach}
"""What torch holds to be done entry by entry, and computes nothing."""


class Operations(TorchDispatchMode):
    """A context that counts the operations within it, those of backward passes too.

    Blind to operations that have neither matrices nor entries to count (fused attention, sorting, FFT).

    Attributes:
        macs: multiply–accumulates of products of matrices and of convolutions, zeros and padding included.
        synaptic: those of which both factors are nonzero; none lies in the padding.
        accumulates: those of the synaptic ones of which one factor has one magnitude.
        elementwise: entries of results that were computed entry by entry.
    """

    def __init__(self) -> None:
        super().__init__()
        self.macs = self.synaptic = self.accumulates = self.elementwise = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if packet in _PRODUCTS:
            a, b = args[_PRODUCTS[packet] :][:2]
            self._product(a, b)
        elif packet is _aten.convolution:
            x, weight, _, *how = args
            dense = (x if how[3] else result).numel() * weight[0].numel()
            self._add(dense, _pairs(packet, x, weight, None, *how), x, weight)
        elif packet is _aten.convolution_backward:
            self._convolution_backward(*args)
        elif torch.Tag.pointwise in func.tags and packet not in _MOVED:
            self.elementwise += sum(leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        return result

    def _product(self, a: Tensor, b: Tensor) -> None:
        a, b = a[None] if a.dim() == 1 else a, b[:, None] if b.dim() == 1 else b
        # The k-th column of one factor meets the k-th row of the other, and nothing else.
        pairs = (a != 0).sum(-2, dtype=torch.float64) * (b != 0).sum(-1, dtype=torch.float64)
        self._add(a.numel() * b.shape[-1], pairs.sum(), a, b)

    def _convolution_backward(self, g: Tensor, x: Tensor, weight: Tensor, _: Any, *how: Any) -> None:
        transposed, wanted = how[3], how[-1]
        dense = (x if transposed else g).numel() * weight[0].numel()
        for k, (factor, mask) in enumerate(((weight, [True, False, False]), (x, [False, True, False]))):
            if wanted[k]:
                pairs = _pairs(_aten.convolution_backward, g, x, weight, None, *how[:-1], mask)
                self._add(dense, pairs, g, factor)

    def _add(self, dense: int, pairs: Tensor, *factors: Tensor) -> None:
        synaptic = int(pairs)
        self.macs += dense
        self.synaptic += synaptic
        self.accumulates += synaptic if any(_one_magnitude(factor) for factor in factors) else 0


def operations(computation: Callable[[], object]) -> Operations:
    """The operations of ``computation``; its result is dropped."""
    with Operations() as counted:
        computation()
    return counted


def _pairs(packet: Any, *args: Any) -> Tensor:
    """How many products of nonzero factors a bilinear operation sums: the sum of what it makes of their indicators."""
    found = packet(*((arg != 0).float() if isinstance(arg, Tensor) else arg for arg in args))
    return sum(
        (leaf.sum(dtype=torch.float64) for leaf in tree_leaves(found) if isinstance(leaf, Tensor)), torch.zeros(())
    )


def _one_magnitude(factor: Tensor) -> bool:
    size = factor.abs()
    high = size.max() if size.numel() else torch.zeros(())
    return bool(((size == 0) | (size == high)).all())
