"""Schedules against torch's own schedulers and closed forms."""

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR

from plausible.train import schedules

PER_EPOCH, TOTAL = 7, 70


def torch_rates(scheduler_of, steps: int) -> list[float]:
    """The rate torch uses for each update when the base rate is 1."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler: LRScheduler = scheduler_of(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_cosine_is_torchs(floor):
    factor = schedules.make("cosine", {"floor": floor}, warmup=0, total=TOTAL, per_epoch=PER_EPOCH)
    expected = torch_rates(lambda o: CosineAnnealingLR(o, T_max=TOTAL, eta_min=floor), TOTAL)
    assert [factor(t) for t in range(TOTAL)] == pytest.approx(expected, abs=1e-12)


def test_step_is_torchs():
    options = {"milestones": [2, 5.5], "gamma": 0.3}
    factor = schedules.make("step", options, warmup=0, total=TOTAL, per_epoch=PER_EPOCH)
    # The second milestone lies between the updates 38 and 39: 5.5 * 7 = 38.5.
    expected = torch_rates(lambda o: MultiStepLR(o, [14, 39], gamma=0.3), TOTAL)
    assert [factor(t) for t in range(TOTAL)] == pytest.approx(expected, rel=1e-12)


def test_constant_is_exactly_one():
    factor = schedules.make("constant", {}, warmup=0, total=TOTAL, per_epoch=PER_EPOCH)
    assert {factor(t) for t in range(TOTAL)} == {1.0}


def test_warm_up_rises_linearly_and_the_rest_follows_from_its_start():
    factor = schedules.make("cosine", {}, warmup=5, total=TOTAL, per_epoch=PER_EPOCH)
    assert [factor(t) for t in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    closed = [(1 + math.cos(math.pi * k / 65)) / 2 for k in range(65)]
    assert [factor(5 + k) for k in range(65)] == pytest.approx(closed, abs=1e-12)
