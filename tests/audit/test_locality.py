"""Locality: products of two cells' activity, least squares, and a message that bypasses its wire."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.audit import Batch, LearnerSubject, Unmeasurable
from plausible.audit.criteria.locality import locality
from plausible.core import Learner, Rule, registry
from plausible.core.rule import Claims, Outcome

CELLS, WEIGHTS = "other presynaptic cells: ", "other layers' weights: "


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))


def cnn() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 4, 4),
    )


class Loop(nn.Module):
    """A recurrent net: three calls of each of two layers in one response."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.again, self.leave = nn.Linear(10, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.enter(x))
        for _ in range(3):
            h = torch.tanh(self.again(h) + self.enter(x))
        return self.leave(h)


def loop() -> Loop:
    torch.manual_seed(0)
    return Loop()


SHAPES: dict[Callable[[], nn.Module], tuple[int, ...]] = {mlp: (10,), cnn: (2, 4, 4), loop: (10,)}


def found(rule, net: Callable[[], nn.Module] = mlp):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    x, y = torch.randn(8, *SHAPES[net]), torch.arange(8) % 4
    learner = plausible.bind(model, rule, F.cross_entropy, example=x, optimizer=optimizer)
    return locality(LearnerSubject(learner), Batch(x, y, 4))


@dataclass(frozen=True, kw_only=True)
class ThreeFactor(Rule):
    """Δ = δ xᵀ in the three layers of :func:`mlp`, written out, with one fault at a time.

    Attributes:
        fault: "squares": the readout learns by least squares, whose step in one synapse depends on the activity of all
            others; "norm": its step is divided by the norm of all presynaptic activity; "bypass": the error reaches the
            second layer through W₃ without a wire.
        hidden: whether the hidden layers are taught.
    """

    name = "three-factor"
    claims = Claims(
        reads="", forward_weights="full", derivatives_travel=True, phases=1, online=False, additive=True, paper=""
    )
    fault: str = ""
    hidden: bool = True

    def bind(self, model: nn.Module, loss, example=None) -> "ThreeFactorLearner":
        return ThreeFactorLearner(model, self, loss)


class ThreeFactorLearner(Learner):
    rule: ThreeFactor

    def _learn(self, x, y) -> Outcome:
        assert isinstance(self.model, nn.Sequential)
        one, bend, two, rectify, three = self.model
        with torch.no_grad():
            h1 = bend(a1 := one(x))
            h2 = rectify(a2 := two(h1))
            output = three(h2)
            e = self.wire("error", torch.softmax(output, 1) - F.one_hot(y, 4), "teacher", "4")
            pre = h2
            if self.rule.fault == "squares":
                pre = h2 @ torch.linalg.inv(torch.eye(6).to(h2) + h2.T @ h2)
            elif self.rule.fault == "norm":
                pre = h2 / h2.norm(dim=1, keepdim=True)
            d2 = e @ three.weight
            if self.rule.fault != "bypass":
                d2 = self.wire("2.error", d2, "4", "2")
            d2 = d2 * (a2 > 0)
            d1 = self.wire("0.error", d2 @ two.weight, "2", "0") * (1 - torch.tanh(a1) ** 2)
            for layer, d, h in ((one, d1, x), (two, d2, h1), (three, e, pre)):
                if layer is three or self.rule.hidden:
                    step = d.T @ h / len(x)
                    layer.weight.grad = step if layer.weight.grad is None else layer.weight.grad + step
        return Outcome(F.cross_entropy(output, y), output)


@pytest.mark.parametrize("net", SHAPES)
@pytest.mark.parametrize("rule", ["sham", "fa", "usf", "dfa", "drtp", "kolen-pollack", "frozen"])
def test_a_product_of_what_two_cells_know_is_local(net, rule):
    if net is loop and rule in ("dfa", "drtp"):
        pytest.skip("they teach chains of blocks")
    finding = found(rule, net)
    assert finding.verdict == "solved" and finding.value < 1e-12, finding.sentence
    assert finding.samples == len(finding.layers) == (1 if rule == "frozen" else 3)


def test_a_three_factor_rule_is_local_in_both_respects():
    finding = found(ThreeFactor())
    assert finding.verdict == "solved" and finding.value < 1e-12
    assert {f"{kind}{layer}" for kind in (CELLS, WEIGHTS) for layer in "024"} == finding.also.keys()


@pytest.mark.parametrize("fault", ["squares", "norm"])
def test_a_step_that_depends_on_other_presynaptic_cells_is_not_local(fault):
    finding = found(ThreeFactor(fault=fault))
    assert finding.verdict == "partly" and finding.layers["4"] > 1e-2
    assert finding.layers["0"] < 1e-12 and finding.layers["2"] < 1e-12
    assert finding.also[f"{WEIGHTS}4"] < 1e-12
    assert found(ThreeFactor(fault=fault, hidden=False)).verdict == "violated"


def test_a_message_that_bypasses_its_wire_is_caught():
    finding = found(ThreeFactor(fault="bypass"))
    assert finding.verdict == "partly" and "updates of 2 changed" in finding.sentence
    assert finding.also[f"{WEIGHTS}2"] > 1e-2 and finding.also[f"{CELLS}2"] < 1e-12
    assert finding.layers["0"] < 1e-12, "its own message passes a wire"


def test_back_propagation_inside_autograd_bypasses_all_wires_but_one():
    finding = found("backprop")
    assert finding.verdict == "partly" and finding.layers["4"] < 1e-12
    assert finding.layers["0"] > 1e-2 and finding.layers["2"] > 1e-2


def test_channels_of_one_image_cannot_be_told_apart_and_it_is_said():
    def grey() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4))

    SHAPES[grey] = (1, 4, 4)
    finding = found("fa", grey)
    del SHAPES[grey]
    assert finding.verdict == "solved" and "in 0, other presynaptic cells" in finding.sentence
    assert f"{CELLS}3" in finding.also and f"{CELLS}0" not in finding.also


def test_without_a_taught_layer_it_does_not_apply():
    class Idle(ThreeFactorLearner):
        def _learn(self, x, y) -> Outcome:
            output = self(x).detach()
            return Outcome(F.cross_entropy(output, y), output)

    finding = locality(
        LearnerSubject(Idle(mlp(), ThreeFactor(), F.cross_entropy)), Batch(torch.randn(4, 10), torch.arange(4), 4)
    )
    assert finding.verdict == "does not apply"


def test_without_wires_nothing_is_claimed():
    subject = LearnerSubject(plausible.bind(mlp(), "fa", F.cross_entropy))
    subject.wired = False
    with pytest.raises(Unmeasurable, match="wires"):
        locality(subject, Batch(torch.randn(4, 10), torch.arange(4), 4))


def test_the_subject_stays_as_it_is():
    learner = plausible.bind(cnn(), registry.make("fa"), F.cross_entropy)
    before, random_state = copy.deepcopy(learner.state_dict()), torch.get_rng_state()
    x = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    locality(LearnerSubject(learner), Batch(x, torch.arange(4), 4))
    after = learner.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items() if isinstance(value, Tensor))
    assert torch.equal(random_state, torch.get_rng_state()) and all(p.grad is None for p in learner.parameters())
    assert learner.context.tap is None
