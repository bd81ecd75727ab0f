"""Rows of JSON, one per line, each written as it happens."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from plausible.train.files import StorageError, explained

try:
    import fcntl
except ImportError:  # Windows has no such locks; there two processes in one directory go unnoticed
    fcntl = None


def plain(value: Any) -> Any:
    """The value with every NaN and infinity, which JSON cannot hold, as ``None``."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Records:
    """An append-only file of rows that belongs to one process at a time.

    Args:
        path: the file; created where it is missing.

    Raises:
        StorageError: it cannot be opened, or another process is writing it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with explained("written", path):
            self._file = path.open("ab")
        if fcntl is not None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self._file.close()
                raise StorageError(
                    f"{path} is being written by another process: this run is already under way there. "
                    "Wait for it, or choose another directory."
                ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Closing flushes; on a full disk that fails once more, and must not hide the error that says so.
        with explained("written", self.path):
            self._file.close()

    def rewind(self, offset: int) -> None:
        """Cut off all that stands after ``offset`` bytes.

        Raises:
            StorageError: the file is shorter than that.
        """
        with explained("written", self.path):
            if self._file.seek(0, os.SEEK_END) < offset:
                raise StorageError(
                    f"{self.path} is shorter than when the checkpoint beside it was written: rows are "
                    "missing. Put the file back, or start the run afresh with resume=False."
                )
            self._file.truncate(offset)
            self._file.seek(offset)

    def write(self, row: dict[str, Any]) -> None:
        """Append a row and hand it to the operating system at once."""
        line = json.dumps(plain(row), allow_nan=False) + "\n"
        with explained("written", self.path):
            self._file.write(line.encode())
            self._file.flush()

    def sync(self) -> int:
        """Bring all rows to the disk and return their length in bytes."""
        with explained("written", self.path):
            os.fsync(self._file.fileno())
            return self._file.tell()


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The whole rows of a file; a last line that a kill tore off is left out.

    Raises:
        StorageError: the file cannot be read, or a line before the last is damaged.
    """
    with explained("read", path):
        lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            yield json.loads(line)
        except ValueError as error:
            raise StorageError(f"{path}, line {number}, is damaged: {error}.") from error
