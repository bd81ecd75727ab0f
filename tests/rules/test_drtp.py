"""Direct random target projection: δ_l = (B_l y*) ∘ φ′(a_l) (Frenkel, Lefebvre & Bol 2021)."""

import numpy as np
import pytest
import torch
from literal import Literal, assert_updates, batch, mlp, slope
from torch.nn import functional as F

import plausible
from plausible.core.errors import ConfigurationError


def expected_updates(model, learner, x, y):
    """δ_l from the target, as its part −y*/N of e = (softmax − y*)/N; the output layer by its own error."""
    B = [learner.state_dict()[f"feedback.{k}.B"].numpy() for k in (2, 4)]
    sums = None
    for n in range(len(x)):
        target = np.zeros(4)
        target[y[n]] = 1
        one = Literal(
            model,
            lambda W, a, h, e, t=target: [-(b.T @ t) / len(x) * slope(z) for b, z in zip(B, a[:2], strict=True)],
        ).updates(x[n : n + 1], y[n : n + 1])
        one[-1] = tuple(part / len(x) for part in one[-1])  # Literal's own mean was over one example
        sums = one if sums is None else [(W + w, b + v) for (W, b), (w, v) in zip(sums, one, strict=True)]
    return sums


def test_mlp_is_the_papers_equation():
    model, (x, y) = mlp(), batch()
    learner = plausible.bind(model, "drtp", F.cross_entropy, example=x)
    expected = expected_updates(model, learner, x, y)
    learner.learn(x, y)
    assert_updates(model, expected)


def test_targets_may_be_given_in_the_shape_of_the_output():
    """One-hot by hand is the same as class indices, where the loss takes both."""
    (x, y), grads = batch(), []
    for target in (y, F.one_hot(y, 4).double()):
        model = mlp()
        plausible.bind(model, "drtp", F.cross_entropy, example=x).learn(x, target)
        grads.append([p.grad for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-15)


def test_hidden_layers_do_not_wait_for_the_output():
    """Other output weights, hence another error, change no hidden update."""
    (x, y), grads = batch(), []
    for add in (0.0, 1.0):
        model = mlp()
        with torch.no_grad():
            model[4].weight.add_(add)
        plausible.bind(model, "drtp", F.cross_entropy, example=x).learn(x, y)
        grads.append([p.grad for p in model[:4].parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize(
    ("y", "got"),
    [(torch.zeros(6), r"\(6,\) and torch.float32"), (torch.zeros(6, 3), r"\(6, 3\)"), (None, "NoneType")],
)
def test_a_teacher_without_a_target_is_an_error(y, got: str):
    x, _ = batch()
    learner = plausible.bind(mlp(), "drtp", lambda output, y: output.square().mean(), example=x)
    with pytest.raises(ConfigurationError, match=f"drtp broadcasts the target.*{got}"):
        learner.learn(x, y)
