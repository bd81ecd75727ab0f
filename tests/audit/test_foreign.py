"""The door for other people's code, and what comes through it: honest, dishonest, broken, in place, in float32."""

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plausible.audit import Batch, Foreign, ForeignSubject, LearnerSubject, Unmeasurable, audit
from plausible.audit.criteria.weight_transport import weight_transport
from plausible.core import bind
from plausible.core.errors import ConfigurationError

WIDTHS = (20, 16, 12, 4)


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4))


def batch(n: int = 8) -> Batch:
    draw = torch.Generator().manual_seed(1)
    return Batch(torch.randn(n, 20, generator=draw), torch.randint(4, (n,), generator=draw), 4)


class Pretended:
    """An optimiser that draws feedback weights, and applies the gradient that back-propagation has left."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.feedback = {name: torch.randn_like(p) for name, p in model.named_parameters() if p.dim() == 2}

    def zero_grad(self) -> None:
        for p in self.model.parameters():
            p.grad = None

    @torch.no_grad()
    def step(self) -> None:
        for p in self.model.parameters():
            assert p.grad is not None
            p -= 0.1 * p.grad


class Honest(Pretended):
    """The same, which rebuilds every update from the output error and its feedback weights."""

    @torch.no_grad()
    def step(self) -> None:
        linear = [layer for layer in self.model if isinstance(layer, nn.Linear)]
        names = list(self.feedback)
        error, inputs = self.error, self.inputs
        for place in (2, 1, 0):
            update = error.T @ inputs[place], error.sum(0)
            if place:
                error = (error @ self.feedback[names[place]]) * (1 - inputs[place] ** 2)
            linear[place].weight -= 0.1 * update[0]
            linear[place].bias -= 0.1 * update[1]

    def watch(self, x: Tensor, y: Tensor) -> None:
        with torch.no_grad():
            one = torch.tanh(self.model[0](x))
            two = torch.tanh(self.model[2](one))
            output = self.model[4](two)
            self.inputs = x, one, two
            self.error = (output.softmax(1) - F.one_hot(y, 4)) / len(y)


def pretended():
    model = perceptron()
    optimizer = Pretended(model)

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return model, step


def honest():
    model = perceptron()
    optimizer = Honest(model)

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.feedback = {name: b.to(x.dtype) for name, b in optimizer.feedback.items()}
        optimizer.watch(x, y)
        optimizer.step()

    return model, step


def plain():
    """`.grad` is filled, and no weight moves."""
    model = perceptron()
    return model, lambda x, y: F.cross_entropy(model(x), y).backward()


def test_a_pretended_feedback_alignment_is_found_out_and_an_honest_one_is_not():
    verdicts = {make: weight_transport(ForeignSubject(make, batch()), batch()) for make in (pretended, honest)}
    assert verdicts[pretended].verdict == "violated", verdicts[pretended].sentence
    assert verdicts[pretended].also["change per change, no sign flipping"] > 0.1
    assert verdicts[honest].verdict == "solved" and verdicts[honest].value < 1e-12


def reference(n: int = 8) -> dict[str, Tensor]:
    """Autograd's gradient for the model that every factory here builds under seed 0."""
    torch.manual_seed(0)
    model = perceptron().double()
    b = batch(n)
    F.cross_entropy(model(b.x.double()), b.y).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def in_place():
    """No gradient is left, and weights move."""
    model, step = pretended()

    def forgetful(x: Tensor, y: Tensor) -> None:
        step(x, y)
        model.zero_grad()

    return model, forgetful


@pytest.mark.parametrize(("make", "rate"), [(plain, 1.0), (pretended, 1.0), (in_place, 0.1)])
def test_an_update_is_the_gradient_or_what_moved_and_weights_are_held(make, rate):
    subject = ForeignSubject(make, batch())
    assert subject.dtype == torch.float64 and not subject.wired and subject.time_axis is None
    copy = subject.copy()
    before = {name: p.clone() for name, p in copy.model.named_parameters()}
    for _ in range(2):  # the second time from the same weights
        copy.clear()
        copy.learn(batch().x, batch().y)
        updates = copy.updates()
        for name, gradient in reference().items():
            torch.testing.assert_close(updates[name], rate * gradient, rtol=1e-9, atol=1e-15)
    copy.learn(batch().x, batch().y)  # it adds
    torch.testing.assert_close(copy.updates()["0.weight"], 2 * updates["0.weight"])
    assert all(torch.equal(before[name], p) for name, p in copy.model.named_parameters())
    copy.optimizer(1.0).step()
    torch.testing.assert_close(copy.model[0].weight, before["0.weight"] - 2 * updates["0.weight"])


def test_weights_may_go_on_moving():
    copy = ForeignSubject(in_place, batch(), hold_weights=False).copy()
    before = copy.model[0].weight.clone()
    first = copy.update(batch().x, batch().y)
    torch.testing.assert_close(copy.model[0].weight, before - first["0.weight"])
    assert not torch.equal(copy.update(batch().x, batch().y)["0.weight"], first["0.weight"])


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "AdamW"])
def test_an_optimiser_that_normalises_hides_no_transport(name):
    def make():
        model = perceptron()
        optimizer = getattr(torch.optim, name)(model.parameters(), lr=1e-3)

        def step(x: Tensor, y: Tensor) -> None:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

        return model, step

    subject = ForeignSubject(make, batch())
    assert subject.dtype == torch.float64
    found = weight_transport(subject, batch())
    assert found.verdict == "violated" and found.also["change per change, no sign flipping"] > 0.1
    updates = subject.copy().update(batch().x, batch().y)
    torch.testing.assert_close(updates["0.weight"], reference()["0.weight"])


def test_an_optimiser_that_applies_something_else_than_it_finds_is_judged_by_what_it_applies():
    def make():
        model = perceptron()
        optimizer = Honest(model)

        def step(x: Tensor, y: Tensor) -> None:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.feedback = {name: b.to(x.dtype) for name, b in optimizer.feedback.items()}
            optimizer.watch(x, y)
            optimizer.step()

        return model, step

    assert weight_transport(ForeignSubject(make, batch()), batch()).verdict == "solved"


def test_feedback_that_moves_beside_gradients_is_no_update():
    def make():
        model = perceptron()
        model.feedback = nn.Parameter(torch.randn(3, 3), requires_grad=False)  # `model` runs as a Sequential no more

        def step(x: Tensor, y: Tensor) -> None:
            F.cross_entropy(model[:5](x), y).backward()
            model.feedback.data.mul_(0.5)

        return Foreign(model, step, respond=lambda x: model[:5](x))

    copy = ForeignSubject(make, batch()).copy()
    kept = copy.model.feedback.clone()
    assert set(copy.update(batch().x, batch().y)) == set(reference())
    torch.testing.assert_close(copy.model.feedback, 0.5 * kept, check_dtype=False)


def test_copies_replay_their_random_numbers_and_leave_everybody_elses_alone():
    def make():
        model = perceptron()

        def step(x: Tensor, y: Tensor) -> None:
            noise = torch.randn(()) + np.random.randn() + random.random()
            (noise.double() * F.cross_entropy(model(x), y)).backward()

        return model, step

    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    states = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    subject = ForeignSubject(make, batch())
    one, two = subject.copy(), subject.copy()
    first, second = (copy.update(batch().x, batch().y) for copy in (one, two))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(one.update(batch().x, batch().y)["0.weight"], first["0.weight"])
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1]) and states[2] == random.getstate()


def single(x: Tensor) -> Tensor:
    """What a part of foreign code does that knows float32 only."""
    return x.float()


def test_code_that_refuses_float64_is_audited_in_float32():
    def make():
        model = perceptron()
        return model, lambda x, y: F.cross_entropy(model(single(x)), y).backward()

    subject = ForeignSubject(make, batch())
    assert subject.dtype == torch.float32
    assert weight_transport(subject, batch()).verdict == "violated"


@pytest.mark.parametrize(("transported", "verdict"), [(False, "solved"), (True, "violated"), (None, "partly")])
def test_code_that_computes_in_float32_whatever_it_is_given_is_judged_as_that(transported, verdict):
    def make():
        model = perceptron()
        feedback = [torch.randn(4, 12), torch.randn(12, 16)]

        def step(x: Tensor, y: Tensor) -> None:
            weights = [model[i].weight.detach() for i in (4, 2)]
            h1 = torch.tanh(model[0](x))
            h2 = torch.tanh(model[2](h1))
            error = (single(model[4](h2).softmax(1)) - F.one_hot(y, 4)) / len(y)
            back = {True: weights, False: feedback, None: [w.sign() for w in weights]}[transported]
            e2 = single(error @ single(back[0])) * single(1 - h2**2)
            e1 = single(e2 @ single(back[1])) * single(1 - h1**2)
            for layer, e, h in ((model[0], e1, x), (model[2], e2, h1), (model[4], error, h2)):
                layer.weight.grad = (e.T @ single(h)).detach().to(x.dtype)

        return model, step

    subject = ForeignSubject(make, batch())
    assert subject.dtype == torch.float32
    assert weight_transport(subject, batch()).verdict == verdict


def test_copies_that_differ_cannot_be_measured():
    calls = iter(range(1000))

    def make():
        model = perceptron()
        scale = 1 + next(calls)
        return model, lambda x, y: (scale * F.cross_entropy(model(x), y)).backward()

    subject = ForeignSubject(make, batch())
    with pytest.raises(Unmeasurable, match="learned differently"):
        subject.copy()
    card = audit(subject, batch(), only=["weight transport"])
    assert card.findings["weight transport"].verdict == "could not be measured"
    assert "same seeds" in card.findings["weight transport"].sentence


def test_a_step_that_teaches_nothing_cannot_be_measured():
    with pytest.raises(Unmeasurable, match="no weight had moved"):
        ForeignSubject(lambda: (perceptron(), lambda x, y: None), batch()).copy()


def test_a_factory_that_returns_the_same_model_twice_is_refused():
    model = perceptron()
    with pytest.raises(ConfigurationError, match="the same model"):
        ForeignSubject(lambda: (model, lambda x, y: F.cross_entropy(model(x), y).backward()), batch())


def test_a_module_that_all_copies_share_is_not_shared():
    act = nn.Tanh()  # as a default argument is

    def make():
        model = nn.Sequential(nn.Linear(20, 16), act, nn.Linear(16, 12), act, nn.Linear(12, 4))
        return model, lambda x, y: F.cross_entropy(model(x), y).backward()

    subject = ForeignSubject(make, batch())
    spoilt = subject.copy()
    spoilt.model[1].register_forward_hook(lambda module, inputs, output: 0 * output)
    assert not spoilt.update(batch().x, batch().y)["0.weight"].any()
    fresh = subject.copy()
    torch.testing.assert_close(fresh.update(batch().x, batch().y)["0.weight"], reference()["0.weight"])
    assert fresh.model[1] is not fresh.model[3] and not act._forward_hooks


@pytest.mark.parametrize("made", [None, 3, (perceptron(),), (perceptron(), None), (3, print), (1, 2, 3, 4, 5, 6)])
def test_a_factory_must_return_a_model_and_a_step(made):
    with pytest.raises(ConfigurationError, match=r"must return \(model, step\)"):
        ForeignSubject(lambda: made, batch())


def test_a_step_that_fails_is_told_of():
    with pytest.raises(ConfigurationError, match=r"x \(8, 20\).*ZeroDivisionError"):
        ForeignSubject(lambda: (perceptron(), lambda x, y: 1 / 0), batch())


def test_an_object_with_the_attributes_will_do():
    class Lab:
        time_axis = 1

        def __init__(self):
            self.model = perceptron()

        def step(self, x, y):
            F.cross_entropy(self.model(x), y).backward()

    subject = ForeignSubject(Lab, batch())
    assert subject.name == "Lab" and subject.time_axis == 1
    assert weight_transport(subject, batch()).verdict == "violated"


def test_a_factory_may_be_named(tmp_path, monkeypatch):
    (tmp_path / "lab_with_factory.py").write_text(
        "import torch\nclass Inner:\n    @staticmethod\n    def make():\n"
        "        model = torch.nn.Linear(20, 4)\n"
        "        return model, lambda x, y: torch.nn.functional.cross_entropy(model(x), y).backward()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    subject = ForeignSubject("lab_with_factory:Inner.make", batch())
    assert subject.name == "lab_with_factory:Inner.make"
    assert set(subject.copy().update(batch().x, batch().y)) == {"weight", "bias"}
    with pytest.raises(ConfigurationError, match="nosuch"):
        ForeignSubject("lab_with_factory:nosuch", batch())


def test_there_are_no_wires():
    copy = ForeignSubject(plain, batch()).copy()
    copy.tap(None)
    assert copy.feedback_weights() == {}
    with pytest.raises(Unmeasurable, match="no wires"):
        copy.tap(lambda name, message, source, target: message)


def test_weights_of_modules_that_nobody_can_watch_are_not_judged():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.W = nn.Parameter(torch.randn(20, 12) / 5)
            self.readout = nn.Linear(12, 4)

        def forward(self, x):
            return self.readout(torch.tanh(x @ self.W))

    def make():
        model = Own()
        return model, lambda x, y: F.cross_entropy(model(x), y).backward()

    found = audit(ForeignSubject(make, batch()), batch(), only=["weight transport"]).findings["weight transport"]
    assert found.verdict == "could not be measured" and "the model itself" in found.sentence


def test_a_layer_that_normalises_its_weight_is_not_judged():
    class Normalised(nn.Linear):
        def forward(self, x):
            return F.linear(x, self.weight / self.weight.norm(), self.bias)

    def make():
        model = nn.Sequential(nn.Linear(20, 16), nn.Tanh(), Normalised(16, 4))
        return model, lambda x, y: F.cross_entropy(model(x), y).backward()

    found = audit(ForeignSubject(make, batch()), batch(), only=["weight transport"]).findings["weight transport"]
    assert found.verdict == "could not be measured" and "Layer 2 answers" in found.sentence


def test_a_layer_called_at_every_time_step_is_not_taken_for_a_recurrent_one():
    """A local rule in which a synapse's change depends on its own weight transports none."""

    def make():
        model = nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 4))

        def step(x: Tensor, y: Tensor) -> None:
            with torch.no_grad():
                for _ in range(3):
                    h = x
                    for layer, after in ((model[0], model[1]), (model[2], torch.tanh)):
                        out = after(layer(h))
                        layer.weight.grad = (layer.weight.grad if layer.weight.grad is not None else 0) + (
                            layer.weight * (out.T @ h)
                        )
                        h = out

        return model, step

    found = weight_transport(ForeignSubject(make, batch()), batch())
    assert found.verdict == "solved", found.sentence


def test_the_same_learner_gets_the_same_findings_through_both_doors():
    def make():
        model = perceptron()
        learner = bind(model, "fa", F.cross_entropy)
        return model, lambda x, y: learner.learn(x, y)

    torch.manual_seed(0)
    learner = bind(perceptron(), "fa", F.cross_entropy)
    criteria = ["weight transport", "target"]
    inside = audit(LearnerSubject(learner), batch(), only=criteria)
    outside = audit(ForeignSubject(make, batch()), batch(), only=criteria)
    assert [f.verdict for f in inside.findings.values()] == [f.verdict for f in outside.findings.values()]
    assert inside.findings["target"].value == outside.findings["target"].value


@pytest.mark.parametrize(
    ("factory", "verdict"),
    [
        ("biotorch_backprop", "violated"),
        ("biotorch_fa", "solved"),
        ("biotorch_usf", "partly"),
        ("biotorch_dfa", "solved"),
    ],
)
def test_the_peer_does_what_it_says(factory, verdict, monkeypatch, pytestconfig):
    pytest.importorskip("biotorch")
    monkeypatch.syspath_prepend(pytestconfig.rootpath)
    draw = torch.Generator().manual_seed(1)
    images = Batch(torch.randn(8, 1, 8, 8, generator=draw), torch.randint(10, (8,), generator=draw), 10)
    assert weight_transport(ForeignSubject(f"benchmarks.foreign:{factory}", images), images).verdict == verdict
