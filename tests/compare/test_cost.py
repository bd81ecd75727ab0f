"""Memory is exact and is tested against sums of bytes; of time only that it is measured."""

import pytest
import torch
from torch import nn

from plausible.audit.memory import _Allocations, kept_bytes
from plausible.compare.cost import _take_turns, measure
from plausible.train import Run

SMALL = Run(model_options={"width": 16, "depth": 1}, batch_size=8, optimizer="SGD")


@pytest.fixture(scope="module")
def costs():
    return {rule: measure(SMALL.replace(rule=rule), seconds=0.02) for rule in ("backprop", "sham", "fa", "usf")}


def test_feedback_alignment_costs_backprop_and_its_feedback_weights(costs):
    feedback = 4 * (64 * 16 + 16 * 10)  # of the two layers, float32
    assert costs["fa"]["feedback_bytes"] in (feedback, 4 * 16 * 10)  # the first layer's B is never used
    assert costs["fa"]["memory_bytes"] - costs["backprop"]["memory_bytes"] == costs["fa"]["feedback_bytes"]


def test_what_needs_no_feedback_weights_costs_no_memory(costs):
    for rule in ("backprop", "usf"):
        assert costs[rule]["feedback_bytes"] == 0
        assert costs[rule]["memory_ratio"] >= 1.0
    assert costs["backprop"]["memory_ratio"] == 1.0


def test_backprop_with_sgd_holds_parameters_activations_and_gradients(costs):
    parameters = 4 * (64 * 16 + 16 + 16 * 10 + 10)
    assert costs["backprop"]["memory_bytes"] >= 2 * parameters  # weights and, at the end, all their gradients
    assert costs["backprop"]["memory_bytes"] < 2 * parameters + 10 * 4 * 8 * (16 + 16 + 10)  # a few activations


def test_between_steps_lie_parameters_and_feedback(costs):
    parameters = 4 * (64 * 16 + 16 + 16 * 10 + 10)
    for cost in costs.values():  # SGD without momentum keeps nothing
        assert cost["resting_bytes"] == parameters + cost["feedback_bytes"] < cost["memory_bytes"]


def test_what_hardware_counts_is_that_of_the_run_s_own_batch(costs):
    hardware = costs["fa"]["hardware"]
    assert hardware["examples"] == SMALL.batch_size
    assert hardware["inference_macs"] == 64 * 16 + 16 * 10
    assert hardware == costs["fa"]["hardware"] | {"learning_macs": 2 * (64 * 16 + 16 * 10) + 16 * 10}


def test_times_are_positive_and_in_order(costs):
    for cost in costs.values():
        assert cost["seconds_per_step"] > 0
        assert 0 < cost["time_low"] <= cost["time_ratio"] <= cost["time_high"]


def test_turns_compare_neighbours():

    def busy(n):
        def step():
            for _ in range(n):
                torch.ones(20_000).sum()

        return step

    _, ratios = _take_turns(busy(40), busy(10), seconds=0.1)
    assert len(ratios) >= 8
    assert 2 < sorted(ratios)[len(ratios) // 2] < 8  # four times the work


def test_allocations_count_what_is_new_while_it_lives():
    given = torch.ones(1000)
    with _Allocations() as seen:
        a = given + 1  # 4000
        b = a.double()  # + 8000
        b.view(10, 100).mul_(2)  # a view and an in-place operation: nothing
        assert seen.now == 12_000
        del a
        assert seen.now == 8_000
        torch.zeros(500)  # for a moment
    assert seen.peak == 12_000


def test_allocations_see_what_autograd_keeps():
    layer = nn.Linear(100, 100, bias=False)
    with _Allocations() as seen:
        layer(torch.ones(50, 100)).exp().sum().backward()
    x, h, w = 4 * 50 * 100, 4 * 50 * 100, 4 * 100 * 100
    assert seen.now == w  # of all this, only the weight's gradient is left
    assert seen.peak >= x + h + w


def test_kept_is_what_outlives_the_computation():
    kept: list[torch.Tensor] = []

    def computation():
        a = torch.ones(1000)
        kept.append(a[:10])  # the whole storage stays
        kept.append(a.double())
        return a + 1

    assert kept_bytes(computation) == 4_000 + 8_000
    assert len(kept) == 2
