"""What was measured once for each contender, in one JSON file, and not measured again under the same settings."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plausible.train import Run
from plausible.train.files import write_atomically


@dataclass(frozen=True)
class Kept:
    """A file of label → entry, each with the id of the run it was measured for.

    Attributes:
        path: of the file, such as cost.json; it need not exist.
    """

    path: Path

    def entries(self) -> dict[str, Any]:
        """What the file holds; nothing if it is missing or damaged."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            found = json.loads(self.path.read_text(encoding="utf-8"))
            if isinstance(found, dict):
                return {label: entry for label, entry in found.items() if isinstance(entry, dict) and "run" in entry}
        return {}

    def missing(self, wanted: Mapping[str, Run]) -> dict[str, Run]:
        """Those of ``wanted`` (label → run) that the file does not know; forgets what it knows of others.

        Raises:
            StorageError: the file could not be written.
        """
        known = self.entries()
        kept = {label: entry for label, entry in known.items() if label in wanted and entry["run"] == wanted[label].id}
        if kept != known:
            self._write(kept)
        return {label: run for label, run in wanted.items() if label not in kept}

    def add(self, label: str, run: Run, entry: Mapping[str, Any]) -> None:
        """Add or replace the entry of one contender.

        Raises:
            StorageError: the file could not be written.
        """
        self._write({**self.entries(), label: {**entry, "run": run.id}})

    def _write(self, entries: Mapping[str, Any]) -> None:
        write_atomically(self.path, (json.dumps(entries, indent=2, ensure_ascii=False) + "\n").encode())
