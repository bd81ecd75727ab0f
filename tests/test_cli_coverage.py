"""``plausible coverage``, as typed."""

import json

import pytest
from typer.testing import CliRunner

from plausible.cli import app

MODELS = """
import torch
from torch import nn

class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx, delta):
        x, weight = ctx.saved_tensors
        return delta @ weight.T, x.T @ delta

class Hidden(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 6))

    def forward(self, x):
        return Scaled.apply(x, self.weight)

def hidden(shape, classes):
    return nn.Sequential(nn.Linear(*shape, 6), nn.Tanh(), Hidden(), nn.Tanh(), nn.Linear(6, classes))

def failing(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(5, classes))

def timms(pretrained=False, **options):
    return theirs(**options)

def theirs(*, weights=None, progress=True, **options):
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, options["num_classes"]))
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "coverage_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(app, ["coverage", *args])


def test_every_weight_with_its_carrier(run):
    result = run("mlp", "--shape", "8", "--classes", "3", "--set", "width=6")
    assert result.exit_code == 0 and result.output.count("feedback") >= 2
    assert "fa on mlp, 3 weights: error comes back through 2 by feedback" in result.output.replace("\n", " ")


def test_json(run):
    found = json.loads(run("mlp", "--shape", "8", "--rule", "usf", "--json").output)
    assert found["counts"] == {"weights": 0, "signs": 2, "feedback": 0, "gain": 0, "nothing": 1}
    assert found["weights"][1]["by"] == "signs" and found["weights"][1]["changes"]["weights"] < 1e-9


@pytest.mark.parametrize("builder", ["theirs", "timms"])
def test_builders_of_torchvision_and_timm_are_called_as_theirs_are(run, builder: str):
    assert "2 weights" in run(f"coverage_models:{builder}", "--shape", "4", "-q").output


def test_a_model_that_cannot_take_the_shape_is_told(run):
    result = run("coverage_models:failing", "--shape", "4")
    assert result.exit_code == 1 and "cannot take an input of shape 4" in result.output and "--shape" in result.output


@pytest.mark.parametrize("rule", ["predictive-coding", "ifa", "node-perturbation"])
def test_rules_that_do_not_learn_by_one_forward_pass_are_refused_with_the_way_out(run, rule: str):
    result = run("mlp", "--shape", "8", "--rule", rule)
    assert result.exit_code == 1 and "plausible audit" in result.output


def test_what_is_hidden_from_the_rule_is_refused_and_if_let_through_measured(run):
    """A function with a backward pass of its own."""
    result = run("coverage_models:hidden", "--shape", "4")
    assert result.exit_code == 1 and "module '2', a Hidden with the trainable weight" in result.output
    result = run("coverage_models:hidden", "--shape", "4", "--rule", "fa:uncovered=backprop")
    assert result.exit_code == 1 and "Not covered: 2.weight" in result.output


@pytest.mark.parametrize("shape", ["3xx2", "0x3", "wide"])
def test_shapes_that_are_none(run, shape: str):
    result = run("mlp", "--shape", shape)
    assert result.exit_code != 0 and "write numbers with x between" in str(result.output) + str(result.exception)
