"""Checkpoints: written whole or not at all, checked against damage, read without running code in them."""

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from plausible.core.errors import CheckpointError
from plausible.train.files import explained, write_atomically

FORMAT = 1
"""Version of the layout; a checkpoint with a higher one is refused."""


def save(path: Path, run_id: str, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors and plain values) as the checkpoint of a run, in place of the one before.

    Raises:
        StorageError: it could not be written; the checkpoint before is intact.
    """
    # Through memory, so that a full disk is an OSError with a number and not an error of the zip writer.
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "run": run_id, "state": state}, buffer)
    write_atomically(path, buffer.getbuffer())


def load(path: Path, run_id: str) -> dict[str, Any]:
    """The state that :func:`save` wrote for this run, on the CPU.

    Raises:
        StorageError: the file cannot be read.
        CheckpointError: it is damaged, of another run, or of a newer version.
    """
    way_out = f"Remove {path} (or use resume=False) to start this run afresh."
    with explained("read", path):
        content = io.BytesIO(path.read_bytes())
    try:
        # torch.load does not compare the checksums that torch.save writes; zipfile does.
        with zipfile.ZipFile(content) as archive:
            damaged = archive.testzip()
        content.seek(0)
        saved = None if damaged else torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises depends on where the damage is
        raise CheckpointError(f"{path} is damaged and cannot be read ({error}). {way_out}") from error
    if (
        not isinstance(saved, dict)
        or not saved.keys() >= {"format", "run", "state"}
        or type(saved["format"]) is not int
        or not isinstance(saved["state"], dict)
    ):
        raise CheckpointError(f"{path} is damaged or no checkpoint of plausible. {way_out}")
    if saved["format"] > FORMAT:
        raise CheckpointError(
            f"{path} has format {saved['format']}, and this version of plausible reads formats up to "
            f"{FORMAT}: a newer version wrote it. Upgrade plausible to go on with this run. {way_out}"
        )
    if saved["run"] != run_id:
        raise CheckpointError(f"{path} belongs to run {saved['run']}, not to run {run_id}. {way_out}")
    return saved["state"]
