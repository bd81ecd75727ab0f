"""Killed at any moment, a run goes on and ends with the same bits; asked to stop, it says how to go on."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from plausible.core.errors import PlausibleError
from plausible.train import Interrupted, Run, train
from plausible.train import loop as loop_module

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc")

# The rules and optimisers that keep most of their own: feedback that learns, random phases, momenta, schedules.
SMALL = {"model": "noisy:model", "epochs": 12, "probe_every": 7, "probe_size": 16, "warmup_epochs": 0.5, "clip": 1.0}
RUNS = {
    "kolen-pollack": Run(rule="kolen-pollack", optimizer="SGD", optimizer_options={"momentum": 0.9}, lr=0.1, **SMALL),
    "weight-mirror": Run(rule="weight-mirror", lr=0.01, **SMALL),
    "brsf": Run(rule="brsf", lr=0.01, **SMALL),
}
MOMENTS = [
    "step",
    "torn checkpoint",
    "before replace",
    "after replace",
    "torn row",
    "whole row",
    "anywhere",
    "torn checkpoint",
    "anywhere",
    "step",
]


class Victims:
    """The script that forks a process for every order."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        self.script = subprocess.Popen(
            [sys.executable, str(HERE / "victim.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    def start(self, run: Run, directory: Path, at: str | None = None, count: int = 0, every: float = 0.0) -> int:
        order = {"run": run.to_dict(), "directory": str(directory), "checkpoint_seconds": every}
        assert self.script.stdin is not None
        self.script.stdin.write(json.dumps({**order, "at": at, "count": count}) + "\n")
        self.script.stdin.flush()
        return self._answer()

    def end(self) -> int:
        """As of ``subprocess``: the exit status, or minus the signal that killed it."""
        return os.waitstatus_to_exitcode(self._answer())

    def _answer(self) -> int:
        assert self.script.stdout is not None
        return int(self.script.stdout.readline())


@pytest.fixture(scope="module")
def victims() -> Iterator[Victims]:
    victims = Victims()
    with victims.script:
        yield victims
        assert victims.script.stdin is not None
        victims.script.stdin.close()
        assert victims.script.wait(30) == 0


@pytest.fixture(scope="module", params=RUNS)
def uninterrupted(request, victims, tmp_path_factory) -> tuple[Run, Path]:
    """A run and the directory where it went through in one go."""
    run, directory = RUNS[request.param], tmp_path_factory.mktemp("whole")
    victims.start(run, directory, every=1000.0)
    assert victims.end() == 0
    return run, directory


def flat(value: object) -> list:
    """Every leaf of a checkpoint; tensors as their type, shape and bytes."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in (key, *flat(item))]
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in flat(item)]
    if isinstance(value, torch.Tensor):
        return [(value.dtype, value.shape, value.contiguous().flatten().view(torch.uint8).numpy().tobytes())]
    return [value]


def outcome(directory: Path) -> dict:
    """What has to be the same to the last bit: weights, feedback, optimiser, random states, metrics, result."""
    state = torch.load(directory / "checkpoint.pt", weights_only=True)["state"]
    kept = {name: flat(state[name]) for name in ("learner", "optimizer", "random", "step")}
    return {**kept, **{name: (directory / name).read_bytes() for name in ("metrics.jsonl", "result.json", "run.json")}}


def assert_same(directory: Path, other: Path) -> None:
    found, expected = outcome(directory), outcome(other)
    for name, value in expected.items():
        assert found[name] == value, name


def test_killed_at_many_moments(uninterrupted, victims, tmp_path):
    run, whole = uninterrupted
    rng = random.Random(run.id)
    killed = 0
    for moment in rng.sample(MOMENTS, len(MOMENTS)):
        if moment == "anywhere":
            pid = victims.start(run, tmp_path)
            time.sleep(rng.uniform(0, 0.15))
            os.kill(pid, signal.SIGKILL)
        else:
            often = 2 if "row" in moment else 9
            victims.start(run, tmp_path, moment, rng.randint(1, often))
        killed += victims.end() == -signal.SIGKILL
    assert not (tmp_path / "result.json").exists()
    victims.start(run, tmp_path, "before result", 1)
    killed += victims.end() == -signal.SIGKILL
    assert killed == len(MOMENTS) + 1
    victims.start(run, tmp_path, every=1000.0)
    assert victims.end() == 0
    assert_same(tmp_path, whole)
    # Nothing half-written stays behind either.
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in whole.iterdir()}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asked_to_stop(victims, tmp_path, number, status):
    run = RUNS["brsf"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    victims.start(run, whole, every=1000.0)
    assert victims.end() == 0
    victims.start(run, stopped, number.name, 13, every=1000.0)
    assert victims.end() == status
    said = (stopped / "said.txt").read_text()
    assert f"Stopped by {number.name} after step 13 of 240" in said
    assert str(stopped) in said and "run the same command again" in said
    # It went on from there, and not from the beginning: the checkpoint is of that step.
    assert torch.load(stopped / "checkpoint.pt", weights_only=True)["state"]["step"] == 13
    victims.start(run, stopped, every=1000.0)
    assert victims.end() == 0
    assert_same(stopped, whole)


def test_a_second_ctrl_c_stops_at_once_and_handlers_are_put_back(tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    learn = loop_module.Loop._learn

    def impatient(self, x, y):
        learn(self, x, y)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(loop_module.Loop, "_learn", impatient)
    with pytest.raises(KeyboardInterrupt):
        train(Run(epochs=1), tmp_path)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_error_is_one_the_command_line_understands():
    error = Interrupted("stopped", 130)
    assert isinstance(error, PlausibleError)
    assert (str(error), error.exit_status) == ("stopped", 130)
