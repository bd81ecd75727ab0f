"""Trains in processes that can be killed, at will or at a set moment. A script; test_kill.py talks to it.

It imports torch once and forks for every order (a line of JSON on its input), so that a kill costs milliseconds:

    {"run": {...}, "directory": "...", "checkpoint_seconds": 0, "at": "step" or ... or null, "count": 3}

It answers with the process id and, when that process has ended, with its wait status.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
import torch._dynamo  # the first optimiser imports it, for seconds; here once for all

from plausible.core import registry
from plausible.core.errors import PlausibleError
from plausible.data import load
from plausible.train import Run, files, loop, records, train


def killed_at(moment: str, count: int) -> None:
    """Let this process do away with itself when it reaches a moment for the ``count``-th time."""
    left = count

    def reached() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    def die(number: int = signal.SIGKILL) -> None:
        os.kill(os.getpid(), number)

    learn, write = loop.Loop._learn, records.Records.write
    fsync, replace = os.fsync, os.replace

    def step(self, x, y, number=signal.SIGKILL):
        learn(self, x, y)
        if reached():
            die(number)

    def torn_row(self, row):
        if reached():
            os.write(self._file.fileno(), json.dumps(row).encode()[:20])
            die()
        write(self, row)

    def whole_row(self, row):
        write(self, row)
        if reached():
            die()

    def torn_checkpoint(fd):
        if ".checkpoint.pt" in str(Path(f"/proc/self/fd/{fd}").readlink()) and reached():
            os.ftruncate(fd, os.fstat(fd).st_size // 2)
            die()
        fsync(fd)

    def before_replace(source, target):
        if Path(target).name == "checkpoint.pt" and reached():
            die()
        replace(source, target)

    def after_replace(source, target):
        replace(source, target)
        if Path(target).name == "checkpoint.pt" and reached():
            die()

    def before_result(source, target):
        if Path(target).name == "result.json":
            die()
        replace(source, target)

    if moment == "step":
        loop.Loop._learn = step
    elif moment in ("SIGINT", "SIGTERM"):
        loop.Loop._learn = lambda self, x, y: step(self, x, y, signal.Signals[moment])
    elif moment == "torn row":
        records.Records.write = torn_row
    elif moment == "whole row":
        records.Records.write = whole_row
    else:
        patches = {
            "torn checkpoint": ("fsync", torn_checkpoint),
            "before replace": ("replace", before_replace),
            "after replace": ("replace", after_replace),
            "before result": ("replace", before_result),
        }
        name, patch = patches[moment]
        setattr(files.os, name, patch)


def obey(order: dict) -> int:
    if order["at"]:
        killed_at(order["at"], order["count"])
    try:
        run, directory = Run.from_dict(order["run"]), order["directory"]
        train(run, directory, checkpoint_seconds=order["checkpoint_seconds"])
    except PlausibleError as error:
        Path(order["directory"], "said.txt").write_text(str(error))
        return getattr(error, "exit_status", 1)
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    registry.names()
    load("digits")
    for line in sys.stdin:
        order = json.loads(line)
        if (pid := os.fork()) == 0:
            os._exit(obey(order))
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)
