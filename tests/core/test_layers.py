"""The transport family's operators, over every geometry, against autograd on plain layers."""

import copy

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import plausible

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
DECONVS = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def through(layer: nn.Module, x: Tensor, delta: Tensor | None = None) -> dict[str, Tensor]:
    """Response to x, and the gradients that ``delta`` leaves (the same δ each time, if not given)."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    response = layer(x)
    if delta is None:
        delta = torch.randn(response.shape, generator=torch.Generator().manual_seed(5), dtype=response.dtype)
    response.backward(delta)
    assert x.grad is not None
    grads = {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}
    return {"response": response.detach(), "x": x.grad, **grads}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float = 1e-10) -> None:
    assert found.keys() == expected.keys()
    for key in found:
        torch.testing.assert_close(
            found[key], expected[key], rtol=rtol, atol=rtol, msg=lambda m, key=key: f"{key}: {m}"
        )


def assert_taught_as_a_plain_layer(layer: nn.Module, x: Tensor) -> None:
    """Sham is autograd; FA differs in the input's gradient alone, which is that of a plain layer with weight B."""
    plain = copy.deepcopy(layer)
    expected = through(plain, x)
    sham = plausible.bind(copy.deepcopy(layer), "sham", F.mse_loss)
    assert_close(through(sham.model, x), expected)

    fa = plausible.bind(layer, "fa", F.mse_loss)
    (B,) = (value for key, value in fa.state_dict().items() if key.endswith("B"))
    assert B.shape == plain.weight.shape and not torch.equal(B, plain.weight)
    with torch.no_grad():
        plain.weight.copy_(B)
    assert_close(through(fa.model, x), {**expected, "x": through(plain, x)["x"]})


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 1, 3), (2, 1, 2, 2)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_with_any_number_of_leading_dimensions(lead: tuple[int, ...], bias: bool):
    torch.manual_seed(0)
    assert_taught_as_a_plain_layer(nn.Linear(4, 5, bias=bias).double(), torch.randn(*lead, 4, dtype=torch.float64))


def test_linear_closed_form():
    """δ_x = δ B, ∂L/∂W = δᵀ x, ∂L/∂b = Σ δ, summed over every leading dimension."""
    torch.manual_seed(0)
    learner = plausible.bind(nn.Linear(4, 5).double(), "fa", F.mse_loss)
    B = learner.state_dict()["feedback.model.B"]
    x, delta = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 5, dtype=torch.float64)
    found = through(learner.model, x, delta)
    torch.testing.assert_close(found["x"], torch.einsum("abo,oi->abi", delta, B))
    torch.testing.assert_close(found["weight"], torch.einsum("abo,abi->oi", delta, x))
    torch.testing.assert_close(found["bias"], delta.sum((0, 1)))


@st.composite
def geometries(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    """A convolution and an input that fits it."""
    dims = draw(st.integers(1, 3))

    def each(low: int, high: int) -> int | tuple[int, ...]:
        return draw(st.one_of(st.integers(low, high), st.tuples(*[st.integers(low, high)] * dims)))

    groups = draw(st.sampled_from([1, 1, 2]))
    kernel, dilation = each(1, 3), each(1, 2)
    padding = draw(st.sampled_from(["same", "valid", "number", "number"]))
    stride = 1 if padding == "same" else each(1, 3)
    padding = each(0, 2) if padding == "number" else padding
    mode = draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"]))
    size = draw(st.tuples(*[st.integers(3, 6)] * dims))
    conv = CONVS[dims](
        2 * groups,
        groups * draw(st.integers(1, 2)),
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=mode,
    )
    x = torch.randn(*([2] if draw(st.booleans()) else []), 2 * groups, *size, dtype=torch.float64)
    return conv.double(), x


@given(geometries())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_convolutions_of_every_geometry(case: tuple[nn.Module, Tensor]):
    conv, x = case
    try:
        conv(x)
    except RuntimeError:  # torch itself refuses: the kernel or the reflection is larger than the input
        assume(False)
    assert_taught_as_a_plain_layer(conv, x)


@pytest.mark.parametrize("padding", ["same", "valid", 1])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_every_padding_and_mode(dims: int, mode: str, padding: str | int):
    """'same' with an even kernel pads one side more than the other."""
    torch.manual_seed(0)
    conv = CONVS[dims](2, 4, 2, padding=padding, padding_mode=mode, groups=2).double()
    assert_taught_as_a_plain_layer(conv, torch.randn(2, 2, *[4] * dims, dtype=torch.float64))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_convolution_closed_form(dims: int):
    """δ_x is the transposed convolution of δ with B."""
    torch.manual_seed(0)
    conv = CONVS[dims](2, 4, 3, stride=2, padding=1, dilation=1, groups=2).double()
    learner = plausible.bind(conv, "fa", F.mse_loss)
    B = learner.state_dict()["feedback.model.B"]
    x = torch.randn(2, 2, *[5] * dims, dtype=torch.float64)
    delta = torch.randn_like(conv(x))
    expected = DECONVS[dims](delta, B, stride=2, padding=1, groups=2)
    torch.testing.assert_close(through(conv, x, delta)["x"], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("inside", [True, False], ids=["backward inside", "backward outside"])
@pytest.mark.parametrize("x64", [False, True], ids=["float32", "float64"])
def test_autocast(inside: bool, x64: bool):
    """In the lower precision, sham gives what the plain layers give, and gradients have the weights' precision."""
    torch.manual_seed(0)
    convs = nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 3, 3, padding="same", padding_mode="circular")
    plain = nn.Sequential(*convs, nn.Tanh(), nn.Flatten(), nn.Linear(48, 5))
    x, y = torch.randn(4, 2, 4, 4), torch.arange(4)
    if x64:
        plain, x = plain.double(), x.double()
    learner = plausible.bind(copy.deepcopy(plain), "sham", F.cross_entropy)
    fa = plausible.bind(copy.deepcopy(plain), "fa", F.cross_entropy)
    for model in (plain, learner.model, fa.model):
        with torch.autocast("cpu", torch.bfloat16):
            output = model(x)
            loss = F.cross_entropy(output, y)
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        assert output.dtype == (torch.float64 if x64 else torch.bfloat16)
    for p, q in zip(plain.parameters(), learner.model.parameters(), strict=True):
        assert q.grad is not None and q.grad.dtype == q.dtype
        torch.testing.assert_close(q.grad, p.grad, rtol=0.02, atol=1e-4)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in fa.model.parameters())


def test_the_first_layer_asks_for_no_feedback():
    """Nothing below it needs an error, so none is computed."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    learner = plausible.bind(model, "fa", F.cross_entropy)
    learner.learn(torch.randn(5, 3, dtype=torch.float64), torch.zeros(5, dtype=torch.int64))
    assert list(learner.feedback_weights()) == ["2"]


def test_frozen_weights_and_biases_get_no_gradient():
    torch.manual_seed(0)
    conv, linear = nn.Conv2d(2, 3, 3).double(), nn.Linear(3, 2).double()
    assert conv.bias is not None
    conv.bias.requires_grad_(False)
    linear.weight.requires_grad_(False)
    plain = nn.Sequential(conv, nn.Flatten(), linear)
    model = copy.deepcopy(plain)
    learner = plausible.bind(model, "sham", F.cross_entropy)
    x, y = torch.randn(4, 2, 3, 3, dtype=torch.float64), torch.tensor([0, 1, 1, 0])
    learner.learn(x, y)
    F.cross_entropy(plain(x), y).backward()
    for p, q in zip(plain.parameters(), model.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None) == (not q.requires_grad)
        if p.grad is not None:
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-12, atol=1e-15)
