"""The way in: train a run in a directory."""

import json
from collections.abc import Callable
from pathlib import Path

import torch

from plausible.core.errors import Diverged
from plausible.train import runtime
from plausible.train.events import Event, Watcher
from plausible.train.files import write_atomically
from plausible.train.home import Home
from plausible.train.interruption import Interruption
from plausible.train.loop import Loop
from plausible.train.records import Records
from plausible.train.result import Result
from plausible.train.run import Run
from plausible.train.session import Session, assemble
from plausible.train.team import directory_of, team


def _ignore(_event: Event) -> None:
    pass


def train(
    run: Run,
    directory: str | Path,
    *,
    root: str | Path | None = None,
    download: bool = False,
    on_event: Watcher = _ignore,
    resume: bool = True,
    checkpoint_seconds: float = 60.0,
    workers: int | None = None,
) -> Result:
    """Train a run to its end, from wherever an earlier call left it.

    Weights, ``metrics.jsonl`` and ``result.json`` are the same to the last bit however often the run was
    stopped or killed, on the same device with the same number of threads and the same versions. The files are
    those of :class:`Home`. torch's global settings and random states are left as they were.

    Processes that ``torchrun`` has started share each batch, and come to the same but for rounding, and for what torch
    draws in layers, such as dropout. The first of them writes.

    Args:
        run: what to train.
        directory: where its files go; created where it is missing. If the run has ended there, nothing is
            trained.
        root: folder of the image sets; see :func:`plausible.data.load`.
        download: whether a missing data set may be downloaded.
        on_event: called with each :class:`Progress` and :class:`Row` as it happens.
        resume: ``False`` forgets what this run left in the directory and starts afresh.
        checkpoint_seconds: seconds between checkpoints within an epoch; 0 for one after every step. Epochs of
            a second or more end with one too, and so does the run. Results do not depend on it.
        workers: processes that decode streamed images, by default one per processor. Nor on this.

    Returns:
        The result, as in ``result.json``.

    Raises:
        Diverged: the loss became NaN or infinite; all that was written is kept.
        Interrupted: by Ctrl-C or SIGTERM, after a checkpoint.
        CheckpointError: the checkpoint is damaged or of another version.
        ConfigurationError: the directory holds another run, or something the run names does not exist.
        DataError: a file of the data is missing or damaged.
        Lost: another process of the run has ended.
        StorageError: a file could not be read or written; the last checkpoint is intact.
    """
    with team(torch.device(run.device)) as members, directory_of(members, directory) as place:
        home = Home(place)
        home.claim(run)
        result = members.told(home.read_result(run) if resume else None)
        if result is None:
            watcher = on_event if members.leads else _ignore

            def session(device: torch.device) -> Session:
                return assemble(run, device, root=root, download=download, workers=workers, team=members)

            result = members.told(_trained(run, home, session, watcher, checkpoint_seconds, resume=resume))
    return _ended(result)


def _trained(
    run: Run,
    home: Home,
    begin: Callable[[torch.device], Session],
    on_event: Watcher,
    checkpoint_seconds: float,
    *,
    resume: bool,
) -> Result:
    device = runtime.device_of(run)
    with Records(home.metrics) as metrics, Records(home.timing) as timing, runtime.prepared(run, device):
        if not resume:  # now that no other process writes here
            home.forget()
        environment = json.dumps(runtime.environment(device), indent=2) + "\n"
        write_atomically(home.environment, environment.encode())
        session = begin(device)
        loop = Loop(session, home, metrics, timing, on_event, checkpoint_seconds)
        try:
            with Interruption() as interruption:
                loop.restore()
                loop.run(interruption)
                score = loop.test()
        except Diverged as error:
            result = loop.result("diverged", reason=str(error))
        else:
            result = loop.result("finished", test=score)
            if (seen := session.look()) is not None:
                write_atomically(home.activity, seen.to_json().encode())
        finally:
            session.close()
        metrics.sync()
        write_atomically(home.result, result.to_json().encode())
    return result


def _ended(result: Result) -> Result:
    if result.status == "diverged":
        raise Diverged(result.reason)
    return result
