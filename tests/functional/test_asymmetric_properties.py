"""The operators over every geometry, layout and precision that hypothesis finds, against autograd on torch's own.

The input's gradient is that of torch's operator with B in the place of W, the weight's and the bias' that with W. In
double precision to rounding; in single and half, torch's own in the same precision, within some of its units.
"""

from collections.abc import Callable

import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from plausible.functional import asymmetric
from plausible.functional.asymmetric import Geometry

CONVS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
DECONVS = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
PRECISION = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 0.05}  # relative, to the largest of a tensor
Operator = Callable[[Tensor, Tensor, Tensor | None], Tensor]

DTYPES = st.sampled_from([torch.float64, torch.float64, torch.float32, torch.bfloat16])
SEEDS = st.integers(0, 2**31 - 1)


def plain(x: Tensor, draw: Callable[..., int]) -> Tensor:
    return x.contiguous()


def transposed(x: Tensor, draw: Callable[..., int]) -> Tensor:
    """The last dimension in memory is another one."""
    return x.transpose(0, -1).contiguous().transpose(0, -1) if x.dim() > 1 else x


def strided(x: Tensor, draw: Callable[..., int]) -> Tensor:
    """Every other entry of what lies in memory, from the second on."""
    room = x.new_full((*x.shape[:-1], 2 * x.shape[-1] + 1), 7.0)
    return room[..., 1::2].copy_(x)


def expanded(x: Tensor, draw: Callable[..., int]) -> Tensor:
    """One number in memory stands for all along a dimension."""
    along = draw(0, x.dim() - 1)
    return x.narrow(along, 0, 1).expand_as(x) if x.shape[along] > 0 else x


def channels_last(x: Tensor, draw: Callable[..., int]) -> Tensor:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.contiguous(memory_format=formats[x.dim()]) if x.dim() in formats else x


LAYOUTS = [plain, plain, transposed, strided, expanded, channels_last]


class Given:
    """What one example consists of: tensors of some dtype in some layout."""

    def __init__(self, data: st.DataObject, dtype: torch.dtype) -> None:
        self.data, self.dtype = data, dtype
        self.generator = torch.Generator().manual_seed(data.draw(SEEDS, label="seed"))

    def tensor(self, shape: tuple[int, ...], what: str, *, keep: bool = False) -> Tensor:
        """Of normal numbers; ``keep``: in a layout in which every entry has a place of its own."""
        layouts = [each for each in LAYOUTS if not (keep and each is expanded)]
        layout = self.data.draw(st.sampled_from(layouts), label=f"layout of {what}")
        x = torch.randn(shape, generator=self.generator, dtype=torch.float64).to(self.dtype)
        return layout(x, lambda low, high: self.data.draw(st.integers(low, high))) if x.dim() else x

    def each(self, dims: int, low: int, high: int, what: str) -> tuple[int, ...]:
        return self.data.draw(st.tuples(*[st.integers(low, high)] * dims), label=what)


def gradients(operator: Operator, tensors: list[Tensor], delta: Tensor, needed: list[bool]) -> list[Tensor | None]:
    leaves = [t.detach().requires_grad_(need) for t, need in zip(tensors, needed, strict=True)]
    response = operator(*leaves, *[None] * (3 - len(leaves)))
    asked = [leaf for leaf in leaves if leaf.requires_grad]
    found = iter(torch.autograd.grad(response, asked, delta) if asked else ())
    return [next(found) if need else None for need in needed]


def assert_near(found: Tensor | None, expected: Tensor | None, what: str) -> None:
    if found is None or expected is None:
        assert found is expected, what
        return
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype), what
    scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    bound = PRECISION[expected.dtype] * scale
    torch.testing.assert_close(found, expected, rtol=0.0, atol=bound, msg=lambda m: f"{what}: {m}")


def assert_asymmetric(
    given: Given, ours: Callable[..., Tensor], theirs: Operator, x: Tensor, W: Tensor, bias: Tensor | None
) -> None:
    """``ours`` takes (x, W, bias, feedback)."""
    tensors = [x, W, *([] if bias is None else [bias])]
    needed = [given.data.draw(st.booleans(), label=f"{name} needs a gradient") for name in ("x", "W", "bias")]
    needed = needed[: len(tensors)]
    response = theirs(x, W, bias)
    B, delta = given.tensor(tuple(W.shape), "B"), given.tensor(tuple(response.shape), "delta")
    asked: list[int] = []

    def feedback(weight: Tensor) -> Tensor:
        assert weight.shape == W.shape and torch.equal(weight, W)
        asked.append(1)
        return B

    def operator(x: Tensor, W: Tensor, bias: Tensor | None) -> Tensor:
        return ours(x, W, bias, feedback)

    assert_near(operator(x, W, bias), response, "response")
    through_B = gradients(theirs, [x, B, *tensors[2:]], delta, needed)
    through_W = gradients(theirs, tensors, delta, needed)
    found = gradients(operator, tensors, delta, needed)
    assert bool(asked) == needed[0], "the feedback weight is asked for where the input needs a gradient, and only there"
    for name, mine, expected in zip(("x", "W", "bias"), found, [through_B[0], *through_W[1:]], strict=False):
        assert_near(mine, expected, name)


@given(st.data(), DTYPES)
def test_linear(data: st.DataObject, dtype: torch.dtype):
    given = Given(data, dtype)
    lead = data.draw(st.lists(st.integers(0, 3), max_size=4), label="leading dimensions")
    inputs, outputs = data.draw(st.integers(0, 4), label="inputs"), data.draw(st.integers(0, 4), label="outputs")
    x, W = given.tensor((*lead, inputs), "x"), given.tensor((outputs, inputs), "W", keep=True)
    bias = given.tensor((outputs,), "bias", keep=True) if data.draw(st.booleans(), label="bias") else None
    assert_asymmetric(given, asymmetric.linear, F.linear, x, W, bias)


@given(st.data(), DTYPES, st.booleans())
def test_matmul(data: st.DataObject, dtype: torch.dtype, left: bool):
    """Vectors, matrices and stacks of them, broadcast against each other as torch.matmul does."""
    given = Given(data, dtype)
    shared = data.draw(st.lists(st.integers(0, 3), max_size=2), label="stack")
    size = st.integers(0, 4)

    def stack(what: str) -> list[int]:
        kept = [n if data.draw(st.booleans(), label=f"{what} has it") else 1 for n in shared]
        return kept[data.draw(st.integers(0, len(kept)), label=f"{what} starts at") :]

    a, inner, b = data.draw(size), data.draw(size), data.draw(size)
    first = data.draw(st.sampled_from([(inner,), (*stack("x"), a, inner)]), label="first")
    second = data.draw(st.sampled_from([(inner,), (*stack("W"), inner, b)]), label="second")
    x, W = (given.tensor(tuple(shape), what, keep=what == "W") for shape, what in
            ((second if left else first, "x"), (first if left else second, "W")))  # fmt: skip

    def theirs(x: Tensor, W: Tensor, bias: Tensor | None) -> Tensor:
        return W @ x if left else x @ W

    def ours(x: Tensor, W: Tensor, bias: Tensor | None, feedback: asymmetric.Feedback) -> Tensor:
        return asymmetric.matmul(x, W, feedback, left=left)

    assert_asymmetric(given, ours, theirs, x, W, None)


@given(st.data(), DTYPES)
def test_matrix_with_bias(data: st.DataObject, dtype: torch.dtype):
    given = Given(data, dtype)
    n, inputs, outputs = given.each(3, 0, 4, "sizes")
    x, W = given.tensor((n, inputs), "x"), given.tensor((inputs, outputs), "W", keep=True)

    def ours(x: Tensor, W: Tensor, bias: Tensor | None, feedback: asymmetric.Feedback) -> Tensor:
        return asymmetric.matmul(x, W, feedback, bias=bias)

    def theirs(x: Tensor, W: Tensor, bias: Tensor | None) -> Tensor:
        assert bias is not None
        return torch.addmm(bias, x, W)

    assert_asymmetric(given, ours, theirs, x, W, given.tensor((outputs,), "bias", keep=True))


@given(st.data(), DTYPES, st.booleans(), st.integers(1, 3))
def test_convolution(data: st.DataObject, dtype: torch.dtype, transposed: bool, dims: int):
    given = Given(data, dtype)
    groups, a, b = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))
    stride, padding = given.each(dims, 1, 3, "stride"), given.each(dims, 0, 2, "padding")
    dilation, kernel = given.each(dims, 1, 2, "dilation"), given.each(dims, 1, 3, "kernel")
    output_padding = (0,) * dims
    if transposed:  # torch wants it smaller than the stride or the dilation
        output_padding = tuple(data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    batch = data.draw(st.sampled_from([(), (0,), (1,), (2,)]), label="batch")
    x = given.tensor((*batch, groups * a, *given.each(dims, 1, 6, "size")), "x")
    channels = (groups * a, b) if transposed else (groups * b, a)
    W = given.tensor((*channels, *kernel), "W", keep=True)
    bias = given.tensor((groups * b,), "bias", keep=True) if data.draw(st.booleans(), label="bias") else None
    geometry = Geometry(stride, padding, dilation, groups, transposed, output_padding)

    def ours(x: Tensor, W: Tensor, bias: Tensor | None, feedback: asymmetric.Feedback) -> Tensor:
        return asymmetric.conv(x, W, bias, feedback, geometry)

    def theirs(x: Tensor, W: Tensor, bias: Tensor | None) -> Tensor:
        if transposed:
            return DECONVS[dims](x, W, bias, stride, padding, output_padding, groups, dilation)
        return CONVS[dims](x, W, bias, stride, padding, dilation, groups)

    try:
        theirs(x, W, bias)
    except RuntimeError:  # torch itself refuses: the kernel is larger than the input, or nothing is left of it
        assume(False)
    assert_asymmetric(given, ours, theirs, x, W, bias)
