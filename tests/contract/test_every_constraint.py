"""Every registered constraint under every registered rule. A new rule or constraint is tested here without an edit."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from contract_tools import assert_same, assert_same_clock, own_state, taught
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.core import Constraint, Learner, registry
from plausible.core.constraint import feedback_weights, forward_weights


@pytest.fixture(params=registry.constraints.names())
def constraint(request: pytest.FixtureRequest) -> Constraint:
    return registry.constraints.make(request.param)


def bind(case, *constraints: Constraint, model: nn.Module | None = None, lr: float = 0.01):
    """The learner, and the optimiser that it is hooked to."""
    model = case.model() if model is None else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.1)
    example = case.batch()[0]
    learner = plausible.bind(
        model, case.rule(), F.cross_entropy, example=example, optimizer=optimizer, constraints=constraints
    )
    return learner, optimizer


def go(case, learner: Learner, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for k in steps:
        optimizer.zero_grad()
        for batch in (case.batch(k), case.batch(k + 100)):
            learner.reset()
            learner.learn(*batch)
        optimizer.step()


def weights(learner: Learner) -> dict[str, Tensor]:
    """Those that constraints act on; copies."""
    return {name: weight.detach().clone() for name, weight in learner.weights()}


def test_the_model_stays_the_users_own(small, constraint):
    model = small.model()
    parameters, keys, random_state = list(model.parameters()), list(model.state_dict()), torch.get_rng_state()
    learner, optimizer = bind(small, constraint, model=model)
    go(small, learner, optimizer, range(2))
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert list(model.state_dict()) == keys
    assert torch.equal(random_state, torch.get_rng_state())
    plausible.release(learner)
    kept = copy.deepcopy(model.state_dict())
    optimizer.zero_grad()
    F.cross_entropy(model(small.examples()[0]), small.examples()[1]).backward()
    optimizer.step()  # the constraint is no longer asked: the step is the optimiser's own
    plain = small.model()
    plain.load_state_dict(kept)
    moved = any(not torch.equal(p, plain.get_parameter(name)) for name, p in model.named_parameters())
    assert moved and [type(m) for m in model.modules()] == [type(m) for m in plain.modules()]


def test_learning_changes_nothing_but_grad(small, constraint):
    """What a use finds is in the weight's place for the call alone."""
    learner, _ = bind(small, constraint, model=small.model().eval())
    before = copy.deepcopy(learner.state_dict())
    learner(small.batch()[0])
    learner.learn(*small.batch())
    after = learner.state_dict()
    del before["_extra_state"], after["_extra_state"]
    assert_same(before, after)


def test_an_evaluation_finds_what_learning_will_find(case, constraint):
    learner, _ = bind(case, constraint)
    twin = copy.deepcopy(learner)
    assert torch.equal(learner.learn(*case.batch()).output, twin(case.batch()[0]))


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))], ids=["copy", "pickle"]
)
def test_copies_behave_identically(small, constraint, again: Callable):
    learner, optimizer = bind(small, constraint)
    go(small, learner, optimizer, range(2))
    twin = again(learner)
    results = []
    for each in (learner, twin):
        each.zero_grad()
        each.reset()
        results.append({"output": each.learn(*small.batch(1)).output, **taught(each.model)})
    assert_same(*results)


def test_a_resumed_run_repeats_the_uninterrupted_one(small, constraint):
    learner, optimizer = bind(small, constraint)
    go(small, learner, optimizer, range(2))
    file = io.BytesIO()
    torch.save({"learner": learner.state_dict(), "optimizer": optimizer.state_dict()}, file)
    go(small, learner, optimizer, range(2, 4))

    resumed, its_optimizer = bind(small, constraint, model=small.model(1))  # everything must come from the file
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed.load_state_dict(saved["learner"])
    its_optimizer.load_state_dict(saved["optimizer"])
    go(small, resumed, its_optimizer, range(2, 4))
    whole, again = learner.state_dict(), resumed.state_dict()
    assert_same_clock(whole, again)
    assert_same(dict(whole), dict(again))


@pytest.mark.parametrize("on", ["forward", "feedback"])
def test_it_acts_where_it_is_told_to(small, constraint, on: str):
    """Elsewhere a use finds what it would find without it."""
    here, _ = bind(small, type(constraint)(on=on))
    model = small.model()
    plain = dict(forward_weights(copy.deepcopy(model)))
    model.load_state_dict(here.model.state_dict())  # a rule may draw its feedback from what is stored
    plain |= dict(feedback_weights(bind(small, model=model)[0]))
    with here.reading():
        found = weights(here)
    for name in plain:
        assert torch.equal(found[name], plain[name]) != (name.startswith("model.") == (on == "forward")), name


def test_the_seed_has_a_say_and_nothing_else_that_is_random(small, constraint):
    ends = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(ends))
        learner, optimizer = bind(small, type(constraint)(seed=seed))
        go(small, learner, optimizer, range(2))
        ends.append(weights(learner) | own_state(learner))
    assert_same(ends[0], ends[1])
    drawn = [_draws(constraint, 0), _draws(constraint, 1)]
    assert any(not torch.equal(ends[0][key], ends[2][key]) for key in ends[0]) == (drawn[0] != drawn[1])


def _draws(constraint: Constraint, seed: int) -> list[float]:
    """What one layer finds after binding, at a use."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    options = {"optimizer": optimizer, "constraints": [type(constraint)(seed=seed)]}
    learner = plausible.bind(model, "backprop", F.cross_entropy, **options)
    with learner.reading():
        return model[0].weight.flatten().tolist()


def test_a_binding_that_fails_leaves_the_model_as_it_was(name, constraint):
    rule = registry.make(name)
    model = nn.Sequential(nn.ConvTranspose1d(3, 4, 1), nn.Linear(4, 4))  # of which only an example could tell
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    try:
        plausible.bind(model, rule, F.cross_entropy, optimizer=optimizer, constraints=[constraint])
    except plausible.PlausibleError:
        assert_same(before, model.state_dict())
    else:
        pytest.skip("it can teach this model, so its binding does not fail")


def test_weights_of_nothing_have_no_scale_or_stay_nothing(constraint):
    """A constraint may refuse them, and then says where and what to do."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    nn.init.zeros_(model[1].weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(plausible.PlausibleError, match=r"'model.1.weight'.*Initialise"):
        plausible.bind(model, "fa", F.cross_entropy, optimizer=optimizer, constraints=[constraint])
    assert type(model[0]) is nn.Linear


def test_without_what_it_needs_it_says_so(constraint):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    if constraint.needs_optimizer:
        with pytest.raises(plausible.PlausibleError, match=rf"{constraint.name}.*optimizer=optimizer"):
            plausible.bind(model, "fa", F.cross_entropy, constraints=[constraint])


def test_the_feedback_that_is_stored_is_found(case):
    """All that a learner keeps in the shape of a matrix is a weight, and whatever stands in for W is among it."""
    learner = case.bind()
    stored = dict(feedback_weights(learner))
    assert set(stored) == {key for key, value in own_state(learner).items() if value.dim() > 1}
    assert not {id(w) for w in stored.values()} & {id(p) for p in learner.model.parameters()}


def test_the_header_says_what_it_stands_for(constraint):
    header = __import__(type(constraint).__module__, fromlist=["_"]).__doc__
    parts = [
        header.find(part) for part in ("\nEquation:\n", "\nWhat it stands for:\n", "\nDepartures:\n", "\nReference")
    ]
    assert -1 not in parts and parts == sorted(parts) and "\n@" in header
