"""The classroom notebook: it runs from top to bottom, and its own assertions hold."""

import re

import nbformat
import pytest
from blocks import ROOT
from nbclient import NotebookClient

NOTEBOOK = nbformat.read(ROOT / "docs" / "classroom.ipynb", as_version=4)


@pytest.mark.slow
def test_it_runs_and_prints_what_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    fresh = NotebookClient(
        nbformat.from_dict(NOTEBOOK), timeout=600, kernel_name="python3", coalesce_streams=True
    ).execute()
    for before, after in zip(NOTEBOOK.cells, fresh.cells, strict=True):
        if before.cell_type == "code":
            assert kinds(before) == kinds(after), f"other outputs than the stored ones:\n{before.source}"
            # Angles and differences may differ in the last digit from machine to machine, the words may not.
            assert words(before) == words(after)


def test_it_goes_from_equation_1_to_the_alignment_figure_with_checks_on_the_way() -> None:
    titles = [line for cell in NOTEBOOK.cells for line in cell.source.splitlines() if line.startswith("## ")]
    assert titles[0] == "## 1. Equation 1" and "## 6. The alignment figure" in titles
    assert sum("assert " in cell.source for cell in NOTEBOOK.cells if cell.cell_type == "code") >= 6


def test_it_stays_small_and_shows_no_warnings() -> None:
    assert (ROOT / "docs" / "classroom.ipynb").stat().st_size < 400_000
    outputs = [output for cell in NOTEBOOK.cells for output in cell.get("outputs", [])]
    assert outputs and all(output.get("name") != "stderr" and output.output_type != "error" for output in outputs)


def kinds(cell: nbformat.NotebookNode) -> list[str]:
    return [o.output_type for o in cell.outputs if o.get("name") != "stderr"]


def words(cell: nbformat.NotebookNode) -> list[str]:
    text = "".join(o.text for o in cell.outputs if o.get("name") == "stdout")
    return re.findall(r"[^\W\d]{2,}", text)
