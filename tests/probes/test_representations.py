"""The probe of representations: every layer's answer is what the layer computes, and nothing is changed."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import cross_entropy, linear

import plausible
from plausible.core.errors import ConfigurationError, UnknownName
from plausible.models import build
from plausible.probes import representations


def bound(model: nn.Module, x: torch.Tensor | None = None, rule: str = "fa") -> plausible.Learner:
    return plausible.bind(model.double(), rule, cross_entropy, example=x)


def test_answers_are_those_of_the_formulas_layer_by_layer():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(6, 3))
    learner, x = bound(model), torch.randn(8, 4).double()
    learner.learn(x, torch.arange(8) % 3)  # so that the running statistics are not those of the start
    found = representations(learner, x)

    a = linear(x, model[0].weight, model[0].bias)
    normed = (a - model[1].running_mean) / (model[1].running_var + 1e-5).sqrt()
    h = normed.clamp(min=0)
    expected = {"0": a, "1": normed, "2": h, "3": h, "4": linear(h, model[4].weight, model[4].bias)}
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value.detach())


def test_nothing_is_changed():
    class Noise(nn.Module):  # in evaluation, too
        def forward(self, x):
            return x + torch.randn_like(x)

    learner = bound(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), Noise(), nn.Linear(6, 3)))
    state, random = copy.deepcopy(learner.state_dict()), torch.get_rng_state()
    found = representations(learner, torch.randn(8, 4, generator=torch.Generator().manual_seed(0)).double())
    assert learner.training and learner.model[1].training and not found["0"].requires_grad
    assert not any(module._forward_hooks for module in learner.modules())
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in learner.state_dict().items():
        assert value == state[name] if isinstance(value, dict) else torch.equal(value, state[name])


def test_layers_within_attention_and_layers_that_are_asked_for():
    torch.manual_seed(0)
    x = torch.randn(5, 3, 8).double()
    reader = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Flatten(), nn.Linear(24, 3))
    learner = bound(reader, x)
    every, some = representations(learner, x), representations(learner, x, ["0.self_attn", "0", "2"])
    assert {"0.linear1", "0.linear2", "0.norm1", "0.norm2", "2"} <= set(every)
    assert list(some) == ["0.self_attn", "0", "2"]
    attended = learner.model[0].eval().self_attn(x, x, x)[0]
    torch.testing.assert_close(some["0.self_attn"], attended.detach())
    torch.testing.assert_close(linear(some["0"].flatten(1), reader[2].weight, reader[2].bias), some["2"])


def test_a_module_that_is_called_again_answers_again():
    again = nn.Tanh()
    learner = bound(nn.Sequential(nn.Linear(4, 4), again, nn.Linear(4, 4), again, nn.Linear(4, 3)))
    found = representations(learner, torch.randn(2, 4).double())
    assert list(found) == ["0", "1", "2", "1:2", "4"]
    torch.testing.assert_close(found["1"], found["0"].tanh())
    torch.testing.assert_close(found["1:2"], found["2"].tanh())


def test_what_is_found_can_be_stored_as_it_is(tmp_path):
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 3)).to(memory_format=torch.channels_last)
    x = torch.randn(4, 2, 4, 4).double().to(memory_format=torch.channels_last)
    found = representations(bound(model), x)
    save_file(found, tmp_path / "layers.safetensors")
    stored = load_file(tmp_path / "layers.safetensors")
    assert set(stored) == {"0", "1", "2"} and all(torch.equal(stored[name], value) for name, value in found.items())


def test_the_streams_of_a_learner_in_time_go_on_where_they_were():
    def second_update(look: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        learner = plausible.bind(build("rsnn", shape=(3,), classes=2, width=9), "eprop", cross_entropy)
        chunks = torch.randn(2, 2, 6, 3) * 5
        learner.learn(chunks[0], torch.tensor([0, 1]))
        learner.zero_grad()
        if look:
            representations(learner, torch.randn(4, 6, 3))
        learner.learn(chunks[1], torch.tensor([0, 1]))
        return [p.grad for p in learner.model.parameters() if p.grad is not None]

    for looked_at, plain in zip(second_update(True), second_update(False), strict=True):
        assert plain.abs().sum() > 0
        assert torch.equal(looked_at, plain)


def test_unknown_and_silent_modules_are_named():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(4, 3), nn.Identity()

        def forward(self, x):
            return self.used(x)

    learner = bound(Odd())
    x = torch.randn(2, 4).double()
    with pytest.raises(UnknownName, match=r"no module of this model named 'usd'\. Did you mean 'used'"):
        representations(learner, x, ["usd"])
    with pytest.raises(ConfigurationError, match="unused: not called"):
        representations(learner, x, ["used", "unused"])
    assert list(representations(learner, x)) == ["used"]
