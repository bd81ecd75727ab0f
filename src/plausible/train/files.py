"""Files that are whole or not there: atomic writing, and errors of the operating system in plain words."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plausible.core.errors import PlausibleError

_THEN = "Make room, then run the same command again: it goes on from the last checkpoint"
_CAUSES = {
    errno.ENOSPC: f"the disk is full. {_THEN}",
    errno.EDQUOT: f"the disk quota is used up. {_THEN}",
    errno.EACCES: "permission is denied. Choose another directory, or change its permissions",
    errno.EROFS: "the file system is read-only. Choose another directory",
    errno.ENOTDIR: "part of the path is a file, not a directory. Choose another directory",
    errno.EEXIST: "a file of that name is in the way. Choose another directory",
}


class StorageError(PlausibleError):
    """A file of a run that could not be read or written."""


@contextmanager
def explained(doing: str, path: Path) -> Iterator[None]:
    """Turn an ``OSError`` in the block into a :class:`StorageError`: what, where, why and the way out.

    Args:
        doing: ``"read"`` or ``"written"``, for the message.
        path: the file or directory in question.
    """
    try:
        yield
    except OSError as error:
        cause = _CAUSES.get(error.errno or 0, error.strerror or str(error))
        raise StorageError(f"{path} could not be {doing}: {cause}.") from error


def make_directory(path: Path) -> None:
    """Create a directory and its parents where they are missing.

    Raises:
        StorageError: it cannot be created, or is not one.
    """
    with explained("created", path):
        path.mkdir(parents=True, exist_ok=True)


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Replace the file at once: a kill or a full disk on the way leaves the old one as it was.

    The content goes to a temporary file beside it, to the disk, and then under its name.

    Raises:
        StorageError: it could not be written; the old file is intact.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with explained("written", path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)  # noqa: PTH105
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Make the new name itself durable; only POSIX lets a directory be opened for that."""
    if os.name == "posix":
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
