"""What every registered rule must do. A new rule is tested here without an edit."""

import copy
import io
import re
from dataclasses import asdict

import pytest
import torch
from contract_tools import assert_same, assert_same_clock, own_state, taught
from torch import Tensor
from torch.nn import functional as F

from plausible.core import Learner, registry
from plausible.core.families.broadcast import BroadcastLearner
from plausible.functional import random as randomness

# --- learning ---------------------------------------------------------------------------------------------------


def test_learn_adds_to_grad(case):
    learner = case.bind()
    batch = case.batch()
    single = []
    for _ in range(2):  # what a rule redraws, it redraws in each call
        learner.zero_grad()
        learner.reset()
        learner.learn(*batch)
        single.append(taught(learner.model))
    learner.zero_grad()
    learner.context.iteration = 0
    for _ in range(2):
        learner.reset()
        learner.learn(*batch)
    both = taught(learner.model)
    assert both.keys() == single[0].keys()
    for key in both:
        torch.testing.assert_close(both[key], single[0][key] + single[1][key], rtol=1e-12, atol=1e-15)


def test_untaught_parameters_keep_no_grad(case):
    model = case.model()
    frozen = next(model.parameters())
    frozen.requires_grad_(False)
    learner = case.bind(model)
    learner.learn(*case.batch())
    assert frozen.grad is None
    report = learner.report()
    layers = {name.rpartition(".")[0] for name in taught(model)}
    assert set(report["covered"]) <= layers <= {*report["covered"], *report["exact"], *report["backprop"]}


def test_learn_changes_nothing_but_grad(case):
    model = case.model().eval()  # in evaluation mode, batch statistics are not collected either
    learner = case.bind(model)
    before = copy.deepcopy(learner.state_dict())
    random_state = torch.get_rng_state()
    learner.learn(*case.batch())
    after = learner.state_dict()
    del before["_extra_state"], after["_extra_state"]  # the clock
    assert_same(before, after)
    assert torch.equal(random_state, torch.get_rng_state())


def test_zero_input_teaches_the_first_weight_nothing(case):
    learner = case.bind()
    x, y = case.batch()
    learner.learn(torch.zeros_like(x), y)
    first = next(learner.model.parameters())
    assert first.grad is None or not first.grad.any()
    assert taught(learner.model)


def test_the_output_is_the_learners_and_the_loss_is_its(case):
    plain, (x, y) = case.model(), case.batch()
    learner, twin = case.bind(), case.bind()
    outcome, output = learner.learn(x, y), twin(x)
    assert torch.equal(outcome.output, output)
    if isinstance(y, Tensor):  # only who is told the labels can know the loss
        assert torch.equal(outcome.loss, F.cross_entropy(output, y))
    assert not outcome.output.requires_grad and not outcome.loss.requires_grad
    if type(learner).forward in (Learner.forward, BroadcastLearner.forward):  # others run the model in their own way
        assert torch.equal(outcome.output, plain(x))
        assert torch.equal(learner.eval()(x), plain.eval()(x))


def test_learning_lowers_the_loss(small):
    model = small.model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.01)
    learner = small.bind(model, optimizer)
    batch = small.batch(n=12)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        learner.reset()
        losses.append(float(learner.learn(*batch).loss))
        optimizer.step()
    # What is rewarded for actions has the loss of what it happened to do: the mean of ten steps says where it stands.
    assert sum(losses[-10:]) / 10 < 0.9 * losses[0]


def test_an_update_of_a_batch_is_the_mean_over_its_examples_if_claimed(case):
    """Under a mean loss, and with batch statistics held."""
    learner = case.bind(case.model().eval())
    x, y = case.examples()
    learner.learn(x, learner.rule.teacher(y))
    batch = taught(learner.model)
    learner.zero_grad()
    for n in range(len(x)):
        learner.reset()
        learner.learn(x[n : n + 1], learner.rule.teacher(y[n : n + 1]))
    single = taught(learner.model)
    same = all(torch.allclose(batch[key], single[key] / len(x), rtol=1e-9, atol=1e-12) for key in batch)
    assert same == learner.rule.claims.additive


def test_with_all_wires_clamped_no_update_depends_on_the_teacher(case):
    x, y = case.examples()
    updates: dict[tuple[bool, int], dict[str, Tensor]] = {}
    for clamped in (False, True):
        for shift in (0, 1):
            learner = case.bind()
            if clamped:
                learner.context.tap = lambda name, message, source, target: torch.zeros_like(message)
            learner.learn(x, learner.rule.teacher((y + shift) % 4))
            updates[clamped, shift] = taught(learner.model)
    assert_same(updates[True, 0], updates[True, 1])
    free = updates[False, 0], updates[False, 1]
    assert any(not torch.equal(free[0][key], free[1][key]) for key in free[0]), "the control: unclamped, y matters"


def test_listening_on_the_wires_changes_nothing(case):
    learner, listened = case.bind(), case.bind()
    heard = []

    def listen(name: str, message: Tensor, source: str, target: str) -> Tensor:
        heard.append(name)
        return message

    listened.context.tap = listen
    learner.learn(*case.batch())
    listened.learn(*case.batch())
    assert_same(taught(learner.model), taught(listened.model))
    assert heard


# --- feedback -----------------------------------------------------------------------------------------------------


def test_feedback_depends_on_the_seed_alone(case, monkeypatch):
    drawn = []

    class Generator(torch.Generator):
        def manual_seed(self, seed: int) -> torch.Generator:
            if seed > 2**32:  # ours are hashes of 63 bits; this suite's own are small
                drawn.append(seed)
            return super().manual_seed(seed)

    models = [case.model() for _ in range(3)]  # what these draw is their own affair
    monkeypatch.setattr(randomness.torch, "Generator", Generator)
    updates = []
    for seed, model in zip((0, 0, 1), models, strict=True):
        torch.manual_seed(len(updates))  # the global random state has no say
        learner = case.bind(model, seed=seed)
        learner.learn(*case.batch())
        updates.append({**own_state(learner), **taught(learner.model)})
    assert_same(updates[0], updates[1])
    differs = any(not torch.equal(updates[0][key], updates[2][key]) for key in updates[0])
    assert differs == bool(drawn)


def test_feedback_is_not_trained_or_decayed_by_accident(case):
    model = case.model()
    optimizer = case.optimizer(model)
    learner = case.bind(model, optimizer)
    kept = {id(t) for k, t in learner.state_dict(keep_vars=True).items() if k.startswith("feedback")}
    assert not kept & {id(p) for p in model.parameters()}
    before = own_state(learner)
    for k in range(3):
        optimizer.zero_grad()
        learner.learn(*case.batch(k))
        optimizer.step()
    if not learner.rule.needs_optimizer:  # rules that learn their feedback say so
        assert_same(before, own_state(learner))


def test_a_resumed_run_repeats_the_uninterrupted_one(case):
    def start(seed: int):
        model = case.model(seed)
        optimizer = case.optimizer(model)
        return case.bind(model, optimizer), optimizer

    def go(learner, optimizer, steps: range) -> None:
        for k in steps:
            optimizer.zero_grad()
            for batch in (case.batch(k), case.batch(k + 100)):
                if not learner.rule.continuous:
                    learner.reset()
                learner.learn(*batch)
            optimizer.step()

    learner, optimizer = start(0)
    go(learner, optimizer, range(3))
    file = io.BytesIO()
    torch.save({"learner": learner.state_dict(), "optimizer": optimizer.state_dict()}, file)
    go(learner, optimizer, range(3, 6))

    resumed, its_optimizer = start(1)  # everything must come from the file
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed.load_state_dict(saved["learner"])
    its_optimizer.load_state_dict(saved["optimizer"])
    go(resumed, its_optimizer, range(3, 6))

    whole, again = learner.state_dict(), resumed.state_dict()
    assert_same_clock(whole, again)
    assert_same(dict(whole), dict(again))


# --- what a rule says about itself ----------------------------------------------------------------------------------


def test_the_header_has_its_five_parts(name):
    header = registry.header(name)
    parts = [
        header.find(part) for part in ("\n\nEquation:\n", "\n\nWhat travels:\n", "\n\nDepartures:\n", "\n\nReference: ")
    ]
    assert -1 not in parts and parts == sorted(parts)
    sentence = registry.summary(name)
    assert sentence.endswith(".") and "\n" not in sentence and header.startswith(sentence[:20])
    assert f"Reference: {registry.get(name).claims.paper}" in header


def test_the_citation_is_the_claimed_papers_bibtex(name):
    entry = registry.citation(name)
    assert re.match(rf"@\w+\{{{registry.get(name).claims.paper},\n", entry) and entry.endswith("}")
    assert entry.count("{") == entry.count("}")
    assert all(re.search(rf"^\s*{key}\s*=", entry, re.MULTILINE) for key in ("author", "title", "year"))


def test_a_rule_is_frozen_and_made_of_its_fields(name):
    rule = registry.make(name, seed=3)
    assert registry.make(name, **asdict(rule)) == rule
    assert hash(rule) == hash(registry.make(name, seed=3))
    with pytest.raises(AttributeError):
        rule.seed = 1


def test_what_may_be_tuned_has_a_say(small):
    for option, range_ in registry.get(small.name).tunables().items():
        assert range_.low < range_.high
        ends = []
        for value in (range_.low, range_.high):
            model = small.model()
            optimizer = small.optimizer(model)
            learner = small.bind(model, optimizer, **{option: value})
            for k in range(2):  # what is kept besides the model may show in the next step only
                optimizer.zero_grad()
                learner.reset()
                learner.learn(*small.batch(k))
                optimizer.step()
            ends.append({**own_state(learner), **{name: p.detach().clone() for name, p in model.named_parameters()}})
        assert any(not torch.equal(ends[0][key], ends[1][key]) for key in ends[0]), option
