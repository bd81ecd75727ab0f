"""Node perturbation: an unbiased estimate of the gradient of the expected reward (Fiete & Seung 2006)."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.core import Learner, registry
from plausible.core.errors import ConfigurationError
from plausible.core.world import Quiz


def mlp(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4)).double()


def bound(model: nn.Module, **options) -> Learner:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return plausible.bind(model, registry.make("node-perturbation", **options), F.cross_entropy, optimizer=optimizer)


def batch(n: int = 6) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(n, 5, generator=draw, dtype=torch.float64), torch.randint(4, (n,), generator=draw)


def grads(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


# --- the estimate ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", [0.0, 0.7])
@pytest.mark.parametrize("sigma", [0.5, 1.5])
def test_the_mean_update_is_the_gradient_of_the_expected_reward(sigma, baseline):
    """Closed form of a linear net with two actions: a_1 − a_0 is Gaussian, so E[R] = Φ(mean / deviation)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    x = torch.randn(3, dtype=torch.float64)
    first, second = model
    row = second.weight[1] - second.weight[0]
    mean = row @ first(x) + second.bias[1] - second.bias[0]
    expected_reward = torch.special.ndtr(mean / (sigma * (row.square().sum() + 2).sqrt()))
    exact = torch.autograd.grad(-expected_reward, list(model.parameters()))

    learner = bound(model, sigma=sigma)
    with torch.no_grad():
        learner.feedback.expected.fill_(baseline)
    n = 400_000
    outcome = learner.learn(x.expand(n, 3), Quiz(torch.ones(n, dtype=torch.int64)))
    assert abs((1 - outcome.loss) - expected_reward.detach()) < 5 * 0.5 / n**0.5
    for p, gradient in zip(model.parameters(), exact, strict=True):
        # |R − R̄| ≤ 1 and ξ / σ² has the deviation 1/σ, times the presynaptic activity.
        presynaptic = (x if p.shape[0] == 4 else first(x)).norm().detach() + 2 * sigma
        error = 5 * max(1.0, float(presynaptic)) / (sigma * n**0.5)
        assert (p.grad - gradient).abs().max() < error
        assert (p.grad - gradient).norm() < 0.1 * gradient.norm()


def test_one_update_is_the_equation():
    """−(R − R̄) ξ hᵀ / σ², from the noise that was really added, example by example."""
    model, (x, y) = mlp(), batch()
    plain = copy.deepcopy(model)
    learner = bound(model, sigma=0.4)
    with torch.no_grad():
        learner.feedback.expected.fill_(0.3)
    met: dict[int, tuple[Tensor, Tensor]] = {}
    for k in (0, 2):  # the last call of each layer is the one with noise
        model[k].register_forward_hook(lambda _, inputs, output, k=k: met.update({k: (inputs[0], output.detach())}))
    action: list[Tensor] = []

    def world(chosen: Tensor) -> Tensor:
        action.append(chosen)
        return (chosen == y).double() * 2 - 0.5

    learner.learn(x, world)
    assert torch.equal(action[0], met[2][1].argmax(1))
    noise = {k: out - plain[k](h).detach() for k, (h, out) in met.items()}
    assert all(xi.std() > 0.2 for xi in noise.values())
    torch.testing.assert_close(met[2][0], torch.tanh(met[0][1]))
    for k, xi in noise.items():
        dW, db = torch.zeros_like(model[k].weight), torch.zeros_like(model[k].bias)
        for n in range(len(x)):
            reward = 1.5 if action[0][n] == y[n] else -0.5
            dW -= (reward - 0.3) * torch.outer(xi[n], met[k][0][n]) / 0.4**2 / len(x)
            db -= (reward - 0.3) * xi[n] / 0.4**2 / len(x)
        torch.testing.assert_close(model[k].weight.grad, dW, rtol=1e-10, atol=1e-14)
        torch.testing.assert_close(model[k].bias.grad, db, rtol=1e-10, atol=1e-14)
    mean = torch.where(action[0] == y, 1.5, -0.5).mean().double()
    torch.testing.assert_close(learner.feedback.expected.grad, 0.3 - mean)


def test_the_update_knows_one_bit_of_the_label():
    """Over all labels of one example, there are two updates: of the action that was taken, and of every other."""
    x, _ = batch(1)
    updates = set()
    for label in range(4):
        model = mlp()
        learner = bound(model)
        with torch.no_grad():
            learner.feedback.expected.fill_(0.25)
        learner.learn(x, learner.rule.teacher(torch.tensor([label])))
        updates.add(tuple(torch.cat([g.flatten() for g in grads(model).values()]).tolist()))
    assert len(updates) == 2
    a, b = (torch.tensor(update) for update in updates)
    cosine = F.cosine_similarity(a, b, 0)
    torch.testing.assert_close(cosine, torch.tensor(-1.0))  # praise and blame differ in sign and size alone


# --- noise ----------------------------------------------------------------------------------------------------------


def test_the_noise_is_new_at_each_call_and_replayable():
    (x, y), first, again, other = batch(), mlp(), mlp(), mlp()
    learners = [bound(first), bound(again), bound(other, seed=1)]
    seen: list[list[dict[str, Tensor]]] = []
    for learner in learners:
        torch.manual_seed(len(seen))  # the global random state has no say
        seen.append([])
        for _ in range(2):
            learner.zero_grad()
            learner.learn(x, Quiz(y))
            seen[-1].append(grads(learner.model))
    assert all(torch.equal(seen[0][k][key], seen[1][k][key]) for k in (0, 1) for key in seen[0][0])
    assert not torch.equal(seen[0][0]["0.weight"], seen[0][1]["0.weight"])
    assert not torch.equal(seen[0][0]["0.weight"], seen[2][0]["0.weight"])


def test_the_pass_with_noise_leaves_dropout_and_statistics_as_the_pass_without_left_them():
    torch.manual_seed(0)
    make: Callable[[], nn.Module] = lambda: nn.Sequential(  # noqa: E731
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(32, 4)
    ).double()
    model = make()
    plain = copy.deepcopy(model)
    x = torch.randn(5, 1, 6, 6, dtype=torch.float64)
    masks: list[Tensor] = []
    model[3].register_forward_hook(lambda _, inputs, output: masks.append((output == 0) & (inputs[0] != 0)))
    learner = bound(model)
    torch.manual_seed(3)
    outcome = learner.learn(x, Quiz(torch.zeros(5, dtype=torch.int64)))
    after = torch.get_rng_state()
    torch.manual_seed(3)
    expected = plain(x)
    assert torch.equal(outcome.output, expected) and torch.equal(after, torch.get_rng_state())
    for key, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key
    assert masks[0].any() and len(masks) == 2
    assert {name.split(".")[0] for name in grads(model)} == {"0", "5"}  # normalisation is not taught


# --- the expected reward ---------------------------------------------------------------------------------------------


def test_the_expected_reward_is_learned_with_its_own_rate_and_does_not_decay():
    model, (x, _) = mlp(), batch(50)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9, weight_decay=0.5)
    rule = registry.make("node-perturbation", baseline_lr=0.2)
    learner = plausible.bind(model, rule, F.cross_entropy, optimizer=optimizer)
    expected = 0.0
    for _ in range(10):
        optimizer.zero_grad()
        learner.learn(x, lambda action: torch.full(action.shape, 0.6))
        optimizer.step()
        expected += 0.2 * (0.6 - expected)
    assert abs(learner.feedback.expected.item() - expected) < 1e-6


# --- what travels ---------------------------------------------------------------------------------------------------


def test_one_number_goes_to_every_layer():
    model, (x, y) = mlp(), batch()
    learner = bound(model)
    heard = []

    def listen(name: str, message: Tensor, source: str, target: str) -> Tensor:
        heard.append((name, source, target, tuple(message.shape)))
        return message

    learner.context.tap = listen
    learner.learn(x, Quiz(y))
    assert heard == [
        ("reward", "teacher", "output", (6,)),
        ("0.surprise", "output", "0", (6,)),
        ("2.surprise", "output", "2", (6,)),
    ]


# --- what it refuses ------------------------------------------------------------------------------------------------


def test_a_teacher_that_is_no_world_is_refused():
    learner = bound(mlp())
    x, y = batch()
    with pytest.raises(ConfigurationError, match=r"rule\.teacher"):
        learner.learn(x, y)
    with pytest.raises(ConfigurationError, match="each action has one"):
        learner.learn(x, lambda action: torch.zeros(()))
    with pytest.raises(ConfigurationError, match="optimiser"):
        plausible.bind(mlp(), "node-perturbation", F.cross_entropy)
    learner = bound(nn.Sequential(nn.Unflatten(1, (1, 5)), nn.Linear(5, 4)).double())
    with pytest.raises(ConfigurationError, match="largest of the outputs"):
        learner.learn(x, Quiz(y))


def test_a_quiz_rewards_the_right_answers():
    assert Quiz(torch.tensor([2, 0, 1]))(torch.tensor([2, 1, 1])).tolist() == [1.0, 0.0, 1.0]
