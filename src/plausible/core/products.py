"""The functions of torch that multiply weights with activity, each with the operator of ours that stands in for it.

A handler has the arguments of its function. Asked with ``find``, which says whether a tensor is a weight, it answers
what is multiplied and how to do so with another feedback weight, or None where no weight meets activity.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from plausible.functional import asymmetric
from plausible.functional.asymmetric import Feedback, Geometry

Find = Callable[[Any], bool]


class Product(NamedTuple):
    """A weight that meets activity.

    Attributes:
        weight: it, as it stands in the product.
        others: the activity; one tensor, or several that are multiplied with each other too.
        scale: the bound or standard deviation with which such a weight is drawn (Xiao et al. 2018).
        run: the response, given W ↦ B and the activity.
    """

    weight: Tensor
    others: tuple[Tensor, ...]
    scale: float
    run: Callable[..., Tensor]


def fan_scale(fan_in: int) -> float:
    """PyTorch's bound for a linear layer, 1/√fan_in; of a layer without inputs, 1."""
    return max(fan_in, 1) ** -0.5


def conv_scale(outgoing: Tensor, groups: int = 1) -> float:
    """He's standard deviation by fan-out, √(2 / n), where ``outgoing`` are the weights from one input channel to all
    outputs; in a grouped convolution it meets those of one group."""
    return (2 * groups / outgoing.numel()) ** 0.5


def cast(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
    """All as autocast would hand them to the operator, to which a custom function is opaque; float64 never."""
    if not torch.is_autocast_enabled(x.device.type) or x.dtype == torch.float64:
        return x, weight, bias
    dtype = torch.get_autocast_dtype(x.device.type)
    return x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)


def _linear(find: Find, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Product | None:
    if not find(weight):
        return None
    return Product(
        weight, (input,), fan_scale(weight.shape[-1]), lambda B, x: asymmetric.linear(*cast(x, weight, bias), B)
    )


def _matmul(find: Find, input: Tensor, other: Tensor) -> Product | None:
    if find(input) == find(other):  # two weights make a third, which is no activity
        return None
    x, weight, left = (other, input, True) if find(input) else (input, other, False)
    fan = weight.shape[-1] if left or weight.dim() == 1 else weight.shape[-2]
    return Product(weight, (x,), fan_scale(fan), lambda B, x: asymmetric.matmul(*cast(x, weight)[:2], B, left=left))


def _mm(find: Find, input: Tensor, mat2: Tensor) -> Product | None:
    return _matmul(find, input, mat2)


def _addmm(
    find: Find, input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Product | None:
    found = _matmul(find, mat1, mat2)
    if found is None:
        return None
    if input.dim() == 1 and alpha == beta == 1 and found.weight is mat2:  # in one operator, as a layer of GPT-2 has it

        def run(feedback: Feedback, x: Tensor) -> Tensor:
            x, weight, bias = cast(x, mat2, input)
            return asymmetric.matmul(x, weight, feedback, bias=bias)

        return found._replace(run=run)
    return found._replace(run=lambda B, x: beta * input + alpha * found.run(B, x))


def _baddbmm(
    find: Find, input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Product | None:
    return _addmm(find, input, batch1, batch2, beta=beta, alpha=alpha)


def _einsum(find: Find, equation: str, *operands: Any) -> Product | None:
    tensors = operands[0] if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else operands
    weights = [k for k, t in enumerate(tensors) if find(t)]
    if len(weights) != 1 or len(tensors) == 1:
        return None
    (k,) = weights
    names, _, result = equation.replace(" ", "").partition("->")
    inner = [size for name, size in zip(names.split(",")[k], tensors[k].shape, strict=False) if name not in result]
    fan = torch.Size(inner).numel() if inner and "." not in names else tensors[k].shape[-1]
    others = tuple(t for t in tensors if t is not tensors[k])

    def run(feedback: Feedback, *others: Tensor) -> Tensor:
        def function(weight: Tensor, *others: Tensor) -> Tensor:
            return torch.einsum(equation, *others[:k], weight, *others[k:])

        return asymmetric.product(function, tensors[k], feedback, *others)

    return Product(tensors[k], others, fan_scale(fan), run)


def _bilinear(find: Find, input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Product | None:
    if not find(weight):
        return None

    def run(feedback: Feedback, *others: Tensor) -> Tensor:
        def function(weight: Tensor, left: Tensor, right: Tensor) -> Tensor:
            return F.bilinear(left, right, weight)

        found = asymmetric.product(function, weight, feedback, *others)
        return found if bias is None else found + bias

    return Product(weight, (input1, input2), fan_scale(weight.shape[1]), run)


def _conv(n: int, find: Find, input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
          padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Product | None:  # fmt: skip
    if not find(weight):
        return None

    def run(feedback: Feedback, x: Tensor) -> Tensor:
        ends = padding
        if ends == "same":
            # As torch does it: where the two sides differ, the second has one more.
            total = [d * (k - 1) for d, k in zip(_each(n, dilation), weight.shape[-n:], strict=True)]
            ends = tuple(t // 2 for t in total)
            x = F.pad(x, [side for t in reversed(total) for side in (0, t % 2)])
        geometry = Geometry(
            _each(n, stride), (0,) * n if ends == "valid" else _each(n, ends), _each(n, dilation), groups
        )
        return asymmetric.conv(*cast(x, weight, bias), feedback, geometry)

    return Product(weight, (input,), conv_scale(weight[:, 0], groups), run)


def _conv_transpose(n: int, find: Find, input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
                    padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1
                    ) -> Product | None:  # fmt: skip
    if not find(weight):
        return None
    geometry = Geometry(_each(n, stride), _each(n, padding), _each(n, dilation), groups, True, _each(n, output_padding))
    return Product(
        weight, (input,), conv_scale(weight[0]), lambda B, x: asymmetric.conv(*cast(x, weight, bias), B, geometry)
    )


def _each(n: int, value: int | Sequence[int]) -> tuple[int, ...]:
    several = (value,) if isinstance(value, int) else tuple(value)
    return several * n if len(several) == 1 else several


def _for(n: int, handler: Callable[..., Product | None]) -> Callable[..., Product | None]:
    return lambda *args, **kwargs: handler(n, *args, **kwargs)


PRODUCTS: dict[Callable[..., Any], Callable[..., Product | None]] = {
    F.linear: _linear,
    F.bilinear: _bilinear,
    torch.einsum: _einsum,
    **dict.fromkeys((torch.matmul, Tensor.matmul, Tensor.__matmul__), _matmul),
    Tensor.__rmatmul__: lambda find, input, other: _matmul(find, other, input),
    **dict.fromkeys((torch.mm, Tensor.mm, torch.bmm, Tensor.bmm), _mm),
    **dict.fromkeys((torch.mv, Tensor.mv), lambda find, input, vec: _matmul(find, input, vec)),
    **dict.fromkeys((torch.addmm, Tensor.addmm), _addmm),
    **dict.fromkeys((torch.baddbmm, Tensor.baddbmm), _baddbmm),
    **{function: _for(n, _conv) for n, function in enumerate((F.conv1d, F.conv2d, F.conv3d), start=1)},
    **{
        function: _for(n, _conv_transpose)
        for n, function in enumerate((F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), start=1)
    },
}
"""By function."""
