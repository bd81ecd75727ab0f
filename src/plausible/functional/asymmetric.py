"""Layers whose input gradient is carried by another weight than their own.

For a layer ``a = op(x, W) + b`` with arriving error ``δ = ∂L/∂a``,

    δ_x = op_xᵀ(δ, B)        with the feedback weight B in the place of W        (Lillicrap et al. 2016)
    ∂L/∂W, ∂L/∂b             as ever, from δ and x

``feedback`` is called in the backward pass, with the weight, and returns B in the weight's own shape:
a B that is computed from the current weight (sign symmetry) is never held from forward to backward.
It is not called where the input needs no gradient, as in the first layer.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Feedback = Callable[[Tensor], Tensor]

# Looked up once: on a small layer the time goes into Python.
_convolution_backward = torch.ops.aten.convolution_backward.default


def _carrier(ctx: Any, weight: Tensor, delta: Tensor) -> Tensor:
    B = ctx.feedback(weight)
    # A backward outside autocast meets a delta in the lower precision: B follows it.
    return B if B.dtype == delta.dtype else B.to(delta.dtype)


class _Linear(torch.autograd.Function):
    # Saving in forward() rather than in setup_context() halves the Python cost of a call.
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, feedback: Feedback) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.feedback = feedback
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        (delta,) = grads
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias, _ = ctx.needs_input_grad
        grad_x = delta @ _carrier(ctx, weight, delta) if need_x else None
        if delta.dim() != 2:
            delta, x = delta.reshape(-1, delta.shape[-1]), x.reshape(-1, x.shape[-1])
        grad_weight = delta.t() @ x if need_weight else None
        grad_bias = delta.sum(0) if need_bias else None
        return grad_x, grad_weight, grad_bias, None


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        feedback: Feedback,
        geometry: tuple[Sequence[int], Sequence[int], Sequence[int], int],
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.feedback, ctx.geometry = feedback, geometry
        stride, padding, dilation, groups = geometry
        no_output_padding = (0,) * len(stride)
        return torch.convolution(x, weight, bias, stride, padding, dilation, False, no_output_padding, groups)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        (delta,) = grads
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        need = ctx.needs_input_grad[:3]
        carrier = _carrier(ctx, weight, delta) if need[0] else weight
        grad_x, grad_weight, grad_bias = _convolution_backward(
            delta, x, carrier, (weight.shape[0],), stride, padding, dilation, False, (0,) * len(stride), groups, need
        )
        return grad_x, grad_weight, grad_bias, None, None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, feedback: Feedback) -> Tensor:
    """:func:`torch.nn.functional.linear` with feedback weight.

    Args:
        x: (..., in).
        weight: (out, in).
        bias: (out,) or None.
        feedback: W ↦ B, both (out, in).

    Returns:
        (..., out).
    """
    return _Linear.apply(x, weight, bias, feedback)  # pyright: ignore[reportReturnType]


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    feedback: Feedback,
    *,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """1-, 2- or 3-dimensional convolution with feedback weight.

    Args:
        x: (N, C_in, *spatial), or (C_in, *spatial) for a single example.
        weight: (C_out, C_in / groups, *kernel).
        bias: (C_out,) or None.
        feedback: W ↦ B, of one shape.
        stride, padding, dilation: one number per spatial dimension; padding with zeros.
        groups: number of groups.

    Returns:
        (N, C_out, *spatial), or without N.
    """
    geometry = (stride, padding, dilation, groups)
    if x.dim() == weight.dim():
        return _Conv.apply(x, weight, bias, feedback, geometry)  # pyright: ignore[reportReturnType]
    return _Conv.apply(x.unsqueeze(0), weight, bias, feedback, geometry).squeeze(0)  # pyright: ignore[reportAttributeAccessIssue]
