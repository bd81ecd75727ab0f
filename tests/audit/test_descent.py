"""The angle between updates and gradient: with a gradient, and from answers to small steps alone."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.audit import Batch, LearnerSubject
from plausible.audit.descent import REPEATS, best_scale, by_gradient, by_steps
from plausible.functional.alignment import angle


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4)).double()


@pytest.fixture
def batch() -> Batch:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(64, 20, generator=draw, dtype=torch.float64)
    return Batch(x, (x @ torch.randn(20, 4, generator=draw, dtype=torch.float64)).argmax(1), 4)


def specimen(rule, batch: Batch):
    return LearnerSubject(plausible.bind(mlp(), rule, F.cross_entropy, example=batch.x)).copy()


def gradients(x: Tensor, y: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
    model = mlp()
    F.cross_entropy(scale * model(x), y).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("rule", ["fa", "usf", "dfa"])
def test_with_a_gradient_it_is_the_mean_over_examples(batch, rule):
    few = batch.first(5)
    expected = []
    for n in range(5):
        learner = specimen(rule, batch)
        update = learner.update(few.x[n : n + 1], few.y[n : n + 1])["2.weight"]
        expected.append(float(angle(update, gradients(few.x[n : n + 1], few.y[n : n + 1])["2.weight"])))
    ours, sure = by_gradient(specimen(rule, batch), ["0", "2"], few)
    assert sure == math.inf  # nothing is random
    assert ours.keys() == {"0", "2"} and ours["2"] == pytest.approx(sum(expected) / 5, abs=1e-6)


@pytest.mark.parametrize(("noise", "slope"), [(0.3, 0.1), (0.3, 0.0), (0.0, 0.1)])
def test_of_random_updates_the_mean_is_taken(batch, noise, slope):
    """Updates of which so much is the gradient, and the rest noise, drawn anew for each."""
    learner, draw = specimen("backprop", batch), torch.Generator().manual_seed(0)

    def update(x: Tensor, y: Tensor) -> dict[str, Tensor]:
        found = gradients(x, y)
        return {
            name: slope * g / g.norm() + noise * torch.randn(g.shape, generator=draw, dtype=g.dtype) / g.numel() ** 0.5
            for name, g in found.items()
        }

    learner.update = update
    angles, sure = by_gradient(learner, ["0", "2"], batch.first(16))
    cosine = slope / (slope**2 + noise**2 / (REPEATS if noise else 1)) ** 0.5
    for value in angles.values():
        assert value == pytest.approx(math.degrees(math.acos(cosine)), abs=5)
    assert sure > 10 if slope else sure < 4


@pytest.mark.parametrize("rule", ["fa", "usf", "dfa", "drtp"])
@pytest.mark.parametrize("layer", ["0", "2"])
def test_small_steps_come_near_the_angle_of_the_gradient(batch, rule, layer):
    learner = specimen(rule, batch)
    scale = best_scale(learner.respond(batch.x), batch.y)
    update = learner.update(batch.x, batch.y)[f"{layer}.weight"]
    expected = float(angle(update, gradients(batch.x, batch.y, scale)[f"{layer}.weight"]))
    ours = by_steps(specimen(rule, batch), [layer], batch)[layer]
    # 24 directions know the gradient's norm to 15 %.
    assert abs(torch.tensor(ours).deg2rad().cos() - torch.tensor(expected).deg2rad().cos()) < 0.2
    assert ours == pytest.approx(expected, abs=8 if expected > 60 else 25)


def test_small_steps_tell_down_from_up(batch):
    down = by_steps(specimen("backprop", batch), ["0"], batch)["0"]
    learner = specimen("backprop", batch)
    learner.update = lambda x, y: {name: -g for name, g in gradients(x, y).items()}
    assert down < 40 and by_steps(learner, ["0"], batch)["0"] > 140


def test_the_weights_are_put_back_and_layers_without_an_update_left_out(batch):
    learner = specimen("frozen", batch)
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    assert by_steps(learner, ["0", "4"], batch).keys() == {"4"}
    assert all(torch.equal(p, before[name]) for name, p in learner.model.named_parameters())


def test_a_model_that_answers_otherwise_has_no_gradient(batch):
    learner = specimen("fa", batch)
    learner.respond = lambda x: x[:, :4]
    assert by_gradient(learner, ["0"], batch.first(4))[0] == {}


def test_the_best_scale_is_steep_where_answers_are_right():
    """Of answers that are certain and right the steepest, of such as are certain and wrong the flattest."""
    y = torch.arange(40) % 2
    sure = F.one_hot(y, 2).double()
    assert best_scale(sure, y) == pytest.approx(10**1.5)
    assert best_scale(sure.flip(1), y) == pytest.approx(0.1)
