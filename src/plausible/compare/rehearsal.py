"""What a run will need, found out before it begins: its data looked at, its memory and time measured on a few steps."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from plausible import data
from plausible.compare.cost import bytes_of, keep_memory, memory, step_of, timed
from plausible.core.errors import ConfigurationError, DataError
from plausible.data import Batches
from plausible.train import Run
from plausible.train.runtime import autocast, device_of, prepared
from plausible.train.session import Session, assemble

SECONDS = 4.0
"""About how long each of the three is timed: the loader alone, the learner alone, both together."""

LEAST = 4
NAMED = 10


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What was found.

    Attributes:
        run: the run's id.
        examples: of each split.
        classes, shape: of the data; shape of one example.
        looked_at: how many files were decoded to see that they can be; 0 where the data are in memory.
        skipped: path -> why, of the files that will be left out, as far as is known.
        steps: optimiser steps of the run.
        model_bytes, feedback_bytes, optimizer_bytes: what lies there between steps.
        step_bytes: the most that a step adds: activity, messages, gradients.
        free_bytes: what the device has left for it; None where it does not say.
        load_seconds: per batch, of the loader alone.
        learn_seconds: per batch, of the learner alone.
        step_seconds: of a step of training, in which the next batches are loaded meanwhile.
        evaluate_seconds: of all the run's evaluations together.
    """

    run: str
    examples: Mapping[str, int]
    classes: int
    shape: tuple[int, ...]
    looked_at: int
    skipped: Mapping[str, str]
    steps: int
    model_bytes: int
    feedback_bytes: int
    optimizer_bytes: int
    step_bytes: int
    free_bytes: int | None
    load_seconds: float
    learn_seconds: float
    step_seconds: float
    evaluate_seconds: float

    @property
    def peak_bytes(self) -> int:
        """At the height of a step."""
        return self.model_bytes + self.feedback_bytes + self.optimizer_bytes + self.step_bytes

    @property
    def limit(self) -> str:
        """Which of the two a step waits for."""
        return "loader" if self.load_seconds > self.learn_seconds else "learner"

    @property
    def seconds(self) -> float:
        """From the beginning of the run to its end; probes and checkpoints come on top."""
        return self.steps * self.step_seconds + self.evaluate_seconds


def rehearse(
    run: Run,
    *,
    root: str | Path | None = None,
    download: bool = False,
    workers: int | None = None,
    decode: int = 256,
) -> Rehearsal:
    """Look at the run's data, take a few of its steps and forget them; nothing is written.

    Args:
        run: what is to be trained.
        root, download, workers: see :func:`plausible.data.load`.
        decode: how many streamed images to decode, evenly spread over the splits; 0: all of them.

    Raises:
        DataError: images that cannot be decoded and are not to be skipped, by name.
        ConfigurationError: the memory of the device is too small.
        PlausibleError: the run cannot be assembled.
    """
    device = device_of(run)
    keep_memory()
    dataset = data.load(run.data, root=root, download=download, workers=workers, **run.data_options)
    looked_at = _look(dataset, decode)
    with prepared(run, device):
        session = assemble(run, device, dataset=dataset)
        try:
            return _measured(session, dataset, looked_at)
        except torch.OutOfMemoryError as error:
            raise ConfigurationError(
                f"A step of this run does not fit into the memory of {device} ({str(error).splitlines()[0]}). Take a "
                "smaller batch_size, or --set precision=bfloat16."
            ) from error
        finally:
            session.close()


def _look(dataset: data.AnyDataset, decode: int) -> int:
    """Decode some images, note or refuse what cannot be, and return how many were looked at."""
    if isinstance(dataset, data.Dataset):
        return 0
    looked_at, bad = dataset.look(decode)
    if bad and not dataset.policy.skip:
        named = "; ".join(f"{path}: {why}" for path, why in islice(bad.items(), NAMED))
        more = f"; and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise DataError(
            f"{len(bad)} of {looked_at} images that were looked at cannot be used. {named}{more}. Replace them, or "
            "leave such files out: --set data_options.on_bad=skip."
        )
    dataset.policy.skipped.update(bad)
    return looked_at


def _measured(session: Session, dataset: data.AnyDataset, looked_at: int) -> Rehearsal:
    run, learner, step = session.run, session.learner, step_of(session)
    free = _free(session.device)
    timed(step, 1)  # so that the optimiser has its state
    resting, peak = memory(session, step)
    state = learner.state_dict()
    feedback = bytes_of(value for name, value in state.items() if not name.startswith("model."))
    model = bytes_of(value for name, value in state.items() if name.startswith("model."))
    learn = timed(step, 1)
    learn = timed(step, max(1, min(50, int(SECONDS / max(learn, 1e-6)))))
    load = _pace(session.train.epoch())

    def training() -> Iterator[None]:
        for x, y in session.train.epoch(1):
            session.optimizer.zero_grad(set_to_none=True)
            with autocast(run, session.device):
                learner.reset()
                learner.learn(x, learner.rule.teacher(y))
            session.optimizer.step()
            yield

    together = _pace(training())
    return Rehearsal(
        run=run.id,
        examples={part: len(getattr(dataset, part)) for part in ("train", "validation", "test")},
        classes=dataset.classes,
        shape=dataset.shape,
        looked_at=looked_at,
        skipped=dict(dataset.skipped),
        steps=run.epochs * len(session.train),
        model_bytes=model,
        feedback_bytes=feedback,
        optimizer_bytes=max(0, resting - model - feedback),
        step_bytes=peak - resting,
        free_bytes=free,
        load_seconds=load,
        learn_seconds=learn,
        step_seconds=together,
        evaluate_seconds=run.epochs * _evaluation(session, session.validation) + _evaluation(session, session.test),
    )


def _pace(events: Iterator[object]) -> float:
    """Seconds from one event to the next, once it runs: the first half does not count."""
    marks = [time.perf_counter()]
    for _ in events:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        marks.append(time.perf_counter())
        if len(marks) > LEAST and marks[-1] - marks[0] > SECONDS:
            break
    half = (len(marks) - 1) // 2
    return (marks[-1] - marks[half]) / (len(marks) - 1 - half)


def _evaluation(session: Session, batches: Batches) -> float:
    """Seconds of an evaluation, from some of its batches."""
    some = _Some(batches)
    session.evaluate(some)
    return (some.marks[-1] - some.marks[0]) / (len(some.marks) - 1) * len(batches)


class _Some:
    """The first of some batches, and when each had been dealt with."""

    def __init__(self, batches: Batches) -> None:
        self.batches, self.marks, self.share = batches, [time.perf_counter()], batches.share

    def __len__(self) -> int:
        return min(LEAST, len(self.batches))

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in islice(self.batches.epoch(epoch, start), len(self)):
            yield batch
            self.marks.append(time.perf_counter())

    def first(self) -> tuple[Tensor, Tensor]:
        return self.batches.first()

    def close(self) -> None:
        self.batches.close()


def _free(device: torch.device) -> int | None:
    """Bytes that the device could still give."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # only Linux has it
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    return found[0] if found else None
