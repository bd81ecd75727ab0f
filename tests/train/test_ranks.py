"""Processes of torchrun that train one run together, die and are started again."""

import subprocess
import sys
from pathlib import Path

import on_ranks_trained
import pytest
import torch

from plausible.core.errors import ConfigurationError
from plausible.train import Result, Run, train
from plausible.train.session import assemble
from plausible.train.team import Team

ONE_BACKWARD = Run(rule="usf", epochs=2, batch_size=64, probe_size=0)
SENT_AFTERWARDS = Run(rule="dfa", epochs=2, batch_size=64, probe_size=16)
STREAMS = Run(
    rule="nef-dfa", model="lif-mlp", epochs=1, batch_size=64, probe_size=0,
    model_options={"width": 8, "depth": 1, "cells": 8, "shown": 0.1},
)  # fmt: skip


def on_ranks(run: Run, folder: Path, *words: str, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(run.to_json())
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", str(restarts)]
    program = [on_ranks_trained.__file__, str(folder / "run.json"), str(folder / "many"), *words]
    return subprocess.run([sys.executable, *start, *program], capture_output=True, text=True, check=False)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    learner = torch.load(folder / "checkpoint.pt", weights_only=True)["state"]["learner"]
    return {name: value for name, value in learner.items() if isinstance(value, torch.Tensor)}


def assert_alike(folder: Path) -> None:
    """What one process and many came to."""
    one, many = (Result.from_json((folder / where / "result.json").read_text()) for where in ("one", "many"))
    assert many.steps == one.steps and many.test_loss == pytest.approx(one.test_loss, rel=1e-3)
    found, expected = weights(folder / "many"), weights(folder / "one")
    assert found.keys() == expected.keys()
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-3, atol=1e-4, msg=key)
    rows = [(folder / where / "metrics.jsonl").read_text().count("\n") for where in ("one", "many")]
    assert rows[0] == rows[1], "one process writes, and nothing twice"


def test_two_processes_one_of_which_is_killed_are_started_again_and_come_to_what_one_comes_to(tmp_path):
    ended = on_ranks(ONE_BACKWARD, tmp_path, "7", restarts=1)
    assert ended.returncode == 0, ended.stderr
    assert "exitcode: -9" in ended.stderr, "one was killed"
    train(ONE_BACKWARD, tmp_path / "one")
    assert_alike(tmp_path)


def test_streams_go_on_on_each_process_where_the_killed_ones_had_kept_them(tmp_path):
    killed, whole = on_ranks(STREAMS, tmp_path / "a", "7", restarts=1), on_ranks(STREAMS, tmp_path / "b")
    assert killed.returncode == whole.returncode == 0, killed.stderr + whole.stderr
    expected = weights(tmp_path / "b/many")
    for key, value in weights(tmp_path / "a/many").items():
        assert torch.equal(value, expected[key]), key
    state = torch.load(tmp_path / "a/many/checkpoint.pt", weights_only=True)["state"]["learner"]["_extra_state"][
        "state"
    ]
    assert {len(part) for part in state} == {STREAMS.batch_size}, "those of all processes are kept"


def test_a_process_that_dies_ends_the_job_and_one_process_goes_on_with_what_is_kept(tmp_path):
    ended = on_ranks(SENT_AFTERWARDS, tmp_path, "7")
    assert ended.returncode != 0 and "rank      : 1" in ended.stderr and "Signal 9" in ended.stderr
    assert not (tmp_path / "many/result.json").exists()
    kept = torch.load(tmp_path / "many/checkpoint.pt", weights_only=True)["state"]
    assert kept["step"] == 7, "a checkpoint after each step was asked for"
    for where in ("many", "one"):
        train(SENT_AFTERWARDS, tmp_path / where)
    assert_alike(tmp_path)


def test_a_batch_that_cannot_be_shared_is_refused():
    three = Team()
    three.count = 3
    with pytest.raises(ConfigurationError, match="batch_size = 64: 3 processes"):
        assemble(Run(batch_size=64), torch.device("cpu"), team=three)
