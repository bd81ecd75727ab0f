"""Sign symmetry with batch-wise random magnitude: M drawn anew for each mini-batch."""

import copy

import numpy as np
import torch
from literal import Literal, assert_convnet_updates, assert_updates, batch, convnet, images, mlp, transported, weights
from torch.nn import functional as F

import plausible
from plausible.core import Learner


def feedback_now(learner: Learner) -> list[np.ndarray]:
    """B as the next call of learn will draw it (the stream is a function of seed, layer and iteration)."""
    return [site.feedback(learner.weight(site).detach()).numpy() for site in learner.sites()]


def test_mlp_is_the_papers_equation_with_a_fresh_draw_each_time():
    model, (x, y) = mlp(), batch()
    learner = plausible.bind(model, "brsf", F.cross_entropy)
    draws = []
    for _ in range(3):
        B = feedback_now(learner)
        draws.append(B)
        expected = Literal(model, transported(B)).updates(x, y)
        learner.zero_grad()
        learner.learn(x, y)
        assert_updates(model, expected)
    for layer, W in enumerate(weights(model)[0]):
        for B in draws:
            assert np.array_equal(np.sign(B[layer]), np.sign(W))
            assert np.abs(B[layer]).max() <= W.shape[1] ** -0.5
        cos = np.corrcoef(np.abs(draws[0][layer]).ravel(), np.abs(draws[1][layer]).ravel())[0, 1]
        assert abs(cos) < 5 / np.sqrt(W.size), "magnitudes of two draws are independent"


def test_convolutional_net_is_the_papers_equation():
    model, (x, y) = convnet(), images()
    before = copy.deepcopy(model)
    learner = plausible.bind(model, "brsf", F.cross_entropy)
    B = feedback_now(learner)
    learner.learn(x, y)
    assert_convnet_updates(model, before, B, x, y)


def test_one_draw_serves_a_whole_batch_and_evaluation_draws_nothing():
    """The same draw wherever one call of learn needs it: a weight that is used twice meets one M."""
    model, (x, y) = mlp(), batch()
    learner = plausible.bind(model, "brsf", F.cross_entropy)
    first = feedback_now(learner)
    state = torch.get_rng_state()
    learner.eval()(x)
    learner.train()(x)
    assert torch.equal(state, torch.get_rng_state())
    assert all(np.array_equal(a, b) for a, b in zip(first, feedback_now(learner), strict=True))
    learner.learn(x, y)
    assert not any(np.array_equal(a, b) for a, b in zip(first, feedback_now(learner), strict=True))


def test_a_resumed_run_draws_the_same():
    (x, y), runs = batch(), []
    whole = plausible.bind(mlp(), "brsf", F.cross_entropy)
    for _ in range(4):
        whole.learn(x, y)
        runs.append(feedback_now(whole))
        if len(runs) == 2:
            saved = copy.deepcopy(whole.state_dict())
    resumed = plausible.bind(mlp(seed=1), "brsf", F.cross_entropy)
    resumed.load_state_dict(saved)
    for expected in runs[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(expected, feedback_now(resumed), strict=True))
        resumed.learn(x, y)
