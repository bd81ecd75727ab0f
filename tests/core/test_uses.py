"""Weights outside of layers: sham is autograd there, FA the formula, and what a module computes first has its own B."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from along import gradients, through
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import plausible
from plausible.core import Learner
from plausible.core.attach import Attached
from plausible.core.errors import ConfigurationError, CoverageError


class Own(nn.Module):
    """A weight in a function of the module's own."""

    def __init__(self, function: Callable[..., Tensor], *shape: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(shape) / 2), nn.Parameter(torch.randn(5))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight, self.bias)


class Tied(nn.Module):
    """The input's embedding is the output's weight, and a layer's weight is used twice, once behind its back."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.layer = nn.Embedding(5, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.layer(self.embed(x.argmax(-1) % 5) + x[:, :6]))
        h = torch.tanh(F.linear(h, self.layer.weight))
        return F.linear(h, self.embed.weight)


class Mixed(nn.Module):
    """Low-rank change of a frozen weight: what is multiplied is computed from both."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.down, self.up = nn.Linear(6, 5), nn.Linear(6, 2), nn.Linear(2, 5)
        self.frozen.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.frozen.weight + self.up.weight @ self.down.weight, self.frozen.bias)


class Standardised(nn.Conv1d):
    def forward(self, input: Tensor) -> Tensor:
        w = self.weight - self.weight.mean((1, 2), keepdim=True)
        return self._conv_forward(input, w / w.std((1, 2), keepdim=True), self.bias)


class Attention(nn.Module):
    def __init__(self, self_attention: bool = True, **options: Any) -> None:
        super().__init__()
        self.enter = nn.Linear(2, 6)
        self.attention = nn.MultiheadAttention(6, 2, **options)
        self.self_attention = self_attention
        self.leave = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.enter(x.view(len(x), 5, 2)))
        h = h if self.attention.batch_first else h.transpose(0, 1)
        others = h if self.self_attention else h.flip(0) * 0.5
        if not self.attention._qkv_same_embed_dim:
            others = others[..., : self.attention.kdim]
        found, _ = self.attention(h, others, others)
        found = found if self.attention.batch_first else found.transpose(0, 1)
        return self.leave(found).squeeze(-1)


def deep(*middle: nn.Module) -> nn.Module:
    """(N, 10) to five logits; the middle has six numbers."""
    return nn.Sequential(nn.Linear(10, 6), nn.Tanh(), *middle)


def own(function: Callable[..., Tensor], *shape: int) -> nn.Module:
    return deep(Own(function, *shape))


def row(*layers: nn.Module) -> nn.Module:
    """As a row of six positions and back."""
    return deep(nn.Unflatten(1, (1, 6)), *layers, nn.Flatten(), nn.LazyLinear(5))


KEPT: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: own(lambda x, w, b: F.linear(x, w, b), 5, 6),
    "linear by name": lambda: own(lambda x, w, b: F.linear(bias=b, weight=w, input=x), 5, 6),
    "addmm": lambda: own(lambda x, w, b: torch.addmm(b, x, w, beta=0.5, alpha=2), 6, 5),
    "addmm as in GPT-2": lambda: own(lambda x, w, b: torch.addmm(b, x, w), 6, 5),
    "x @ w": lambda: own(lambda x, w, b: x @ w + b, 6, 5),
    "w @ x": lambda: own(lambda x, w, b: (w @ x.T).T + b, 5, 6),
    "x @ w.T": lambda: own(lambda x, w, b: x @ w.T, 5, 6),
    "mm of a transposed": lambda: own(lambda x, w, b: torch.mm(x, w.t()), 5, 6),
    "bmm": lambda: own(lambda x, w, b: torch.bmm(x.view(-1, 2, 3).transpose(0, 1), w).sum(0), 2, 3, 5),
    "a vector": lambda: own(lambda x, w, b: (x @ w).unsqueeze(1) * b, 6),
    "chunks": lambda: own(lambda x, w, b: sum(torch.tanh(F.linear(x, part)) for part in w.chunk(2)), 10, 6),
    "indexed": lambda: own(lambda x, w, b: F.linear(x, w[1]), 2, 5, 6),
    "einsum": lambda: own(lambda x, w, b: torch.einsum("ni,io->no", x, w), 6, 5),
    "conv1d": lambda: own(lambda x, w, b: F.conv1d(x.unsqueeze(1), w, b, padding="same").mean(-1), 5, 1, 4),
    "transposed": lambda: row(nn.ConvTranspose1d(1, 4, 3, stride=2, output_padding=1), nn.Tanh(), nn.Conv1d(4, 2, 2)),
    "grouped": lambda: row(nn.Conv1d(1, 4, 1), nn.ConvTranspose1d(4, 6, 3, groups=2, dilation=2, padding=1)),
    "tied": Tied,
    "self-attention": lambda: Attention(batch_first=True),
    "over time first": Attention,
    "cross-attention": lambda: Attention(False, batch_first=True, bias=False, add_zero_attn=True),
    "other keys": lambda: Attention(False, batch_first=True, kdim=4, vdim=4, add_bias_kv=True),
    "transformer": lambda: nn.Sequential(
        nn.Unflatten(1, (5, 2)), nn.Linear(2, 6), nn.TransformerEncoderLayer(6, 2, 8, 0.0, batch_first=True),
        nn.Flatten(), nn.Linear(30, 5),
    ),
}  # fmt: skip
"""The feedback is kept in the shape of a Parameter."""

COMPUTED: dict[str, Callable[[], nn.Module]] = {
    "weight norm": lambda: deep(parametrizations.weight_norm(nn.Linear(6, 5))),
    "the older weight norm": lambda: deep(_older_weight_norm()),
    "spectral norm": lambda: deep(parametrizations.spectral_norm(nn.Linear(6, 5))),
    "orthogonal": lambda: deep(parametrizations.orthogonal(nn.Linear(6, 5))),
    "standardised": lambda: row(Standardised(1, 4, 3)),
    "low rank": lambda: deep(Mixed()),
    "positive": lambda: own(lambda x, w, b: F.linear(x, w.exp(), b), 5, 6),
}
"""What is multiplied is computed from Parameters."""


def _older_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(nn.Linear(6, 5))


def made(build: Callable[[], nn.Module]) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model, x = build(), torch.randn(4, 10)
    with torch.no_grad():
        model(x)  # lazy layers
    return model.double(), x.double(), torch.tensor([0, 1, 2, 3])


def bound(model: nn.Module, rule: str, x: Tensor) -> Learner:
    return plausible.bind(model, rule, F.cross_entropy, example=x)


def assert_same(found: nn.Module, expected: dict[str, Tensor]) -> None:
    assert {name for name, p in found.named_parameters() if p.grad is not None} == set(expected)
    for name, grad in expected.items():
        torch.testing.assert_close(found.get_parameter(name).grad, grad, rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize("build", {**KEPT, **COMPUTED}.values(), ids={**KEPT, **COMPUTED})
def test_sham_is_back_propagation(build: Callable[[], nn.Module]):
    model, x, y = made(build)
    expected = gradients(model, lambda m: F.cross_entropy(m(x), y))
    keys, learner = list(model.state_dict()), bound(model, "sham", x)
    learner.learn(x, y)
    assert_same(model, expected)
    assert list(model.state_dict()) == keys
    learner.release()
    assert not any(isinstance(module, Attached) for module in model.modules())


@pytest.mark.parametrize("build", KEPT.values(), ids=KEPT)
def test_fa_is_back_propagation_through_b_along_the_trajectory_of_w(build: Callable[[], nn.Module]):
    model, x, y = made(build)
    plain, learner = copy.deepcopy(model), bound(model, "fa", x)
    feedback = {
        site.made_of[0]: site["B"] for site in learner.sites() if site.made_of[0] in dict(plain.named_parameters())
    }
    expected = through(plain, x, lambda m: F.cross_entropy(m(x), y), feedback)
    learner.learn(x, y)
    assert_same(model, expected)
    backprop = gradients(plain, lambda m: F.cross_entropy(m(x), y))
    first = next(iter(backprop))
    assert not torch.allclose(model.get_parameter(first).grad, backprop[first]), "else this shows nothing"


@pytest.mark.parametrize("build", COMPUTED.values(), ids=COMPUTED)
def test_of_a_computed_weight_fa_never_reads_the_parts(build: Callable[[], nn.Module]):
    """Its error comes back through a B in the shape of what is multiplied: a closed form for the layer in front."""
    model, x, y = made(build)
    plain, learner = copy.deepcopy(model), bound(model, "fa", x)
    (site,) = [site for site in learner.sites() if site.computed]
    learner.learn(x, y)
    if model[-1] is not model[2]:  # something follows
        return
    h = plain[:2](x)
    delta = torch.autograd.grad(F.cross_entropy(out := plain[2](h), y), out)[0]
    error = (delta @ site["B"]) * (1 - h**2)
    torch.testing.assert_close(model[0].weight.grad, error.T @ x, rtol=1e-10, atol=1e-12)


def test_signs_are_those_of_what_is_multiplied():
    model, x, y = made(COMPUTED["weight norm"])
    learner = bound(model, "usf", x)
    h = model[:2](x)
    delta = torch.autograd.grad(F.cross_entropy(out := model[2](h), y), out)[0]
    learner.learn(x, y)
    error = (delta @ (model[2].weight.sign() * 6**-0.5)) * (1 - h**2)
    torch.testing.assert_close(model[0].weight.grad, error.T @ x, rtol=1e-10, atol=1e-12)


def test_feedback_is_in_the_state_and_a_copy_has_its_own_weights():
    model, x, y = made(KEPT["self-attention"])
    learner = bound(model, "fa", x)
    names = [name for name in learner.state_dict() if name.endswith(".B")]
    assert "feedback.attention/in_proj_weight.B" in names and len(names) == 4
    twin = copy.deepcopy(learner)
    twin.model.attention.in_proj_weight.data.mul_(2)  # of the copy alone
    for each in (learner, twin):
        each.learn(x, y)
    first = learner.model.enter.weight.grad
    assert not torch.allclose(twin.model.enter.weight.grad, first)


NOT_SHOWN = ("weight norm", "the older weight norm")
"""They call a function of torch's, ``_weight_norm``, that torch.compile does not show to modes."""


@pytest.mark.parametrize("name", {**KEPT, **COMPUTED})
def test_a_compiled_forward_pass_has_no_break_and_the_same_gradients(name: str):
    model, x, y = made({**KEPT, **COMPUTED}[name])
    bound(model, "fa", x).learn(x, y)
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model, x, y = made({**KEPT, **COMPUTED}[name])  # anew: spectral norm goes on in each forward pass
    learner = bound(model, "fa", x)
    torch.compiler.reset()
    if name in NOT_SHOWN:
        model.compile(backend="aot_eager", fullgraph=True)
        with pytest.raises(Exception, match=r"torch\.compile does not show to modes"):
            learner.learn(x, y)
    torch.compiler.reset()
    model.compile(backend="aot_eager", fullgraph=name not in NOT_SHOWN)
    learner.learn(x, y)
    assert_same(model, expected)


def test_a_way_that_the_example_did_not_take_is_an_error():
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.randn(10, 5)), nn.Parameter(torch.randn(10, 5))

        def forward(self, x: Tensor) -> Tensor:
            return x @ (self.a + 0 if self.training else self.a) + x @ self.b

    learner = plausible.bind(Branching(), "fa", F.cross_entropy, example=torch.randn(4, 10))
    with pytest.raises(CoverageError, match=r"Branching multiplies activity by a weight made of a.*example"):
        learner.learn(torch.randn(4, 10), torch.tensor([0, 1, 2, 3]))


def test_rules_that_need_more_than_a_product_say_so():
    for rule, build, what in (
        ("kolen-pollack", COMPUTED["weight norm"], "computed from"),
        ("weight-mirror", KEPT["self-attention"], "in_proj_weight"),
    ):
        model, x, _ = made(build)
        optimizer = torch.optim.AdamW(model.parameters())
        with pytest.raises(CoverageError, match=what):
            plausible.bind(model, rule, F.cross_entropy, example=x, optimizer=optimizer)


def test_kolen_pollack_learns_feedback_for_attention():
    """B takes W's own step: under decay their difference shrinks by the decay alone."""
    model, x, y = made(KEPT["self-attention"])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5)
    learner = plausible.bind(model, "kolen-pollack", F.cross_entropy, example=x, optimizer=optimizer)
    W, B = model.attention.in_proj_weight, learner.feedback["attention/in_proj_weight"]["B"]
    before = (W - B).detach().clone()
    learner.learn(x, y)
    optimizer.step()
    torch.testing.assert_close((W - B).detach(), before * (1 - 0.1 * 0.5), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch_first", [True, False])
def test_direct_feedback_reaches_attention_wherever_the_examples_are(batch_first: bool):
    """In front of the projections of q, k and v, where time comes first, and of the output's, where both are folded."""
    model, x, y = made(lambda: Attention(batch_first=batch_first))
    plain = copy.deepcopy(model)
    learner = bound(model, "dfa", x)
    B = {site.name: site["B"] for site in learner.sites()}
    assert set(B) == {"attention.in_proj_weight", "attention.out_proj", "leave"}
    learner.learn(x, y)

    logits = plain(x)
    error = torch.autograd.grad(F.cross_entropy(logits, y), logits)[0]
    h = torch.tanh(plain.enter(x.view(4, 5, 2)))
    signal = (error @ B["attention.in_proj_weight"]).view(4, 5, 6) * (1 - h**2)
    torch.testing.assert_close(model.enter.weight.grad, torch.einsum("nto,nti->oi", signal, x.view(4, 5, 2)))

    W = plain.attention.in_proj_weight
    projected = F.linear(h.detach(), W, plain.attention.in_proj_bias)
    q, k, v = (t.view(4, 5, 2, 3).transpose(1, 2) for t in projected.chunk(3, -1))
    attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(4, 5, 6)
    signal = (error @ B["attention.out_proj"]).view(4, 5, 6)
    torch.testing.assert_close(
        model.attention.in_proj_weight.grad, torch.autograd.grad(attended, W, signal)[0], rtol=1e-9, atol=1e-12
    )


def test_direct_feedback_in_a_recurrent_net_reaches_every_step():
    """h_t gets the same B e at each t, and no error comes from the step after."""
    torch.manual_seed(0)
    net, leave = nn.RNN(2, 3, batch_first=True), nn.Linear(3, 2)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.leave = net, leave

        def forward(self, x: Tensor) -> Tensor:
            return self.leave(self.net(x)[0][:, -1])

    model, x, y = Model().double(), torch.randn(4, 3, 2, dtype=torch.float64), torch.tensor([0, 1, 1, 0])
    plain = copy.deepcopy(model)
    learner = bound(model, "dfa", x)
    B = {site.name: site["B"] for site in learner.sites()}
    learner.learn(x, y)
    logits = plain(x)
    error = torch.autograd.grad(F.cross_entropy(logits, y), logits)[0]
    h = plain.net(x)[0].detach()
    signals = [error @ B["net.weight_hh_l0"]] * 2 + [error @ B["leave"]]
    expected = sum(((s * (1 - h[:, t] ** 2)).T @ x[:, t] for t, s in enumerate(signals)), start=torch.zeros(3, 2))
    torch.testing.assert_close(model.net.weight_ih_l0.grad, expected, rtol=1e-10, atol=1e-12)


def test_lazy_modules_take_their_shapes_from_the_example():
    def lazy() -> nn.Module:
        return nn.Sequential(nn.LazyLinear(6), nn.Tanh(), nn.LazyLinear(5))

    with pytest.raises(ConfigurationError, match=r"no shape yet.*example=x"):
        plausible.bind(lazy(), "fa", F.cross_entropy)
    model, x, y = lazy(), torch.randn(4, 10), torch.tensor([0, 1, 2, 3])
    for rule in ("fa", "dfa"):
        learner = plausible.bind(copy.deepcopy(model), rule, F.cross_entropy, example=x)
        learner.learn(x, y)
        assert learner.report()["covered"] == ["0", "2"]


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", ["self-attention", "addmm", "standardised"])
def test_checkpointed_modules_are_answered_for_when_they_are_run_again(name: str, reentrant: bool):
    class Checkpointed(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.inner, x, use_reentrant=reentrant)

    model, x, y = made({**KEPT, **COMPUTED}[name])
    found = []
    for each in (model, Checkpointed(copy.deepcopy(model))):
        learner = plausible.bind(each, "fa", F.cross_entropy, example=x)
        other = {k.replace("/inner", "").replace("inner/", ""): v for k, v in learner.state_dict().items()}
        found.append((learner, other))
    (first, mine), (second, theirs) = found
    for key, B in mine.items():
        if key.startswith("feedback."):
            theirs[key].copy_(B)
    first.learn(x, y)
    x.requires_grad_(reentrant)  # the older kind needs an input that does
    second.learn(x, y)
    for p, q in zip(first.model.parameters(), second.model.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["self-attention", "addmm", "x @ w", "einsum", "transposed", "standardised"])
def test_autocast(name: str):
    """In the lower precision, sham gives what plain torch gives, and gradients have the weights' precision."""
    model, x, y = made({**KEPT, **COMPUTED}[name])
    model, x = model.float(), x.float()
    plain = copy.deepcopy(model)
    learner = plausible.bind(model, "sham", F.cross_entropy, example=x)
    with torch.autocast("cpu", torch.bfloat16):
        learner.learn(x, y)
        F.cross_entropy(plain(x), y).backward()
    for p, q in zip(plain.parameters(), model.parameters(), strict=True):
        assert (q.grad is None) == (p.grad is None)
        if p.grad is not None:
            assert q.grad.dtype == torch.float32
            torch.testing.assert_close(q.grad, p.grad, rtol=0.05, atol=5e-3)


def test_torchs_short_cut_for_transformers_never_bypasses_the_rule():
    """It is taken where nothing can learn, in evaluation without gradients, and answers the same there."""
    model, x, y = made(KEPT["transformer"])
    learner = bound(model, "fa", x)
    learner.learn(x, y)
    taught = model[1].weight.grad.clone()
    model.eval()
    with torch.no_grad():
        short = model(x)
    torch.testing.assert_close(short, model(x).detach(), rtol=1e-9, atol=1e-9)
    model.zero_grad()
    learner.learn(x, y)  # in evaluation mode, with gradients
    torch.testing.assert_close(model[1].weight.grad, taught, rtol=1e-9, atol=1e-12)


ACROSS = ("cross-attention", "other keys")
"""Nets in which examples attend to each other, so that nobody can say whose a row is."""


@pytest.mark.parametrize("name", [n for n in KEPT if n not in ACROSS])
def test_targets_reach_every_weight_as_errors_do(name: str):
    """drtp and dfa differ in what is sent, and in nothing else: with the target for the error they are one."""
    model, x, y = made(KEPT[name])
    learners = {rule: bound(copy.deepcopy(model), rule, x) for rule in ("drtp", "dfa")}
    assert {s.name for s in learners["drtp"].sites()} == {s.name for s in learners["dfa"].sites()} != set()
    learners["drtp"].learn(x, y)
    taught = {n for n, p in learners["drtp"].model.named_parameters() if p.grad is not None}
    learners["dfa"].learn(x, y)
    assert taught == {n for n, p in learners["dfa"].model.named_parameters() if p.grad is not None}


class Hidden(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return grads[0] @ weight.T, x.T @ grads[0]


UNANSWERED: dict[str, tuple[Callable[..., Tensor], tuple[int, ...], str]] = {
    "a backward pass of its own": (lambda x, w, b: Hidden.apply(x, w), (6, 5), "a backward pass of its own"),
    "two weights at once": (lambda x, w, b: torch.einsum("ni,io,oo->no", x, w[0], w[1, :5]), (2, 6, 5), "einsum"),
    "tensordot": (lambda x, w, b: torch.tensordot(x, w, 1), (6, 5), "tensordot"),
    "attention to a weight": (
        lambda x, w, b: F.scaled_dot_product_attention(x[:, None], w[None], w[None])[:, 0, :5], (7, 6), "attention"
    ),
    "beneath torch's modes": (lambda x, w, b: _beneath(x, w), (5, 6), "no mode"),
}  # fmt: skip


def _beneath(x: Tensor, w: Tensor) -> Tensor:
    with torch._C.DisableTorchFunction():
        return F.linear(x, w)


@pytest.mark.parametrize("name", UNANSWERED)
@pytest.mark.parametrize("rule", ["fa", "dfa", "frozen"])
def test_what_nobody_can_answer_for_is_refused_and_said(name: str, rule: str):
    function, shape, what = UNANSWERED[name]
    model, x, _ = made(lambda: own(function, *shape))
    with pytest.raises(CoverageError, match=f"'2', a Own .*{what}"):
        bound(model, rule, x)


@pytest.mark.parametrize(
    "square", [lambda w: torch.tensordot(w, w.T, 1) @ w, lambda w: torch.einsum("oi,oi->oi", w, w)]
)
def test_weights_that_are_multiplied_with_each_other_alone_make_a_weight(square: Callable[[Tensor], Tensor]):
    model, x, y = made(lambda: own(lambda x, w, b: F.linear(x, square(w), b), 5, 6))
    expected = gradients(model, lambda m: F.cross_entropy(m(x), y))
    learner = bound(model, "sham", x)
    assert [site.computed for site in learner.sites() if site.name != "0"] == [True]
    learner.learn(x, y)
    assert_same(model, expected)


def test_what_is_redrawn_is_redrawn_where_a_compiled_model_computes_a_weight_too():
    found = []
    for compiled in (False, True):
        model, x, y = made(COMPUTED["standardised"])
        learner = bound(model, "brsf", x)
        torch.compiler.reset()
        if compiled:
            learner.compile(backend="aot_eager")
        learner.learn(x, y)
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, grad in found[0].items():
        torch.testing.assert_close(found[1][name], grad, rtol=1e-10, atol=1e-12, msg=name)
