"""Checkpoints: what is saved comes back; what is damaged, foreign or harmful is refused."""

import os
from pathlib import Path

import pytest
import torch

from plausible.core.errors import CheckpointError
from plausible.train import StorageError, checkpoint

STATE = {
    "learner": {"w": torch.arange(2000.0), "half": torch.ones(3, dtype=torch.bfloat16)},
    "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]},
    "random": [torch.get_rng_state()],
    "step": 7,
    "none": None,
}


@pytest.fixture
def path(tmp_path) -> Path:
    checkpoint.save(tmp_path / "checkpoint.pt", "abc", STATE)
    return tmp_path / "checkpoint.pt"


def test_what_is_saved_comes_back(path):
    state = checkpoint.load(path, "abc")
    assert state["step"] == 7 and state["none"] is None
    assert state["optimizer"]["param_groups"] == STATE["optimizer"]["param_groups"]
    assert torch.equal(state["learner"]["w"], torch.arange(2000.0))
    assert state["learner"]["half"].dtype == torch.bfloat16
    assert torch.equal(state["random"][0], STATE["random"][0])


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.6, 0.99])
def test_truncated(path, kept):
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is damaged.*Remove"):
        checkpoint.load(path, "abc")


def test_one_bit_of_a_weight_flipped(path):
    content = bytearray(path.read_bytes())
    at = content.index(torch.arange(2000.0).numpy().tobytes())
    content[at + 4001] ^= 1
    path.write_bytes(content)
    # torch does not notice, which is why we have to.
    assert not torch.equal(torch.load(path, weights_only=True)["state"]["learner"]["w"], torch.arange(2000.0))
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is damaged"):
        checkpoint.load(path, "abc")


def test_of_another_run(path):
    with pytest.raises(CheckpointError, match="belongs to run abc, not to run xyz"):
        checkpoint.load(path, "xyz")


def test_of_a_newer_version(path):
    torch.save({"format": 2, "run": "abc", "state": {}}, path)
    with pytest.raises(CheckpointError, match=r"format 2.*newer version.*Upgrade"):
        checkpoint.load(path, "abc")


def test_something_else(path):
    torch.save({"weights": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match="no checkpoint of plausible"):
        checkpoint.load(path, "abc")


class Harmful:
    """Unpickled, it makes a directory."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_code_in_a_checkpoint_is_not_run(path, tmp_path):
    torch.save({"format": 1, "run": "abc", "state": Harmful(tmp_path / "harm")}, path)
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.load(path, "abc")
    assert not (tmp_path / "harm").exists()


def test_missing_or_unreadable(tmp_path):
    with pytest.raises(StorageError, match=r"none\.pt could not be read: No such file"):
        checkpoint.load(tmp_path / "none.pt", "abc")
    with pytest.raises(StorageError, match="could not be read"):
        checkpoint.load(tmp_path, "abc")
