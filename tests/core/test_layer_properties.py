"""Layers of any kind, geometry, layout and precision, bound as a user binds them, against autograd on plain copies.

Sham is back-propagation. Feedback alignment differs from it in the input's gradient alone, which is that of a plain
layer with B in the place of its weight.
"""

import copy

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.core.errors import ConfigurationError, CoverageError

PRECISION = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 0.05}  # relative, to the largest of a tensor
CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
DECONVS = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
BATCHES = st.sampled_from([(), (0,), (1,), (2,)])


@st.composite
def linears(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    inputs, lead = draw(st.integers(0, 4)), draw(st.lists(st.integers(0, 3), max_size=3))
    return nn.Linear(inputs, draw(st.integers(0, 4)), bias=draw(st.booleans())), (*lead, inputs)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    dims, transposed = draw(st.integers(1, 3)), draw(st.booleans())

    def each(low: int, high: int) -> int | tuple[int, ...]:
        return draw(st.integers(low, high) | st.tuples(*[st.integers(low, high)] * dims))

    # Depthwise, if each group has one channel.
    groups, a, b = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    common = {"kernel_size": each(1, 3), "groups": groups, "bias": draw(st.booleans()), "dilation": each(1, 2)}
    if transposed:
        own = {"stride": each(1, 3), "padding": each(0, 2), "output_padding": each(0, 1)}
        layer = DECONVS[dims](groups * a, groups * b, **common, **own)
    else:
        padding = draw(st.sampled_from(["same", "valid"]) | st.just(each(0, 2)))
        mode = draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"]))
        stride = 1 if padding == "same" else each(1, 3)
        layer = CONVS[dims](groups * a, groups * b, padding=padding, padding_mode=mode, stride=stride, **common)
    if dims in LAST and draw(st.booleans()):
        layer = layer.to(memory_format=LAST[dims])
    return layer, (*draw(BATCHES), groups * a, *draw(st.tuples(*[st.integers(1, 6)] * dims)))


def laid_out(draw: st.DrawFn, x: Tensor) -> Tensor:
    """The same numbers, otherwise in memory."""
    layout = draw(st.sampled_from(["plain", "transposed", "strided", "channels last"]))
    if layout == "transposed" and x.dim() > 1:
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "strided":
        return x.new_full((*x.shape[:-1], 2 * x.shape[-1] + 1), 7.0)[..., 1::2].copy_(x)
    if layout == "channels last" and x.dim() - 2 in LAST:
        return x.contiguous(memory_format=LAST[x.dim() - 2])
    return x


@st.composite
def cases(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(draw(st.integers(0, 2**31 - 1)))
    layer, shape = draw(linears() | convolutions())
    layer = layer.to(draw(st.sampled_from([torch.float64, torch.float64, torch.float32, torch.bfloat16])))
    x = laid_out(draw, torch.randn(shape, dtype=layer.weight.dtype))
    try:
        layer(x)
    except (RuntimeError, ValueError):  # torch itself refuses: of this input nothing would be left, say
        assume(False)
    if layer.bias is not None and draw(st.booleans()):
        layer.bias.requires_grad_(False)
    return layer, x


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Response, and what an error leaves in each gradient; the same error for every model."""
    x = x.detach().requires_grad_()
    model.zero_grad()
    response = model(x)
    delta = torch.randn(response.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    response.backward(delta.to(response))
    assert x.grad is not None
    own = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"response": response.detach(), "x": x.grad, **own}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name].shape, found[name].dtype) == (value.shape, value.dtype), name
        bound = PRECISION[value.dtype] * max(1.0, float(value.abs().max()) if value.numel() else 1.0)
        torch.testing.assert_close(found[name], value, rtol=0.0, atol=bound, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@given(cases())
@settings(max_examples=2 * settings().max_examples)  # layers are of seven kinds
def test_a_layer_of_any_kind(case: tuple[nn.Module, Tensor]):
    layer, x = case
    plain = copy.deepcopy(layer)
    expected = gradients(plain, x)
    example = x if isinstance(layer, nn.modules.conv._ConvTransposeNd) else None  # those only an example can show
    sham = plausible.bind(copy.deepcopy(layer), "sham", F.mse_loss, example=example)
    assert_same(gradients(sham.model, x), expected)

    fa = plausible.bind(layer, "fa", F.mse_loss, example=example)
    (B,) = (value for key, value in fa.state_dict().items() if key.endswith("B"))
    assert B.shape == plain.weight.shape and B.dtype == plain.weight.dtype
    with torch.no_grad():
        plain.weight.copy_(B)
    assert_same(gradients(fa.model, x), {**expected, "x": gradients(plain, x)["x"]})


class Turned(nn.Module):
    """Multiplies by a complex weight in a function of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, 2))

    def forward(self, x: Tensor) -> Tensor:
        return (x.cfloat() @ torch.view_as_complex(self.weight)).abs()


class Size(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


COMPLEX = {
    "a layer": lambda: nn.Sequential(nn.Linear(3, 3, dtype=torch.cfloat), Size(), nn.Linear(3, 3)),
    "a function": lambda: nn.Sequential(Turned(), nn.Linear(3, 3)),
}


@pytest.mark.parametrize("kind", COMPLEX)
@pytest.mark.parametrize("rule", ["sham", "fa", "dfa", "kolen-pollack"])
def test_complex_weights_are_refused_or_left_to_back_propagation(rule: str, kind: str):
    """Feedback is real. (Once sham was silently something else than back-propagation there.)"""
    torch.manual_seed(0)
    model = COMPLEX[kind]()
    x = torch.randn(5, 3, dtype=torch.cfloat if kind == "a layer" else torch.float32)
    y, optimizer = torch.tensor([0, 1, 2, 0, 1]), torch.optim.AdamW(model.parameters())
    with pytest.raises(CoverageError, match=r"module '0'.*complex"):
        plausible.bind(model, rule, F.cross_entropy, example=x, optimizer=optimizer)
    plain = copy.deepcopy(model)
    passing = plausible.core.registry.make(rule, uncovered="backprop")
    learner = plausible.bind(model, passing, F.cross_entropy, example=x, optimizer=optimizer)
    assert learner.report()["backprop"] == ["0"] and learner.report()["covered"] == ["1" if kind != "a layer" else "2"]
    learner.learn(x, y)
    F.cross_entropy(plain(x), y).backward()
    for mine, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert mine.grad is not None and mine.grad.abs().max() > 0
        if rule == "sham":
            torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize("rule", ["dfa", "drtp", "ifa", "dtp", "node-perturbation"])
def test_an_empty_batch_has_no_error_to_send(rule: str):
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    learner = plausible.bind(model, rule, F.cross_entropy, example=torch.randn(2, 3), optimizer=optimizer)
    with pytest.raises(ConfigurationError, match=r"shape \(0, 2\).*no example.*Leave out"):
        learner.learn(torch.randn(0, 3), learner.rule.teacher(torch.zeros(0, dtype=torch.int64)))
