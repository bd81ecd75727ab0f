"""Processes that share a batch come to what one process comes to with the whole of it, for every rule that can."""

import subprocess
import sys

import on_ranks
import pytest
import torch

import plausible
from plausible.core import registry
from plausible.core.errors import ConfigurationError


@pytest.fixture(scope="module")
def found(tmp_path_factory, request) -> list[dict]:
    """What each of four ranks came to, for the rules whose tests are asked for."""
    folder = tmp_path_factory.mktemp("ranks")
    here = (item for item in request.session.items if item.path == request.path and "found" in item.fixturenames)
    asked = dict.fromkeys(item.callspec.params["case"].name for item in here)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4", on_ranks.__file__]
    run = subprocess.run([sys.executable, *words, folder, *asked], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(4)]


@pytest.mark.parametrize("case", on_ranks.cases(registry.names()), ids=lambda case: f"{case.name}-{case.net.__name__}")
def test_several_ranks_are_one_process_with_the_whole_batch(case, found):
    expected = on_ranks.learned(case)
    for ranks, overlap in on_ranks.WAYS:
        first, *others = (each[on_ranks.key(case, ranks, overlap)] for each in found[:ranks])
        assert first.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(first[name], value, rtol=1e-10, atol=1e-12, msg=f"{name}, {ranks} ranks")
            assert all(torch.equal(other[name], first[name]) for other in others), f"{name}: ranks differ"


def test_a_rule_that_cannot_be_spread_and_a_program_that_is_not_are_told_the_way_out(monkeypatch):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rule = registry.make("adaptive-dfa", mu=0.0, nu=0.1)
    loss = torch.nn.functional.cross_entropy
    learner = plausible.bind(model, rule, loss, example=torch.randn(2, 3), optimizer=optimizer)
    with pytest.raises(ConfigurationError, match=r"torchrun.*init_process_group"):
        plausible.distribute(learner)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    with pytest.raises(ConfigurationError, match=r"adaptive-dfa.*one process"):
        plausible.distribute(learner)
