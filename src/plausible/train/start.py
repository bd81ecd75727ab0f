"""The way in: train a run in a directory."""

import json
from pathlib import Path

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
from plausible.train.session import assemble


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
) -> Result:
    """Train a run to its end, from wherever an earlier call left it.

    Weights, ``metrics.jsonl`` and ``result.json`` are the same to the last bit however often the run was
    stopped or killed, on the same device with the same number of threads and the same versions. The files are
    those of :class:`Home`. torch's global settings and random states are left as they were.

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

    Returns:
        The result, as in ``result.json``.

    Raises:
        Diverged: the loss became NaN or infinite; all that was written is kept.
        Interrupted: by Ctrl-C or SIGTERM, after a checkpoint.
        CheckpointError: the checkpoint is damaged or of another version.
        ConfigurationError: the directory holds another run, or something the run names does not exist.
        StorageError: a file could not be read or written; the last checkpoint is intact.
    """
    home = Home(Path(directory))
    home.claim(run)
    if resume and (result := home.read_result(run)):
        return _ended(result)
    device = runtime.device_of(run)
    with Records(home.metrics) as metrics, Records(home.timing) as timing, runtime.prepared(run, device):
        if not resume:
            home.forget()
        environment = json.dumps(runtime.environment(device), indent=2) + "\n"
        write_atomically(home.environment, environment.encode())
        session = assemble(run, device, root=root, download=download)
        loop = Loop(session, home, metrics, timing, on_event, checkpoint_seconds)
        try:
            with Interruption() as interruption:
                loop.restore()
                loop.run(interruption)
                test_loss, test_accuracy = loop.test()
        except Diverged as error:
            result = loop.result("diverged", reason=str(error))
        else:
            result = loop.result("finished", test_loss=test_loss, test_accuracy=test_accuracy)
            if (seen := session.look()) is not None:
                write_atomically(home.activity, seen.to_json().encode())
        metrics.sync()
        write_atomically(home.result, result.to_json().encode())
    return _ended(result)


def _ended(result: Result) -> Result:
    if result.status == "diverged":
        raise Diverged(result.reason)
    return result
