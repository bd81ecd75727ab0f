"""The directory of one run: which files lie in it, and that they all belong to this run."""

from dataclasses import dataclass
from pathlib import Path

from plausible.core.errors import CheckpointError, ConfigurationError
from plausible.train.files import explained, make_directory, write_atomically
from plausible.train.result import Result
from plausible.train.run import Run


@dataclass(frozen=True)
class Home:
    """Paths of the files of a run in its directory."""

    directory: Path

    @property
    def run(self) -> Path:
        """The configuration."""
        return self.directory / "run.json"

    @property
    def environment(self) -> Path:
        """Versions and hardware of the last session that trained here."""
        return self.directory / "environment.json"

    @property
    def metrics(self) -> Path:
        """One row per epoch, probe and test; bit-identical however often the run was interrupted."""
        return self.directory / "metrics.jsonl"

    @property
    def timing(self) -> Path:
        """Seconds per epoch."""
        return self.directory / "timing.jsonl"

    @property
    def checkpoint(self) -> Path:
        """All that is needed to go on; at the end, the trained weights."""
        return self.directory / "checkpoint.pt"

    @property
    def activity(self) -> Path:
        """A short look inside, if the net is a spiking one: see :class:`plausible.probes.Activity`."""
        return self.directory / "activity.json"

    @property
    def result(self) -> Path:
        """What came out, once the run has ended."""
        return self.directory / "result.json"

    def claim(self, run: Run) -> None:
        """Make the directory this run's.

        Raises:
            ConfigurationError: it holds another run.
            StorageError: it cannot be read or written.
        """
        make_directory(self.directory)
        with explained("read", self.directory):
            present = [p for p in (self.run, self.metrics, self.checkpoint, self.result) if p.exists()]
        if self.run in present:
            if (other := Run.read(self.run)) != run:
                raise ConfigurationError(
                    f"{self.directory} holds another run ({other.id}: {_difference(other, run)}). "
                    "Choose another directory, or remove this one."
                )
            return
        if present:
            raise ConfigurationError(
                f"{present[0]} is there, but no {self.run.name} that says which run it belongs to. Choose another "
                "directory."
            )
        write_atomically(self.run, run.to_json().encode())

    def read_result(self, run: Run) -> Result | None:
        """The result, if the run has ended.

        Raises:
            CheckpointError: it is damaged, or of another run.
            StorageError: it cannot be read.
        """
        if not self.result.exists():
            return None
        with explained("read", self.result):
            document = self.result.read_bytes()
        try:
            result = Result.from_json(document.decode(errors="replace"))
            if result.run != run:
                raise CheckpointError(f"It belongs to run {result.run.id}, not to run {run.id}.")
            return result
        except CheckpointError as error:
            way_out = "Remove it to go on from the checkpoint."
            raise CheckpointError(f"{self.result}: {error} {way_out}") from error

    def forget(self) -> None:
        """Remove the checkpoint, the result and the look inside, so that the run starts afresh."""
        for path in (self.checkpoint, self.result, self.activity):
            with explained("removed", path):
                path.unlink(missing_ok=True)


def _difference(one: Run, other: Run) -> str:
    a, b = one.to_dict(), other.to_dict()
    return ", ".join(f"{name} {a[name]!r}, not {b[name]!r}" for name in a if a[name] != b[name])
