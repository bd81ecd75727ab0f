"""A net that learns while it is watched: the same for the same seed, in one stream that is never reset."""

from itertools import islice

import pytest
import torch
import torch.nn.functional as F

from plausible import data
from plausible.core.errors import ConfigurationError
from plausible.train.online import STREAMS, learning, settings
from plausible.train.session import assemble

QUICK = settings("nef-dfa", 0).replace(model_options={"width": 8, "depth": 1, "cells": 2})


def test_it_is_ordinary_learning_on_the_batches_of_the_run():
    """Held against a loop without anybody who watches."""
    shown = list(islice(learning(QUICK), 3))
    session, answers = assemble(QUICK, torch.device("cpu")), []
    digits = data.load("digits")
    for k, (x, y) in enumerate(islice(session.train.epoch(), 3)):
        session.optimizer.zero_grad()
        output = session.learner.learn(x, y).output
        session.optimizer.step()
        answers.append((output.argmax(1) == y).double().mean().item())
        assert torch.equal(shown[k].output, output[0]) and shown[k].label == int(y[0])
        assert shown[k].answer == int(output[0].argmax())
        assert shown[k].accuracy == pytest.approx(sum(answers) / len(answers))
        assert shown[k].seconds == pytest.approx(0.08 * (k + 1)) and len(shown[k].moments) == 40
        pixels = digits.train.x.float().reshape(len(digits.train), -1)
        nearest = F.cosine_similarity(pixels, shown[k].image.reshape(1, -1) + 1e-6).argmax()
        assert int(digits.train.y[nearest]) == shown[k].label, "the picture is that of the stimulus"
    assert QUICK.batch_size == STREAMS


def test_another_seed_is_another_run():
    one, other = (next(learning(QUICK.replace(seed=seed))) for seed in (0, 1))
    assert not torch.equal(one.output, other.output)


def test_torch_is_left_as_it_was():
    before = torch.get_rng_state()
    shown = learning(QUICK)
    next(shown)
    shown.close()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_net_without_spikes_cannot_be_watched():
    with pytest.raises(ConfigurationError, match="no spikes to watch"):
        next(learning(QUICK.replace(rule="backprop", model="mlp", model_options={})))
