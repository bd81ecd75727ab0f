"""What hardware would count, against hand counts of nets small enough to count by hand."""

import copy
import math
from dataclasses import astuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import plausible
from plausible.compare.hardware import Counts, count
from plausible.compare.traffic import traffic
from plausible.core import Learner, registry
from plausible.models import build

T, IN, CELLS, CLASSES = 6, 3, 4, 5


def static(rule: str, dtype: torch.dtype = torch.float32) -> tuple[Learner, Tensor, Tensor]:
    """4 → 6 → 3, without biases."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False)).to(dtype)
    x, y = torch.rand(8, 4).to(dtype), torch.arange(8) % 3
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)
    return plausible.bind(model, rule, F.cross_entropy, example=x, optimizer=optimizer), x, y


def firing() -> tuple[Learner, Tensor, Tensor]:
    """e-prop on four cells: two fire at every step where there is a stimulus, and nothing else ever fires."""
    torch.manual_seed(0)
    model = build("rsnn", shape=(IN,), classes=CLASSES, width=CELLS)
    with torch.no_grad():
        model.get_parameter("input.weight").zero_()[:2] = 100
        model.get_parameter("recurrent.weight").zero_()
    x = torch.zeros(4, T, IN)
    x[:2] = 1  # the other two examples are silent
    return plausible.bind(model, "eprop", F.cross_entropy, example=x), x, torch.arange(4)


@pytest.mark.parametrize(("rule", "feedback"), [("backprop", 6), ("sham", 6), ("fa", 6), ("dfa", 6), ("frozen", 0)])
def test_numbers_cost_the_bits_of_their_precision(rule, feedback):
    for dtype, bits in ((torch.float32, 32), (torch.float64, 64)):
        found = count(*static(rule, dtype))
        assert found.inference_bits == found.learning_bits == 6 * bits
        assert found.feedback_bits == feedback * bits
        assert found.teacher_bits == 3 * bits  # the error of the output
        assert found.inference_spikes == found.learning_spikes == 0
        assert found.inference_steps == found.learning_steps == 1


def test_back_propagation_and_the_same_on_wires_count_the_same():
    assert count(*static("backprop")) == count(*static("sham"))


def test_macs_of_a_small_net():
    found = count(*static("fa"))
    forward, back = 4 * 6 + 6 * 3, 6 * 3
    assert found.inference_macs == forward
    assert found.learning_macs == 2 * forward + back
    assert found.learning_elementwise == 6 + 6  # ReLU and its derivative
    assert found.examples == 8


def test_spikes_and_their_addresses():
    found = count(*firing())
    assert found.inference_steps == found.learning_steps == T
    # Two of four cells at each step, in half of the examples; the readout and the recurrent layer hear the same spikes.
    assert found.inference_spikes == found.learning_spikes == 2 * T / 2
    assert found.inference_bits == found.learning_bits == found.inference_spikes * math.log2(CELLS)


def test_synaptic_operations_of_known_spikes():
    found = count(*firing())
    stimulus = T * IN * 2 / 2  # each of the inputs has a fan-out of two synapses that are there
    assert found.inference_synaptic_operations == stimulus + found.inference_spikes * CLASSES
    assert found.inference_accumulates == found.inference_synaptic_operations
    assert found.inference_macs == T * (IN * CELLS + CELLS * CELLS + CELLS * CLASSES)
    # The error goes back through B, from every step and every example.
    back = T * CLASSES * CELLS
    change = T * CLASSES * (CELLS + 1)  # of the readout, at once from its traces and that of its bias
    assert found.learning_macs == found.inference_macs + back + change


def test_teaching_messages_of_e_prop():
    found = count(*firing())
    assert found.teacher_bits == 32 * T * CLASSES
    assert found.feedback_bits == 32 * T * 2 * CELLS  # learning signals of the input and of the recurrent layer


def test_traces_are_held_from_call_to_call():
    found = count(*firing())
    n, per = 4, CELLS
    traces = (IN + 1) + per * (IN + 1) + per + per * per + (per + 1) + per  # ε, e of both layers, readout's, ψ
    net = 3 * per + CLASSES  # v, z, and one zero for adaptation and refractoriness, of which there is none
    assert found.state_bytes == 4 * n * (traces + net)
    assert count(*static("fa")).state_bytes == 0


def test_synapses_changed():
    learner, x, y = static("fa")
    learner.learn(x, y)
    changed = sum(int((p.grad != 0).sum()) for p in learner.model.parameters() if p.grad is not None)
    learner.zero_grad()
    assert count(learner, x, y).synapses_changed == changed
    hidden = (x @ learner.model.get_parameter("0.weight").t()).relu()
    assert count(*static("frozen")).synapses_changed == 3 * int((hidden != 0).any(0).sum()) < 6 * 3
    # Kolen-Pollack's feedback takes the same steps as the forward weights.
    kolen, x, y = static("kolen-pollack")
    assert count(kolen, x, y).synapses_changed == 2 * changed


def test_a_message_that_two_layers_hear_is_sent_once():
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x).relu()
            return self.b(h) + self.c(h)

    torch.manual_seed(0)
    x, y = torch.rand(8, 4), torch.arange(8) % 3
    answering, learning = traffic(plausible.bind(Fork(), "backprop", F.cross_entropy), x, y)
    assert answering.forward == learning.forward == 8 * 6 * 32
    assert learning.feedback == 2 * 8 * 6 * 32  # each sends its own


def test_counting_leaves_learner_and_random_state_alone():
    for learner, x, y in (static("brsf"), static("weight-mirror"), firing()):
        learner.learn(x, y)
        before = copy.deepcopy(learner.state_dict())
        grads = {name: p.grad.clone() for name, p in learner.named_parameters() if p.grad is not None}
        random = torch.get_rng_state()
        count(learner, x, y)
        torch.testing.assert_close(learner.state_dict(), before, rtol=0, atol=0)
        after = {name: p.grad for name, p in learner.named_parameters() if p.grad is not None}
        torch.testing.assert_close(after, grads, rtol=0, atol=0)
        assert torch.equal(torch.get_rng_state(), random)
        assert learner.context.tap is None


@pytest.mark.parametrize("name", registry.names())
def test_every_rule_can_be_counted(name):
    torch.manual_seed(0)
    rule, draw = registry.make(name), torch.Generator().manual_seed(0)
    model = build(rule.model, shape=(1, 4, 4), classes=3, width=8)
    x, y = torch.rand(9, 1, 4, 4, generator=draw), torch.arange(9) % 3
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)
    found = count(plausible.bind(model, rule, F.cross_entropy, example=x, optimizer=optimizer), x, y)
    assert isinstance(found, Counts)
    assert all(math.isfinite(value) and value >= 0 for value in astuple(found))
    assert found.learning_macs > found.inference_macs
    for phase in ("inference", "learning"):
        macs, synaptic, additions = (
            getattr(found, f"{phase}_{what}") for what in ("macs", "synaptic_operations", "accumulates")
        )
        assert macs >= synaptic >= additions
    assert found.synapses_changed > 0
    assert found.teacher_bits > 0
