"""Noisy weights: the size of the noise, when it is drawn, and what it is drawn for."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import plausible
from plausible.constraints.noisy import Noisy
from plausible.core import registry
from plausible.core.errors import ConfigurationError


def wide() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(400, 300), nn.Tanh(), nn.Linear(300, 3)).double()


BATCH = torch.randn(4, 400, generator=torch.Generator().manual_seed(1)).double(), torch.arange(4) % 3


def bind(model: nn.Module, *constraints, rule="backprop", lr: float = 0.1):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return plausible.bind(model, rule, F.cross_entropy, optimizer=optimizer, constraints=constraints), optimizer


def standard(noise: torch.Tensor) -> None:
    """Mean 0, variance 1 and the fourth moment 3 of a Gaussian, each within four standard errors."""
    n = noise.numel()
    assert abs(float(noise.mean())) < 4 / n**0.5
    assert abs(float(noise.square().mean()) - 1) < 4 * (2 / n) ** 0.5
    assert abs(float(noise.pow(4).mean()) - 3) < 4 * (96 / n) ** 0.5


def test_what_is_read_is_off_by_a_gaussian_in_units_of_the_scale_at_binding():
    model = wide()
    W = model[0].weight
    scale = W.detach().square().mean().sqrt()
    learner, _ = bind(model, Noisy(read=0.2, write=0.0))
    with torch.no_grad():
        W *= 5  # what has grown since is as noisy as before
    stored = W.detach().clone()
    with learner.reading():
        standard((W.detach() - stored) / (0.2 * scale))
    assert torch.equal(W, stored)


def test_what_is_written_is_off_by_a_gaussian_in_units_of_the_change():
    model, plain = wide(), wide()
    learner, optimizer = bind(model, Noisy(read=0.0, write=0.5))
    learner.learn(*BATCH)
    F.cross_entropy(plain(BATCH[0]), BATCH[1]).backward()
    optimizer.step()
    change = -0.1 * plain[0].weight.grad
    standard(((model[0].weight - plain[0].weight).detach() / change - 1) / 0.5)
    torch.testing.assert_close(model[0].bias, plain[0].bias - 0.1 * plain[0].bias.grad, rtol=1e-12, atol=1e-15)


def test_what_is_not_written_keeps_its_value():
    """The feedback of feedback alignment is fixed: no step wears it away."""
    learner, optimizer = bind(wide(), Noisy(read=0.0, write=2.0), rule="fa")
    before = {name: w.detach().clone() for name, w in learner.weights()}
    learner.learn(*BATCH)
    optimizer.step()
    for name, weight in learner.weights():
        assert torch.equal(weight, before[name]) == name.startswith("feedback"), name


def test_read_noise_is_drawn_for_each_call_and_each_weight_and_shared_within_the_call():
    """The update is autograd's at one noisy weight, forward and backward."""
    model = wide()
    learner, _ = bind(model, Noisy(read=0.3, write=0.0))
    seen = []
    for _ in range(2):
        plain = wide()
        with learner.reading(), torch.no_grad():
            plain.load_state_dict(model.state_dict())
        seen.append(plain[0].weight.detach().clone())
        learner.zero_grad()
        F.cross_entropy(plain(BATCH[0]), BATCH[1]).backward()
        assert torch.equal(learner(BATCH[0]), plain(BATCH[0]))
        learner.learn(*BATCH)
        for name, p in model.named_parameters():
            torch.testing.assert_close(p.grad, plain.get_parameter(name).grad, rtol=1e-12, atol=1e-15)
    noise = [(w - model[0].weight).detach().flatten() for w in seen]
    assert abs(float(torch.corrcoef(torch.stack(noise))[0, 1])) < 4 / len(noise[0]) ** 0.5


def test_the_feedback_is_read_with_noise_too():
    """fa: δ = (B̃ e) φ′ with B̃ as the reading shows it."""
    model = wide()
    learner, _ = bind(model, Noisy(read=0.3, write=0.0, on="feedback"), rule="fa")
    B = dict(learner.weights())["feedback.2.B"]
    with learner.reading():
        noisy = B.clone()
    h = torch.tanh(model[0](BATCH[0])).detach()
    e = (torch.softmax(model[2](h), 1) - F.one_hot(BATCH[1], 3)).detach() / 4
    learner.learn(*BATCH)
    torch.testing.assert_close(model[0].weight.grad, ((e @ noisy) * (1 - h**2)).T @ BATCH[0], rtol=1e-10, atol=1e-13)


def test_an_error_within_a_reading_leaves_what_is_stored():
    model = wide()
    learner, _ = bind(model, Noisy())
    before = model[0].weight.detach().clone()
    with pytest.raises(RuntimeError):
        learner(torch.zeros(2, 7).double())
    assert torch.equal(model[0].weight, before)
    with learner.reading():
        assert not torch.equal(model[0].weight, before)


def test_a_gradient_through_an_evaluation_is_taken_within_a_reading_and_is_an_error_outside():
    learner, _ = bind(wide(), Noisy())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        F.cross_entropy(learner(BATCH[0]), BATCH[1]).backward()
    learner.zero_grad()
    with learner.reading():
        F.cross_entropy(learner(BATCH[0]), BATCH[1]).backward()


def test_a_probe_compares_the_rule_with_the_gradient_at_the_same_noisy_weights():
    """Back-propagation lies at 0° to itself, whatever the noise."""
    learner, _ = bind(wide(), Noisy(read=0.5))
    for row in plausible.alignment(learner, *BATCH).values():
        assert row["update_angle"] < 1e-4


def test_read_noise_alone_needs_no_optimizer():
    learner = plausible.bind(wide(), "fa", F.cross_entropy, constraints=[Noisy(write=0.0)])
    learner.learn(*BATCH)
    with pytest.raises(ConfigurationError, match=r"noisy.*optimizer=optimizer"):
        plausible.bind(wide(), "fa", F.cross_entropy, constraints=["noisy"])


@pytest.mark.parametrize("option", ["read", "write"])
def test_bad_options(option: str):
    with pytest.raises(ConfigurationError, match=f"noisy: {option} = -0.1: a standard deviation cannot be negative"):
        registry.constraints.make("noisy", **{option: -0.1})
