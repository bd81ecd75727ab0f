"""The picture of accuracy against problems solved, read back from its artists; and where labels go."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import synthetic
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.stats import t

from plausible.report import curves, load
from plausible.report.field import field
from plausible.report.labels import Box, Place, place
from plausible.report.style import NARROW, PRINT, WIDE, Medium, drawing, marks
from plausible.report.summary import Standing, standings

MEDIA = pytest.mark.parametrize("medium", [PRINT, WIDE, NARROW], ids=lambda m: m.name)
CORE = ("weight transport", "derivative transport", "linear feedback", "spiking", "timing", "target")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[Standing, ...]:
    return standings(load(synthetic.write(tmp_path_factory.mktemp("all"), rules=synthetic.ALL, cost=False)))


def _drawn(table: tuple[Standing, ...], medium: Medium) -> tuple[Figure, Axes]:
    with drawing(medium):
        figure = field(table, medium)
    assert figure is not None
    (ax,) = figure.axes
    return figure, ax


def _of(ax: Axes, table: tuple[Standing, ...], rule: str) -> list[Line2D]:
    mark = marks(tuple(s.contender for s in table))[rule]
    (dot,) = [
        line for line in ax.lines if line.get_marker() == mark.marker and line.get_markeredgecolor() == mark.colour
    ]
    return [dot, *(line for line in ax.lines if line is not dot and line.get_color() == mark.colour
                   and line.get_xdata()[0] == dot.get_xdata()[0])]  # fmt: skip


@MEDIA
def test_every_contender_stands_in_its_column_at_its_accuracy(table: tuple[Standing, ...], medium: Medium) -> None:
    _, ax = _drawn(table, medium)
    for rule in synthetic.ALL:
        found = [synthetic.verdicts(rule)[problem] for problem in CORE]
        seeds = np.array([synthetic.accuracy_of(rule, seed) for seed in range(5)])
        dot, *lines = _of(ax, table, rule)
        (x,), (y,) = dot.get_xdata(), dot.get_ydata()
        assert abs(x - found.count("solved")) < 0.45
        assert y == pytest.approx(100 * seeds.mean())
        half = t.ppf(0.975, 4) * seeds.std(ddof=1) / 5**0.5
        spans = [sorted(line.get_ydata()) for line in lines if len(set(line.get_xdata())) == 1]
        assert any(np.allclose(span, [100 * (seeds.mean() - half), 100 * (seeds.mean() + half)]) for span in spans)
        paler = [np.ptp(line.get_xdata()) for line in lines if line.get_alpha()]
        assert paler == [pytest.approx(n) for n in [found.count("partly")] if n]


@MEDIA
def test_back_propagation_is_a_dashed_line(table: tuple[Standing, ...], medium: Medium) -> None:
    _, ax = _drawn(table, medium)
    level = 100 * np.mean([synthetic.accuracy_of("backprop", seed) for seed in range(5)])
    (dashed,) = [line for line in ax.lines if line.is_dashed()]
    assert np.allclose(dashed.get_ydata(), level)
    assert any(f"{level:.1f}%" in text.get_text() for text in ax.texts)


@MEDIA
def test_labels_and_marks_cover_nothing(table: tuple[Standing, ...], medium: Medium) -> None:
    figure, ax = _drawn(table, medium)
    figure.draw_without_rendering()
    texts = [text for text in ax.texts if text.get_text()]
    assert {text.get_text() for text in texts} >= {s.short for s in table}
    boxes = [text.get_window_extent() for text in texts]
    for (a, one), (b, other) in combinations(zip(texts, boxes, strict=True), 2):
        across = min(one.x1, other.x1) - max(one.x0, other.x0)
        down = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert across <= 0 or down <= 0.4 * min(one.height, other.height), (a.get_text(), b.get_text())
    inside = ax.bbox
    assert all(inside.x0 - 2 <= box.x0 and box.x1 <= inside.x1 + 2 for box in boxes)


def test_it_is_the_same_each_time(table: tuple[Standing, ...]) -> None:
    one, other = ([line.get_xydata().tolist() for line in _drawn(table, WIDE)[1].lines] for _ in range(2))
    assert one == other


def test_who_was_not_audited_is_not_drawn(small: Path) -> None:
    cards = {rule: {"run": "", "scorecard": synthetic.card(rule)} for rule in ("backprop", "fa")}
    (small / "audit.json").unlink()
    text = (small / "comparison.json").read_text().replace('"rule": "frozen"', '"rule": "somebody-elses"')
    (small / "comparison.json").write_text(text)
    synthetic.write_json(small / "audit.json", cards)
    _, ax = _drawn(standings(load(small)), WIDE)
    assert not any("Frozen" in text.get_text() for text in ax.texts)


@pytest.mark.parametrize(("low", "high"), [(84.0, 90.5), (96.5, 97.6), (20.0, 99.5), (0.0, 100.0)])
def test_the_axis_of_accuracy_has_some_round_ticks(low: float, high: float) -> None:
    ax = Figure().subplots()
    curves.error_axis(ax, [low, high], least=1.5)
    ticks = list(ax.get_yticks())
    assert 3 <= len(ticks) <= 9
    bottom, top = ax.get_ylim()
    assert all(bottom <= tick <= top for tick in ticks)
    assert bottom <= low and (high <= top or high == 100)


BOUNDS = Box(0, 0, 400, 300)
anchors = st.lists(st.tuples(st.floats(60, 340), st.floats(40, 260)), max_size=10)


def _boxes(places: list[Place], sizes: list[tuple[float, float]]) -> list[Box]:
    return [Box(p.x, p.y, p.x + w, p.y + h) for p, (w, h) in zip(places, sizes, strict=True)]


def _shared(a: Box, b: Box) -> float:
    across, down = min(a.right, b.right) - max(a.left, b.left), min(a.top, b.top) - max(a.bottom, b.bottom)
    return max(across, 0) * max(down, 0)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(anchors)
@example([(273.0, 214.0), (338.0, 236.0), (325.0, 246.5)])
def test_ten_labels_have_room_for_all(points: list[tuple[float, float]]) -> None:
    sizes = [(40.0, 11.0)] * len(points)
    found = _boxes(place(points, sizes, [], BOUNDS, gap=6), sizes)
    assert all(_shared(a, b) < 1e-6 for a, b in combinations(found, 2))
    for box in found:
        assert box.left >= 0 and box.bottom >= 0 and box.right <= 400 and box.top <= 300


def test_a_lonely_label_stands_right_beside_its_mark() -> None:
    (found,) = place([(100, 100)], [(40, 10)], [], BOUNDS, gap=6)
    assert found == Place(106, 95, leader=None)


def test_a_label_gives_way_to_what_is_there() -> None:
    wall = Box(104, 0, 400, 300)
    (found,) = place([(100, 100)], [(40, 10)], [wall], BOUNDS, gap=6)
    assert found.x + 40 <= 104
    (found,) = place([(390, 100)], [(40, 10)], [], BOUNDS, gap=6)  # the edge of the figure
    assert found.x + 40 <= 390
