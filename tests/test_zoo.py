"""Some models of the long sweep, others each day: ``results/coverage.py`` examines them all."""

import csv
import datetime
import importlib.util
import random
from pathlib import Path

import pytest

RESULTS = Path(__file__).parent.parent / "results"
LIBRARIES = ("torchvision", "timm", "transformers")
QUICK = 6
"""Seconds that a model took in the sweep, at most."""


def _rows() -> list[dict[str, str]]:
    with (RESULTS / "coverage.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _of_today() -> list[tuple[str, str]]:
    draw = random.Random(datetime.date.today().toordinal())
    quick = [(row["library"], row["model"]) for row in _rows() if int(row["seconds"]) <= QUICK]
    return [each for library in LIBRARIES for each in draw.sample([q for q in quick if q[0] == library], 1)]


@pytest.mark.parametrize(("library", "name"), _of_today(), ids=lambda part: part)
def test_todays_models(library: str, name: str, monkeypatch):
    pytest.importorskip(library)
    monkeypatch.syspath_prepend(str(RESULTS))
    spec = importlib.util.spec_from_file_location("sweep_of_models", RESULTS / "coverage.py")
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(sweep := importlib.util.module_from_spec(spec))
    row = sweep.examine(library, name)
    assert float(row["sham"]) < 1e-9 and float(row["fa"] or 0) < 1e-9 and float(row["read"]) < 1e-9


def test_the_committed_sweep_is_whole_and_clean():
    """Every image classifier of torchvision, at least sixty families of timm, eight of Hugging Face; nothing read."""
    rows = _rows()
    count = {library: sum(row["library"] == library for row in rows) for library in LIBRARIES}
    assert count["torchvision"] >= 80 and count["timm"] >= 60 and count["transformers"] >= 7
    for row in rows:
        for key in ("sham", "fa", "read"):
            assert float(row[key] or 0) < 1e-9, row
