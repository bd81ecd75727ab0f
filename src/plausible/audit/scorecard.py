"""What an audit found, as one thing to keep: a finding for each problem, and where the numbers come from."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from plausible.audit.criterion import criteria
from plausible.audit.finding import Finding, Verdict
from plausible.core.errors import DataError
from plausible.train.files import make_directory, write_atomically

FORMAT = 1
"""Version of the written form; a file with a higher one is refused."""


@dataclass(frozen=True, kw_only=True)
class Scorecard:
    """The findings of one audit.

    Attributes:
        subject: name of what was audited.
        model: its network, in words.
        examples: how many examples it was examined with.
        dtype: the precision it computed in, such as ``float64``.
        findings: by name of the criterion, in the order of tables.
        times: seconds that each experiment took.
        versions: of plausible, torch and Python.
        date: when it began, ISO 8601 in UTC.
    """

    subject: str
    model: str
    examples: int
    dtype: str
    findings: Mapping[str, Finding]
    times: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    date: str = ""

    @property
    def solved(self) -> int:
        """How many of the six problems of the literature are solved; what is solved in part does not count."""
        return self._count("solved")

    @property
    def partly(self) -> int:
        """How many of the six are solved in part."""
        return self._count("partly")

    @property
    def core(self) -> int:
        """How many of the six were examined."""
        return sum(each.core and each.name in self.findings for each in criteria())

    @property
    def seconds(self) -> float:
        """How long all experiments took."""
        return sum(self.times.values())

    def _count(self, verdict: Verdict) -> int:
        core = {each.name for each in criteria() if each.core}
        return sum(name in core and finding.verdict == verdict for name, finding in self.findings.items())

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold, of which :meth:`from_dict` makes the scorecard again."""
        return {"format": FORMAT, "solved": self.solved, "partly": self.partly, **_plain(asdict(self))}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The scorecard that :meth:`to_dict` wrote.

        Raises:
            DataError: it is not a scorecard, or of a newer format.
        """
        try:
            if values.get("format", 0) > FORMAT:
                raise DataError(
                    f"This scorecard has format {values['format']}, and this version of plausible reads formats up to "
                    f"{FORMAT}: it was written by a newer version. Upgrade plausible to read it."
                )
            rest = {name: value for name, value in values.items() if name not in ("format", "solved", "partly")}
            findings = {name: _finding(found) for name, found in rest.pop("findings").items()}
            return cls(findings=findings, **rest)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(f"This is not a scorecard ({type(error).__name__}: {error}).") from error

    def write(self, path: str | Path) -> None:
        """Write it as JSON, at once: a kill on the way leaves an older file as it was.

        Raises:
            StorageError: it could not be written.
        """
        path = Path(path)
        make_directory(path.parent)
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        write_atomically(path, text.encode())

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The scorecard in a file.

        Raises:
            DataError: it cannot be read or is not a scorecard; the message names the file.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, DataError) as error:
            raise DataError(f"{path}: {error}") from error


def _plain(value: Any) -> Any:
    """JSON knows neither infinity nor "not a number": they are written as words."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _finding(values: Mapping[str, Any]) -> Finding:
    numbers = {name: _number(values[name]) for name in ("value", "spread")}
    by_name = {name: {k: _number(v) for k, v in values[name].items()} for name in ("layers", "thresholds", "also")}
    return Finding(**{**values, **numbers, **by_name})


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value
