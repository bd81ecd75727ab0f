"""Time and memory of two training steps beside each other.

Two steps take turns in one process, on the same batch. What disturbs the machine disturbs neighbouring turns alike,
so the ratio of neighbours is taken, and of these the median. Wall time is what a user waits for; processor time
is blind to what else the machine does, except to the caches.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from contenders import Contender
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from plausible.compare.cost import keep_memory

TURN_SECONDS = 0.1
"""A turn takes as many steps as fill this time: after the first of them the caches hold the contender's own data."""

WARM_UP = 5
RESAMPLES = 2000


@dataclass(frozen=True)
class Turn:
    """Seconds per step: ``wall`` and ``cpu`` of the whole step, on the wall's clock and the processor's; ``learn`` is
    the wall time of its first part, all but the optimiser."""

    wall: float
    learn: float
    cpu: float


@dataclass
class Duel:
    """One contender against another, turn by turn."""

    mine: Contender
    theirs: Contender
    turns: list[tuple[Turn, Turn]] = field(default_factory=list)

    def meet(self, count: int) -> None:
        """One turn each, of ``count`` steps; who goes first alternates."""
        if len(self.turns) % 2:
            mine = take_turn(self.mine, count)
            theirs = take_turn(self.theirs, count)
        else:
            theirs = take_turn(self.theirs, count)
            mine = take_turn(self.mine, count)
        self.turns.append((mine, theirs))

    def result(self) -> dict[str, object]:
        """Median ratios (mine to theirs) with a 90 % interval of the median each, and my median seconds per step."""
        return {
            "seconds": statistics.median(mine.wall for mine, _ in self.turns),
            **{key: spread([getattr(a, key) / getattr(b, key) for a, b in self.turns]) for key in Turn.__annotations__},
        }


def take_turn(contender: Contender, count: int) -> Turn:
    """``count`` steps in a row; on a GPU, until all of them are done, and ``learn`` says when they were asked for."""
    learn = 0.0
    cpu, start = time.process_time(), time.perf_counter()
    for _ in range(count):
        before = time.perf_counter()
        contender.learn()
        learn += time.perf_counter() - before
        contender.optimizer.step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Turn((time.perf_counter() - start) / count, learn / count, (time.process_time() - cpu) / count)


def warm_up(contender: Contender) -> int:
    """Take some steps; returns how many of them make a turn."""
    take_turn(contender, WARM_UP)
    return max(1, round(TURN_SECONDS / take_turn(contender, WARM_UP).wall))


def spread(ratios: Sequence[float]) -> dict[str, float]:
    """The median, and the interval that holds 90 % of the medians of resamples (bootstrap, seeded)."""
    draw = random.Random(0)
    medians = [statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES)]
    cuts = statistics.quantiles(medians, n=20)
    return {"median": statistics.median(ratios), "low": cuts[0], "high": cuts[-1]}


def memory(contender: Contender) -> dict[str, int]:
    """Bytes at the peak of one step, as torch's profiler sees every allocation of the CPU's allocator.

    Returns:
        ``state``: weights, feedback and the optimiser's state, which lie there between steps; ``step``: the most that
        one step adds to them, gradients included; ``peak``: both.
    """
    contender.optimizer.zero_grad(set_to_none=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        contender.learn()
        contender.optimizer.step()
    now = step = 0
    events = profiler.profiler.kineto_results.events()  # pyright: ignore[reportOptionalMemberAccess]
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        if event.device_type() == DeviceType.CPU:
            now += event.nbytes()
            step = max(step, now)
    tensors = [*contender.state, *(v for values in contender.optimizer.state.values() for v in values.values())]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors if t is not None}
    state = sum(storages.values())
    return {"state": state, "step": step, "peak": state + step}


def alone(about: str) -> tuple[int, Path | None]:
    """(how many turns, where the figures go) of a benchmark's command line, whose process is made steady."""
    parser = argparse.ArgumentParser(description=about.split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=16)
    parser.add_argument("--json", type=Path, metavar="OUT")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    return options.repeats, options.json


def keep(found: object, out: Path | None) -> None:
    """Write the figures, if they are wanted."""
    if out is not None:
        out.write_text(json.dumps(found, indent=1) + "\n")
