import os
import signal
import sys
import time
from pathlib import Path

import pytest

from plausible.compare.workers import Broke, Message, Pool, Returned
from plausible.core.errors import DataError


def work(task, emit):
    kind, value = task
    if kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "exit":
        os._exit(3)
    if kind == "raise":
        raise DataError(f"no {value}")
    if kind == "bug":
        return 1 // 0
    if kind == "sleep":
        emit(os.getpid())
        time.sleep(60)
    for i in range(value):
        emit(i)
    return value**2


def test_messages_come_in_order_and_every_task_ends_once():
    with Pool(2) as pool:
        said = list(pool.run(work, {name: ("count", n) for name, n in (("a", 3), ("b", 0), ("c", 5))}))
    for name, n in (("a", 3), ("b", 0), ("c", 5)):
        assert [m for m in said if m.key == name] == [*(Message(name, i) for i in range(n)), Returned(name, n**2)]


def test_a_broken_task_does_not_take_the_others_down():
    tasks = {"dead": ("die", 0), "exit": ("exit", 0), "data": ("raise", "file"), "bug": ("bug", 0)}
    tasks |= {i: ("count", i) for i in range(4)}
    with Pool(2) as pool:
        ends = {m.key: m for m in pool.run(work, tasks) if not isinstance(m, Message)}
        assert list(pool.run(work, {"again": ("count", 0)})) == [Returned("again", 0)]  # and the pool is as good as new
    assert set(ends) == set(tasks)
    assert [ends[i] for i in range(4)] == [Returned(i, i**2) for i in range(4)]
    assert isinstance(ends["dead"], Broke) and "SIGKILL" in ends["dead"].message
    assert isinstance(ends["exit"], Broke) and "exit status 3" in ends["exit"].message
    assert ends["data"].message == "no file"
    assert ends["bug"].message.startswith("ZeroDivisionError") and "1 // 0" in ends["bug"].details


def test_leaving_the_pool_ends_the_workers():
    with pytest.raises(KeyboardInterrupt), Pool(1) as pool:
        process = next(pool.run(work, {"long": ("sleep", 0)})).content
        os.kill(process, 0)  # it lives
        raise KeyboardInterrupt
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def blocked(_task, _emit):
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return bool(int(status["SigBlk"], 16) & 1 << (signal.SIGINT - 1))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_are_deaf_to_ctrl_c_from_their_first_moment():
    with Pool(3) as pool:
        assert [end.value for end in pool.run(blocked, dict.fromkeys(range(9)))] == [True] * 9
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())  # and this process is not
