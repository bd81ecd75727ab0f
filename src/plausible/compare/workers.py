"""A pool of worker processes that survives the death of one of them and stops at once on Ctrl-C.

``concurrent.futures.ProcessPoolExecutor`` breaks as a whole when one worker dies (killed for memory, a crash in a
driver), and must be killed through private attributes on Ctrl-C. Here each worker has a pipe of its own: a death
is an end of file on that pipe, fails that one task, and another worker takes its place.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Self

from plausible.core.errors import PlausibleError

Emit = Callable[[Any], None]
Work = Callable[[Any, Emit], Any]


@dataclass(frozen=True)
class Message:
    """Something a task said while it was running (any picklable value)."""

    key: Any
    content: Any


@dataclass(frozen=True)
class Returned:
    """A task ended and returned ``value``."""

    key: Any
    value: Any


@dataclass(frozen=True)
class Broke:
    """A task raised, or its worker died. ``message`` is for the reader, ``details`` a traceback, if any."""

    key: Any
    message: str
    details: str = ""


def processors() -> int:
    """Number of processors this process may use, at least one."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _serve(pipe: Connection, preload: str) -> None:
    """The life of a worker: tasks in, messages out, until the pipe closes."""
    # Ctrl-C reaches the whole process group; only the parent acts on it, and then ends the workers. (Before this line
    # it is held back; see _no_interrupt.)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        if preload:
            import_module(preload)
        while True:
            work, key, task = pipe.recv()
            try:
                answer: Any = Returned(key, work(task, lambda content, key=key: pipe.send(Message(key, content))))
            except (BrokenPipeError, ConnectionResetError):
                raise
            except PlausibleError as error:
                answer = Broke(key, str(error), traceback.format_exc())
            except Exception as error:
                answer = Broke(key, f"{type(error).__name__}: {error}", traceback.format_exc())
            pipe.send(answer)


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """Hold Ctrl-C back: a process started meanwhile never sees it, and this one does at the end of the block."""
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # else the first process starts it, which lets signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, preload: str) -> None:
        context = multiprocessing.get_context("spawn")  # a forked CUDA context or OpenMP pool does not work
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs, preload), daemon=True)
        with _no_interrupt():
            self.process.start()
        theirs.close()  # so that its death closes the pipe
        self.key: Hashable | None = None

    def give(self, work: Work, key: Hashable, task: Any) -> None:
        self.key = key
        with contextlib.suppress(BrokenPipeError):  # it died while it started: the next read says so
            self.pipe.send((work, key, task))

    def death(self) -> str:
        self.process.join(5)
        code = self.process.exitcode
        if code is not None and code < 0:
            hint = " (often: not enough memory; try fewer --jobs)" if -code == signal.SIGKILL else ""
            return f"its worker process was killed by signal {signal.Signals(-code).name}{hint}"
        return f"its worker process ended with exit status {code}"

    def end(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join(2)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


class Pool:
    """Up to ``jobs`` worker processes, started as soon as the pool is entered and ended when it is left.

    Args:
        jobs: how many processes; at least one.
        preload: a module that each worker imports when it starts, and not only when the first task comes.
    """

    def __init__(self, jobs: int, *, preload: str = "") -> None:
        self.jobs = jobs
        self.preload = preload
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()
        self._workers = []

    def run(self, work: Work, tasks: Mapping[Any, Any]) -> Iterator[Message | Returned | Broke]:
        """Do ``work(task, emit)`` for every task; yield what is said, as it is said.

        Every task ends with exactly one :class:`Returned` or :class:`Broke`. An iterator that is not read to its end
        leaves the pool unusable: leave it.

        Args:
            work: an importable function of a module; ``emit(content)`` sends a :class:`Message`.
            tasks: key → task, started in this order; all must be picklable.
        """
        waiting = deque(tasks.items())
        while waiting or any(worker.key is not None for worker in self._workers):
            self._start()
            for worker in self._workers:
                if worker.key is None and waiting:
                    worker.give(work, *waiting.popleft())
            for pipe in wait([worker.pipe for worker in self._workers]):
                worker = next(worker for worker in self._workers if worker.pipe is pipe)
                try:
                    said = worker.pipe.recv()
                except (EOFError, ConnectionResetError):
                    self._workers.remove(worker)
                    key, how = worker.key, worker.death()
                    worker.end()
                    if key is not None:
                        yield Broke(key, how)
                    continue
                if not isinstance(said, Message):
                    worker.key = None
                yield said

    def _start(self) -> None:
        while len(self._workers) < self.jobs:
            self._workers.append(_Worker(self.preload))
