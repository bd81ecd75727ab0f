"""What one learning step costs, in time and memory, beside plain back-propagation.

Time: the rule and back-propagation take turns in one process, after a warm-up, on the same batch; the answer is the
median of the ratios of neighbouring turns, and their quartiles. Whatever disturbs the machine disturbs both.
Back-propagation measured so against itself shows how good that is. A step is the gradients set to None,
``learner.learn`` and ``optimizer.step``.

Memory: what lies there between steps (parameters, buffers, feedback, the optimiser's state) and the most that a step
adds to it. On the CPU that is counted over the storages that torch's operations return, and therefore exact and free
of noise, but blind to scratch memory inside an operation; on CUDA it is the allocator's peak.

What does not depend on the machine at all, operations, spikes and messages, is counted: see
:mod:`plausible.compare.hardware`.
"""

import ctypes
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from plausible import data
from plausible.audit.memory import peak_bytes, storages
from plausible.compare.hardware import count
from plausible.train import Run
from plausible.train.runtime import autocast, device_of, prepared
from plausible.train.session import Session, assemble

TURN_SECONDS = 0.004
"""A turn takes as many steps as fill this time, so that the grain of the clock does not matter."""

LEAST_TURNS = 8
WARM_UP = 3

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

Step = Callable[[], None]


def keep_memory() -> bool:
    """Let the process keep the memory it frees; False where the C library knows no such thing (only glibc does).

    Otherwise it depends on how the heap happens to lie whether freed memory goes back to the system, to be mapped and
    zeroed again in the next step: on LeNet that is a fifth of the time, and it strikes one contender and not another.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError):
        return False
    return all(mallopt(which, 2**30) == 1 for which in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD))


def measure(run: Run, *, root: str | Path | None = None, seconds: float = 0.6) -> dict[str, Any]:
    """The cost of one step of ``run``, beside back-propagation with the same settings on the same batch.

    Args:
        run: what to measure.
        root: where the data lie; see :func:`plausible.data.load`.
        seconds: about how long the turns may take; there are always a few.

    Returns:
        ``time_ratio`` (median), ``time_low`` and ``time_high`` (quartiles) to back-propagation's time;
        ``seconds_per_step``; ``memory_ratio`` to back-propagation's peak, ``memory_bytes`` at the peak, and of these
        ``resting_bytes``, what lies there between steps, and ``feedback_bytes``, what the rule itself keeps then;
        ``hardware``, the fields of :class:`plausible.compare.hardware.Counts`.

    Raises:
        PlausibleError: the run cannot be assembled.
    """
    device = device_of(run)
    keep_memory()
    dataset = data.load(run.data, root=root, **run.data_options)
    with prepared(run, device):
        mine = assemble(run, device, dataset=dataset)
        plain = assemble(run.replace(rule="backprop", rule_options={}), device, dataset=dataset)
        steps = step_of(mine), step_of(plain)
        per_step, ratios = _take_turns(*steps, seconds)
        (resting, peak), (_, peak_plain) = memory(mine, steps[0]), memory(plain, steps[1])
        with autocast(run, device):
            counts = count(mine.learner, *mine.train.first())
    low, middle, high = statistics.quantiles(ratios, n=4)
    feedback = (value for name, value in mine.learner.state_dict().items() if not name.startswith("model."))
    return {
        "time_ratio": middle,
        "time_low": low,
        "time_high": high,
        "seconds_per_step": per_step,
        "memory_ratio": peak / peak_plain,
        "memory_bytes": peak,
        "resting_bytes": resting,
        "feedback_bytes": bytes_of(feedback),
        "hardware": asdict(counts),
    }


def step_of(session: Session) -> Step:
    """One whole step on the first batch, as training does it."""
    learner, optimizer = session.learner, session.optimizer
    x, y = session.train.first()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(session.run, session.device):
            learner.reset()
            learner.learn(x, learner.rule.teacher(y))
        optimizer.step()

    return step


def _take_turns(mine: Step, theirs: Step, seconds: float) -> tuple[float, list[float]]:
    """(median seconds of my step, the ratio of my time to theirs in each pair of turns)."""
    for step in (mine, theirs):
        timed(step, WARM_UP)
    count = max(1, round(TURN_SECONDS / timed(theirs, 1)))
    turns: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    while len(turns) < LEAST_TURNS or time.perf_counter() < end:
        # Who goes first alternates: the second finds warmer caches.
        if len(turns) % 2:
            a = timed(mine, count)
            b = timed(theirs, count)
        else:
            b = timed(theirs, count)
            a = timed(mine, count)
        turns.append((a, b))
    return statistics.median(a for a, _ in turns), [a / b for a, b in turns]


def timed(step: Step, count: int) -> float:
    """Seconds per step."""
    _synchronise()
    start = time.perf_counter()
    for _ in range(count):
        step()
    _synchronise()
    return (time.perf_counter() - start) / count


def _synchronise() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def memory(session: Session, step: Step) -> tuple[int, int]:
    """(bytes that lie there between steps, these and the most that a step adds to them)."""
    session.optimizer.zero_grad(set_to_none=True)
    state = [*session.learner.parameters(), *session.learner.buffers(), *tree_leaves(session.optimizer.state_dict())]
    resting = bytes_of(state)
    if session.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(session.device)
        before = torch.cuda.memory_allocated(session.device)
        step()
        return resting, resting + torch.cuda.max_memory_allocated(session.device) - before
    return resting, resting + peak_bytes(step)


def bytes_of(values: Iterable[Any]) -> int:
    """Bytes of the tensors among the values; what several share is counted once."""
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages(list(values))}.values())
