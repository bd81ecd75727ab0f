"""What torch has for training, around a learner: scaled losses, fused optimisers, averages, autocast, torch.func."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import plausible
from plausible.core import Learner
from plausible.core.errors import ConfigurationError

RULES = ("fa", "usf", "kolen-pollack", "dfa")
BATCHES = 4


class Net(nn.Module):
    """Layers, and a weight that is in none."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(6, 8), nn.Linear(8, 4)
        self.middle = nn.Parameter(torch.randn(8, 8) / 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(torch.tanh(torch.tanh(self.enter(x)) @ self.middle))


class Inside(Net):
    """Enters autocast by itself; the backward pass is then outside."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x).float()


def net(kind: type[nn.Module] = Net) -> nn.Module:
    torch.manual_seed(0)
    return kind()


def batches() -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(1)
    return [(torch.randn(8, 6, generator=draw), torch.randint(4, (8,), generator=draw)) for _ in range(BATCHES)]


def bound(rule: str, model: nn.Module, optimizer: Optimizer | None, loss=F.cross_entropy) -> Learner:
    return plausible.bind(model, rule, loss, example=batches()[0][0], optimizer=optimizer)


def trained(rule: str, make, model: nn.Module | None = None) -> dict[str, Tensor]:
    model = net() if model is None else model
    optimizer = make(model.parameters())
    learner = bound(rule, model, optimizer)
    for x, y in batches():
        optimizer.zero_grad()
        learner.learn(x, y)
        optimizer.step()
    return {name: p.detach().clone() for name, p in learner.named_parameters()}


def plain(parameters) -> Optimizer:
    return SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01)


@pytest.mark.parametrize("rule", RULES)
def test_a_loss_that_is_scaled_and_gradients_that_are_scaled_back(rule: str):
    """A power of two changes no digit. An infinite gradient makes a step be left out, feedback's too."""
    expected = trained(rule, plain)
    model = net()
    optimizer, scaler = plain(model.parameters()), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    learner = bound(rule, model, optimizer, lambda output, y: scaler.scale(F.cross_entropy(output, y)))
    for x, y in batches():
        for scale in (torch.inf, 1.0):
            optimizer.zero_grad()
            learner.learn(x, y)
            model.leave.weight.grad.mul_(scale)
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update(2.0**10)
    for name, p in learner.named_parameters():
        torch.testing.assert_close(p.detach(), expected[name], rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("way", ["foreach", "fused"])
def test_optimisers_that_take_all_parameters_at_once(rule: str, way: str):
    found = trained(rule, lambda parameters: AdamW(parameters, lr=0.01, **{way: True}))
    expected = trained(rule, lambda parameters: AdamW(parameters, lr=0.01, foreach=False, fused=False))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("rule", RULES)
def test_an_average_of_the_weights_is_a_model_of_its_own(rule: str):
    model = net()
    optimizer = plain(model.parameters())
    learner = bound(rule, model, optimizer)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    expected = None
    for x, y in batches():
        optimizer.zero_grad()
        learner.learn(x, y)
        optimizer.step()
        average.update_parameters(model)
        now = model.enter.weight.detach().clone()
        expected = now if expected is None else 0.5 * expected + 0.5 * now
    torch.testing.assert_close(average.module.enter.weight.detach(), expected)
    with torch.no_grad():
        by_hand = net()
        by_hand.load_state_dict(average.module.state_dict())
        torch.testing.assert_close(average(batches()[0][0]), by_hand(batches()[0][0]))


@pytest.mark.parametrize("rule", RULES)
def test_autocast_around_learning_and_autocast_that_the_model_enters_by_itself_are_one(rule: str):
    x, y = batches()[0]
    found = []
    for kind in (Net, Inside):
        learner = bound(rule, net(kind), plain(net().parameters()) if rule == "kolen-pollack" else None)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind is Net):
            learner.learn(x, y)
        found.append({name: p.grad for name, p in learner.model.named_parameters()})
    full = bound(rule, net(), plain(net().parameters()) if rule == "kolen-pollack" else None)
    full.learn(x, y)
    for name, p in full.model.named_parameters():
        assert found[0][name].dtype == torch.float32
        torch.testing.assert_close(found[0][name], p.grad, rtol=0.1, atol=0.01, msg=name)
        torch.testing.assert_close(found[0][name], found[1][name], rtol=0.1, atol=0.01, msg=name)
        assert not torch.equal(found[0][name], p.grad), "bfloat16 was used"


@pytest.mark.parametrize("rule", ("fa", "usf"))
def test_torch_func_is_an_error_and_not_back_propagation(rule: str):
    model = net()
    bound(rule, model, None)
    x, y = batches()[0]

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(torch.func.functional_call(model, parameters, (x,)), y)

    with pytest.raises(RuntimeError, match="setup_context"):
        torch.func.grad(loss)({name: p.detach() for name, p in model.named_parameters()})


def test_an_optimiser_that_only_stands_around_another_is_told_the_way_out():
    class Around(Optimizer):
        """As Accelerate's: of torch's class, without its state."""

        def __init__(self, optimizer: Optimizer) -> None:
            self.optimizer = optimizer

    model = net()
    with pytest.raises(ConfigurationError, match=r"optimizer\.optimizer"):
        bound("fa", model, Around(plain(model.parameters())))
    bound("fa", model, plain(model.parameters()))  # it was not left half bound


def test_a_state_with_all_that_is_learned_goes_through_a_file():
    model = net()
    learner = bound("kolen-pollack", model, plain(model.parameters()))
    learner.learn(*batches()[0])
    file = io.BytesIO()
    torch.save(learner.state_dict(), file)
    file.seek(0)
    other = bound("kolen-pollack", copy.deepcopy(net()), plain(net().parameters()))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.context.iteration == 1
