"""The notebooks: they run from top to bottom, and their own assertions hold."""

import re
from pathlib import Path

import nbformat
import pytest
from blocks import ROOT
from nbclient import NotebookClient

NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "docs").glob("*.ipynb"))}
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS.values(), ids=NOTEBOOKS.keys())


@pytest.mark.slow
@each_notebook
def test_it_runs_and_prints_what_it_shows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = read(path)
    fresh = NotebookClient(
        nbformat.from_dict(notebook), timeout=600, kernel_name="python3", coalesce_streams=True
    ).execute()
    for before, after in zip(notebook.cells, fresh.cells, strict=True):
        if before.cell_type == "code":
            assert kinds(before) == kinds(after), f"other outputs than the stored ones:\n{before.source}"
            # Angles and differences may differ in the last digit from machine to machine, the words may not.
            assert words(before) == words(after)


@pytest.mark.parametrize(
    ("name", "first", "later"),
    [
        ("classroom", "## 1. Equation 1", "## 6. The alignment figure"),
        ("classroom-spikes", "## 1. One neuron", "## 5. A network that learns in spikes"),
    ],
)
def test_it_goes_from_where_it_begins_to_where_it_leads_with_checks_on_the_way(name: str, first: str, later: str):
    notebook = read(NOTEBOOKS[name])
    titles = [line for cell in notebook.cells for line in cell.source.splitlines() if line.startswith("## ")]
    assert titles[0] == first and later in titles
    assert sum("assert " in cell.source for cell in notebook.cells if cell.cell_type == "code") >= 6


@each_notebook
def test_it_stays_small_and_shows_no_warnings(path: Path) -> None:
    assert path.stat().st_size < 500_000
    outputs = [output for cell in read(path).cells for output in cell.get("outputs", [])]
    assert outputs and all(output.get("name") != "stderr" and output.output_type != "error" for output in outputs)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def kinds(cell: nbformat.NotebookNode) -> list[str]:
    return [o.output_type for o in cell.outputs if o.get("name") != "stderr"]


def words(cell: nbformat.NotebookNode) -> list[str]:
    text = "".join(o.text for o in cell.outputs if o.get("name") == "stdout")
    return re.findall(r"[^\W\d]{2,}", text)
