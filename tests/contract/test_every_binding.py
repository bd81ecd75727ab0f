"""Binding any registered rule leaves the model the user's own."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from contract_tools import assert_same, assert_same_clock, own_state, taught
from torch import Tensor, nn
from torch.nn import functional as F

import plausible
from plausible.core.attach import Attached
from plausible.core.errors import ConfigurationError, CoverageError


def test_binding_leaves_the_model_the_users_own(case):
    model = case.model()
    modules, parameters = list(model.modules()), list(model.parameters())
    state = copy.deepcopy(model.state_dict())
    types = [type(module) for module in modules]
    random_state = torch.get_rng_state()
    learner = case.bind(model)
    assert learner.model is model
    assert all(a is b for a, b in zip(model.modules(), modules, strict=True))
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert all(isinstance(module, cls) for module, cls in zip(modules, types, strict=True))
    assert all(module.training for module in modules)
    assert_same(dict(state), dict(model.state_dict()))
    assert {f"model.{key}" for key in state} <= learner.state_dict().keys()
    assert torch.equal(random_state, torch.get_rng_state())


def test_an_optimizer_built_before_stays_valid(case):
    model = case.model()
    optimizer = case.optimizer(model)
    learner = case.bind(model, optimizer)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    learner.learn(*case.batch())
    moves = taught(model)
    optimizer.step()
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) == (name not in moves), name


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))], ids=["deepcopy", "pickle"]
)
def test_copies_behave_identically_and_independently(case, again: Callable):
    model = case.model()
    optimizer = case.optimizer(model)  # kept, so that its hooks live while the learner is copied
    learner = case.bind(model, optimizer)
    learner.learn(*case.batch())
    twin = again(learner)
    assert not {id(p) for p in twin.parameters()} & {id(p) for p in learner.parameters()}
    results = []
    for each in (learner, twin):
        each.zero_grad()
        outcome = each.learn(*case.batch(1))
        results.append({"output": outcome.output, **taught(each.model)})
    assert_same(*results)
    assert_same(own_state(learner), own_state(twin))
    assert twin.context.iteration == learner.context.iteration == 2
    before = copy.deepcopy(dict(twin.state_dict()))
    optimizer.step()  # the original's optimiser has nothing to do with the copy
    after = dict(twin.state_dict())
    assert_same_clock(before, after)
    assert_same(before, after)
    assert any(not torch.equal(value, learner.state_dict()[key]) for key, value in after.items())


def test_the_model_alone_can_be_copied_and_pickled(small):
    model = small.bind().model
    x, _ = small.batch()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), model(x))
        assert list(twin.state_dict()) == list(model.state_dict())


@pytest.mark.parametrize("through", ["model", "learner"])
def test_feedback_moves_with_the_model(case, through: str):
    reference, moved = case.bind(case.model().float()), case.bind()
    (moved.model if through == "model" else moved).to(torch.float32)
    assert all(v.dtype != torch.float64 for v in [*moved.model.state_dict().values(), *own_state(moved).values()])
    x, y = case.batch()
    updates = []
    for learner in (reference, moved):
        learner.learn(x.float(), y)
        updates.append(taught(learner.model))
    assert updates[0].keys() == updates[1].keys()
    for key in updates[0]:
        torch.testing.assert_close(updates[0][key], updates[1][key], rtol=1e-4, atol=1e-6)


def test_release_gives_the_plain_model_back(case):
    model = case.model()
    optimizer = case.optimizer(model)
    learner = case.bind(model, optimizer, batch_manhattan=True)
    learner.learn(*case.batch())
    optimizer.step()
    state = copy.deepcopy(model.state_dict())
    assert plausible.release(learner) is model
    assert [type(m) for m in model.modules()] == [type(m) for m in case.model().modules()]
    assert_same(dict(state), dict(model.state_dict()))
    plain = case.model()
    plain.load_state_dict(state)
    x, y = case.examples(1)
    for each in (model, plain):
        each.zero_grad()
        F.cross_entropy(each(x), y).backward()
    assert_same(taught(model), taught(plain))
    optimizer.step()  # no longer hooked: batch Manhattan would have left signs
    assert_same(taught(model), taught(plain))
    case.bind(model)  # free for another rule


def test_binding_twice_is_an_error(small):
    learner = small.bind()
    if any(isinstance(module, Attached) for module in learner.model.modules()):
        with pytest.raises(ConfigurationError, match="release"):
            small.bind(learner.model)
    else:  # nothing was put onto the model, so there is nothing to take off
        assert [type(m) for m in learner.model.modules()] == [type(m) for m in small.model().modules()]


class Tied(nn.Module):
    """One layer used twice, and two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.twice, self.leave = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 4)
        self.tied = nn.Linear(5, 5)
        self.tied.weight = self.twice.weight

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.enter(x))
        h = torch.tanh(self.twice(torch.tanh(self.twice(h))))
        return self.leave(torch.tanh(self.tied(h)))


def test_shared_layers_and_weights_stay_shared(small):
    torch.manual_seed(0)
    model = Tied().double()
    x, y = torch.randn(6, 6, dtype=torch.float64), small.batch()[1]
    output = model(x)
    optimizer = small.optimizer(model)
    try:
        learner = small.bind(model, optimizer)
    except CoverageError as error:
        assert any(way in str(error) for way in ("chain", "rsnn", "lif-mlp")), "the way out must be named"
        return
    assert torch.equal(learner.learn(x, y).output, output)
    optimizer.step()
    assert model.tied.weight is model.twice.weight
    twin = copy.deepcopy(learner)
    assert twin.model.tied.weight is twin.model.twice.weight
    plausible.release(learner)
    assert type(model.tied) is type(model.twice) is nn.Linear
