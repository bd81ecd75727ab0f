"""Products of weights and activity whose input gradient is carried by another weight than their own.

For a layer ``a = op(x, W) + b`` with arriving error ``δ = ∂L/∂a``,

    δ_x = op_xᵀ(δ, B)        with the feedback weight B in the place of W        (Lillicrap et al. 2016)
    ∂L/∂W, ∂L/∂b             as ever, from δ and x

``feedback`` is called in the backward pass, with the weight, and returns B in the weight's own shape:
a B that is computed from the current weight (sign symmetry) is never held from forward to backward.
It is not called where the input needs no gradient, as in the first layer. (:func:`product`, which serves any operation,
calls it in the forward pass.)
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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


def _rows(x: Tensor) -> Tensor:
    """(..., n) as a matrix; unlike ``reshape(-1, n)``, also where n is 0."""
    return x.flatten(0, -2) if x.dim() > 1 else x.unsqueeze(0)


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
            delta, x = _rows(delta), _rows(x)
        grad_weight = delta.t() @ x if need_weight else None
        grad_bias = delta.sum(0) if need_bias else None
        return grad_x, grad_weight, grad_bias, None


class Geometry(NamedTuple):
    """How a kernel meets its input; one number per spatial dimension, padding with zeros.

    Attributes:
        stride, padding, dilation: as in :class:`torch.nn.Conv2d`.
        groups: number of groups.
        transposed: whether it is a transposed convolution, whose weight is (C_in, C_out / groups, *kernel).
        output_padding: what a transposed convolution adds to one side of its response.
    """

    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    groups: int
    transposed: bool = False
    output_padding: Sequence[int] = ()

    def arguments(self) -> tuple[Any, ...]:
        """As torch's own operators take them."""
        nothing = (0,) * len(self.stride)
        return (*self[:3], self.transposed, self.output_padding or nothing, self.groups)


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, feedback: Feedback, geometry: Geometry
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.feedback, ctx.arguments, ctx.transposed = feedback, geometry.arguments(), geometry.transposed
        ctx.outputs = weight.shape[1] * geometry.groups if geometry.transposed else weight.shape[0]
        return torch.convolution(x, weight, bias, *ctx.arguments)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        (delta,) = grads
        x, weight = ctx.saved_tensors
        need = ctx.needs_input_grad[:3]
        carrier = _carrier(ctx, weight, delta) if need[0] else weight
        grad_x, grad_weight, grad_bias = _convolution_backward(delta, x, carrier, (ctx.outputs,), *ctx.arguments, need)
        return grad_x, grad_weight, grad_bias, None, None


class _Matmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, feedback: Feedback, left: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.feedback, ctx.left = feedback, left
        if bias is not None:
            return torch.addmm(bias, x, weight)
        return weight @ x if left else x @ weight

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        (delta,) = grads
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias, *_ = ctx.needs_input_grad
        grad_x = grad_weight = None
        grad_bias = delta.sum(0) if need_bias else None
        if need_x:
            B = _carrier(ctx, weight, delta)
            grad_x = (B.mT @ delta if ctx.left else delta @ B.mT).sum_to_size(x.shape)
        if need_weight:
            if weight.dim() == 2 and not ctx.left:  # one large product, not many that are then summed
                delta, x = _rows(delta), _rows(x)
            grad_weight = (delta @ x.mT if ctx.left else x.mT @ delta).sum_to_size(weight.shape)
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


def conv(x: Tensor, weight: Tensor, bias: Tensor | None, feedback: Feedback, geometry: Geometry) -> Tensor:
    """1-, 2- or 3-dimensional convolution, also transposed, with feedback weight.

    Args:
        x: (N, C_in, *spatial), or (C_in, *spatial) for a single example.
        weight: (C_out, C_in / groups, *kernel); transposed (C_in, C_out / groups, *kernel).
        bias: (C_out,) or None.
        feedback: W ↦ B, of one shape.
        geometry: how the kernel meets its input.

    Returns:
        (N, C_out, *spatial), or without N.
    """
    if x.dim() == weight.dim():
        return _Conv.apply(x, weight, bias, feedback, geometry)  # pyright: ignore[reportReturnType]
    return _Conv.apply(x.unsqueeze(0), weight, bias, feedback, geometry).squeeze(0)  # pyright: ignore[reportAttributeAccessIssue]


def matmul(x: Tensor, weight: Tensor, feedback: Feedback, *, left: bool = False, bias: Tensor | None = None) -> Tensor:
    """``x @ weight``, or ``weight @ x`` if it stands on the ``left``, with feedback weight.

    Shapes are those of :func:`torch.matmul`; ``feedback`` maps W to a B of its shape. A ``bias`` (out,) goes with a
    matrix on the right of a matrix.
    """
    if weight.dim() == 1:  # a row or a column
        axis = 0 if left else 1
        found = matmul(x, weight.unsqueeze(axis), lambda w: feedback(w.squeeze(axis)).unsqueeze(axis), left=left)
        return found.squeeze(-2 if left and x.dim() > 1 else -1)
    if x.dim() == 1:
        return matmul(x.unsqueeze(1 if left else 0), weight, feedback, left=left).squeeze(-1 if left else -2)
    return _Matmul.apply(x, weight, bias, feedback, left)  # pyright: ignore[reportReturnType]


def product(function: Callable[..., Tensor], weight: Tensor, feedback: Feedback, *others: Tensor) -> Tensor:
    """``function(weight, *others)``, linear in the weight and in each of the others, with feedback weight.

    It costs two more products and no formula: the error takes the way through f(B, x), of which the value is taken off.
    """
    carried = function(feedback(weight).detach().to(weight.dtype), *others)
    return function(weight, *(x.detach() for x in others)) + (carried - carried.detach())
