"""fully_shard: shards of a model and of its feedback learn as the whole does, and go on on another number of ranks."""

import subprocess
import sys

import on_shards
import pytest
import torch


def on_ranks(ranks: int, *words: object) -> None:
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), on_shards.__file__]
    run = subprocess.run([sys.executable, *start, *map(str, words)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[int, dict]:
    """By step, what the rules had come to."""
    folder = tmp_path_factory.mktemp("shards")
    on_ranks(2, folder, 1, 2)
    on_ranks(4, folder, 3, 3)
    return {step: torch.load(folder / f"{step}.pt", weights_only=True) for step in (2, 3)}


@pytest.mark.parametrize("rule", on_shards.RULES)
def test_shards_learn_as_the_whole_and_go_on_on_another_number_of_ranks(rule: str, found):
    learner, optimizer = on_shards.bound(on_shards.net(), rule)
    on_shards.learned(learner, optimizer, 2)
    for step in (2, 3):
        expected = {name: p.detach() for name, p in learner.named_parameters()}
        assert found[step][rule].keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[step][rule][name], value, rtol=1e-10, atol=1e-12, msg=f"{step}: {name}")
        on_shards.learned(learner, optimizer, 1)
