"""The raster of a spiking net: every spike that was recorded is drawn, where it was, and the page has the figure."""

import json
from pathlib import Path

import numpy as np
import pytest
import synthetic
from matplotlib.figure import Figure

from plausible import report
from plausible.probes.activity import Activity, Population, Trace
from plausible.report.raster import raster
from plausible.report.results import ReportError
from plausible.report.style import NARROW, WIDE, drawing

STEPS, DT = 20, 2e-3


def seen() -> Activity:
    """Two stimuli of 20 ms; SYNTHETIC spikes."""
    return Activity(
        dt=DT,
        shown=[3, 1],
        answered=[3, 0],
        populations=[
            Population("sensors", 50, 12.5, [0, 49], [[0, 5], [19]]),
            Population("linear1", 9, 30.0, [0, 4, 8], [[2], [], [7, 9, 11]]),
            Population("output", 8, 7.0, [0], [[4]]),
            Population("readout.error", 8, 1.5, [1], [[]]),
        ],
        traces=[Trace("linear1", 8, [0.5] * STEPS)],
        readout=[[0.1 * t, 0.0, 0.2, 1.0] for t in range(STEPS)],
    )


def drawn(medium=WIDE) -> Figure:
    with drawing(medium):
        return raster(seen(), medium)


@pytest.mark.parametrize("medium", [WIDE, NARROW])
def test_every_spike_is_a_stroke_at_its_time(medium):
    spikes = drawn(medium).axes[0]
    found = []
    for line in spikes.lines:
        x, y = np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float)
        if np.isnan(y).any():
            assert np.array_equal(x[::3], x[1::3]) and (y[1::3] - y[::3] == 1).all() and np.isnan(y[2::3]).all()
            found += x[::3].tolist()
    expected = [1e3 * DT * (t + 0.5) for p in seen().populations for when in p.spikes for t in when]
    assert sorted(found) == pytest.approx(sorted(expected))


def test_populations_are_named_with_their_rates_and_stimuli_with_their_answers():
    spikes, voltages, readout = drawn().axes
    assert [t.get_text() for t in spikes.get_yticklabels()] == [
        "sensors\n12.5 Hz", "linear1\n30.0 Hz", "output\n7.0 Hz", "error at readout\n1.5 Hz",
    ]  # fmt: skip
    assert [(t.get_text(), t.get_fontweight()) for t in spikes.texts] == [("3 → 3", "normal"), ("1 → 0", "bold")]
    assert [t.get_text() for t in voltages.get_yticklabels()] == ["linear1, cell 8"]
    assert readout.get_xlim() == (0, 40.0) and readout.get_xlabel() == "time, ms"
    for ax in (spikes, voltages, readout):  # one line where the second stimulus sets in
        assert sum(list(line.get_xdata()) == [20.0, 20.0] for line in ax.lines) == 1


def look(directory: Path, label: str) -> Path:
    runs = json.loads((directory / "comparison.json").read_text())["runs"]
    return directory / "runs" / runs[label]["1"] / "activity.json"


def test_the_page_has_a_figure_for_each_contender_that_was_looked_into(small):
    assert "Inside the net" not in report.write(small).read_text(encoding="utf-8")
    look(small, "fa").write_text(seen().to_json())
    page = report.write(small).read_text(encoding="utf-8")
    assert page.count('<figure id="figure-activity-') == 1
    assert "error at readout" in page and "Feedback alignment at the end of training" in page
    assert len(list((small / "report" / "figures").glob("activity-*"))) == 2  # SVG and PDF


def test_a_damaged_record_is_named(tmp_path):
    directory = synthetic.write(tmp_path, rules=("backprop", "fa"), seeds=(0, 1), epochs=2)
    look(directory, "fa").write_text('{"populations": [[1]]}')
    with pytest.raises(ReportError, match=r"activity\.json.*no record of activity"):
        report.write(directory)
