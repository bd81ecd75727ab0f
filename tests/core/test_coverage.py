"""What a rule cannot teach is said, not silently back-propagated."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.core import registry
from plausible.core.errors import ConfigurationError, CoverageError

TRANSPORT_AND_BROADCAST = ["fa", "usf", "dfa", "ifa", "frozen"]


def batch(*shape: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=draw, dtype=torch.float64)
    return x, torch.randint(3, (shape[0],), generator=draw)


class Tensordot(nn.Module):
    """Multiplies by its weight in a way that nobody knows how to answer for."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensordot(x, self.weight, 1)


def with_tensordot() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 3, 3), nn.Flatten(), nn.Linear(12, 3), nn.ReLU(), Tensordot(), nn.Flatten(), nn.Linear(6, 3)
    ).double()


@pytest.mark.parametrize("rule", TRANSPORT_AND_BROADCAST)
def test_an_uncovered_layer_is_an_error_with_name_reason_and_way_out(rule: str):
    model = with_tensordot()
    with pytest.raises(CoverageError) as caught:
        plausible.bind(model, rule, F.cross_entropy, example=batch(4, 2, 6)[0])
    message = str(caught.value)
    for part in (rule, "'4'", "Tensordot", "weight", "tensordot", 'uncovered="backprop"', "requires_grad_"):
        assert part in message
    assert [type(m) for m in model] == [type(m) for m in with_tensordot()], "an error leaves the model as it was"


@pytest.mark.parametrize("rule", ["fa", "usf", "dfa", "frozen"])
def test_where_only_an_example_could_tell_it_is_asked_for(rule: str):
    with pytest.raises((CoverageError, ConfigurationError), match=r"example=x"):
        plausible.bind(nn.Sequential(nn.ConvTranspose1d(2, 3, 3), nn.Linear(3, 3)), registry.make(rule), F.mse_loss)


@pytest.mark.parametrize("rule", [rule for rule in TRANSPORT_AND_BROADCAST if rule != "ifa"])  # which follows shapes
def test_uncovered_backprop_lets_it_pass_and_says_so(rule: str):
    x, y = batch(4, 2, 6)
    learner = plausible.bind(with_tensordot(), registry.make(rule, uncovered="backprop"), F.cross_entropy, example=x)
    learner.learn(x, y)
    report = learner.report()
    assert report["backprop"] == ["4"]
    assert report["covered"] == (["6"] if rule == "frozen" else ["0", "2", "6"])


def test_what_passes_gets_the_gradient_of_its_surroundings():
    """Under sham that is back-propagation's everywhere."""
    x, y = batch(4, 2, 6)
    model = with_tensordot()
    plain = copy.deepcopy(model)
    plausible.bind(model, registry.make("sham", uncovered="backprop"), F.cross_entropy).learn(x, y)
    F.cross_entropy(plain(x), y).backward()
    for p, q in zip(plain.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-12, atol=1e-15)


class ScaledLinear(nn.Linear):
    """Does something else than a linear layer, so it is not one."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class NamedLinear(nn.Linear):
    """Does what a linear layer does."""


def test_subclasses_count_if_they_do_the_same():
    plausible.bind(nn.Sequential(NamedLinear(4, 3)), "fa", F.cross_entropy)
    with pytest.raises(CoverageError, match="ScaledLinear"):
        plausible.bind(nn.Sequential(ScaledLinear(4, 3)), "ifa", F.cross_entropy, example=torch.randn(2, 4))


class Functional(nn.Module):
    """Uses a layer's weight behind its back."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.used, self.leave = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.enter(x))
        return self.leave(torch.tanh(F.linear(h, self.used.weight, self.used.bias)))


@pytest.mark.parametrize("rule", ["fa", "sham"])
def test_functional_use_of_a_weight_is_caught_at_the_first_learn_if_no_example_has_shown_it(rule: str):
    learner = plausible.bind(Functional().double(), rule, F.cross_entropy)
    with pytest.raises(CoverageError, match=r"'used'.*never called.*example=x"):
        learner.learn(*batch(4, 4))


def test_and_by_a_rule_that_teaches_layers_alone():
    x, y = batch(4, 4)
    learner = plausible.bind(Functional().double(), "ifa", F.cross_entropy, example=x)
    with pytest.raises(CoverageError, match=r"'used'.*never called"):
        learner.learn(x, y)


def test_nothing_to_teach():
    frozen = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    frozen[0].requires_grad_(False)
    for model in (frozen, nn.Sequential(nn.Flatten(), nn.ReLU())):
        with pytest.raises(CoverageError, match="nothing to teach"):
            plausible.bind(model, "fa", F.cross_entropy)


@pytest.mark.parametrize("rule", ["fa", "dfa", "ifa"])
def test_frozen_weights_are_left_alone(rule: str):
    x, y = batch(4, 4)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    model[2].requires_grad_(False)
    learner = plausible.bind(model, rule, F.cross_entropy, example=x)
    learner.learn(x, y)
    assert type(model[2]) is nn.Linear and model[2].weight.grad is None
    assert learner.report()["covered"] == ["0", "4"]
    assert model[0].weight.grad is not None and model[4].weight.grad is not None


def test_last_layer_backprop():
    """The error enters through the output layer's own W; its own update is exact either way."""
    x, y = batch(6, 4)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    exact = copy.deepcopy(model)
    F.cross_entropy(exact(x), y).backward()
    for last, same in (("rule", False), ("backprop", True)):
        for rule in ("fa", "dfa"):
            bound = copy.deepcopy(model)
            learner = plausible.bind(bound, registry.make(rule, last_layer=last), F.cross_entropy, example=x)
            learner.learn(x, y)
            # With one hidden layer, an exact output layer makes everything exact.
            assert torch.allclose(bound[0].weight.grad, exact[0].weight.grad, rtol=1e-12) == same
            torch.testing.assert_close(bound[2].weight.grad, exact[2].weight.grad, rtol=1e-12, atol=1e-15)
            report = learner.report()
            assert (report["covered"], report["backprop"]) == ((["0"], ["2"]) if same else (["0", "2"], []))


def test_normalisation_and_embeddings_are_exact():
    """Their gradient is the ordinary one of the error that arrives; under sham, back-propagation's."""
    torch.manual_seed(0)
    words = torch.randint(7, (6, 4))
    y = torch.arange(6) % 3
    model = nn.Sequential(
        nn.Embedding(7, 4),
        nn.Linear(4, 6),
        nn.LayerNorm(6),
        nn.GELU(),
        nn.Conv1d(4, 4, 1),
        nn.BatchNorm1d(4),
        nn.GroupNorm(2, 4),
        nn.Flatten(),
        nn.RMSNorm(24),
        nn.Linear(24, 3),
    ).double()
    plain = copy.deepcopy(model)
    learner = plausible.bind(model, "sham", F.cross_entropy)
    learner.learn(words, y)
    F.cross_entropy(plain(words), y).backward()
    for (name, p), q in zip(plain.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-11, atol=1e-15, msg=name)
    assert learner.report()["exact"] == ["0", "2", "5", "6", "8"]
    assert learner.report()["covered"] == ["1", "4", "9"]
    for key, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])


def test_several_inputs():
    """Tuples are positional, mappings are keywords."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.Linear(4, 5), nn.Linear(2, 5), nn.Linear(5, 3)

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return self.out(torch.tanh(self.a(left) + self.b(right)))

    torch.manual_seed(0)
    (left, y), (right, _) = batch(5, 4), batch(5, 2)
    plain = Two().double()
    for rule in ("fa", "dfa", "ifa"):
        grads = []
        for x in ((left, right), {"right": right, "left": left}):
            model = copy.deepcopy(plain)
            plausible.bind(model, rule, F.cross_entropy, example=x).learn(x, y)
            grads.append([p.grad for p in model.parameters()])
        assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_broadcast_rules_say_what_they_cannot_see_in_the_example():
    x, y = batch(4, 4)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    with pytest.raises(ConfigurationError, match="example=x"):
        plausible.bind(model, "dfa", F.cross_entropy)
    learner = plausible.bind(model, "dfa", F.cross_entropy, example=x)
    with pytest.raises(ConfigurationError, match="no feedback for the block in front of '0'"):
        learner.learn(x.clone().requires_grad_(), y)


def test_broadcast_rules_keep_one_size_per_block():
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Conv1d(2, 2, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    model.append(nn.Linear(2, 3)).double()
    learner = plausible.bind(model, "dfa", F.cross_entropy, example=batch(4, 1, 8)[0])
    with pytest.raises(ConfigurationError, match="in front of '2'"):
        learner.learn(*batch(4, 1, 9))


def test_rules_that_send_the_error_themselves_need_one_tensor():
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.out(x), x

    x, y = batch(4, 4)
    with pytest.raises(ConfigurationError, match="returned a tuple"):
        plausible.bind(Pair().double(), "dfa", F.cross_entropy, example=x)
    learner = plausible.bind(Pair().double(), "fa", lambda output, y: F.cross_entropy(output[0], y))
    learner.learn(x, y)
    assert learner.model.out.weight.grad is not None
