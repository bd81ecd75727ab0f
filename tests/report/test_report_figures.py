"""What the figures draw, read back from their artists and files."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from plausible.report import curves, figures, load, svg
from plausible.report.field import field
from plausible.report.results import Contender
from plausible.report.style import NARROW, PALETTE, PRINT, WIDE, Medium, drawing, marks
from plausible.report.summary import Standing, standings

MEDIA = pytest.mark.parametrize("medium", [PRINT, WIDE, NARROW], ids=lambda m: m.name)


@pytest.fixture(scope="module")
def table(finished: Path) -> tuple[Standing, ...]:
    return standings(load(finished))


def _texts(figure: Figure) -> list[str]:
    from matplotlib.text import Text

    return [t.get_text() for t in figure.findobj(Text) if isinstance(t, Text)]


@MEDIA
def test_final_draws_every_seed_and_mean(table: tuple[Standing, ...], medium: Medium) -> None:
    with drawing(medium):
        figure = figures.final(table, medium)
    assert figure is not None
    (ax,) = figure.axes
    drawn = {(round(float(x), 6), float(y)) for line in ax.lines for x, y in line.get_xydata()}
    means = {rule: 100 * np.mean([synthetic.accuracy_of(rule, s) for s in range(5)]) for rule in synthetic.RULES}
    rows = sorted(synthetic.RULES, key=lambda rule: -means[rule])
    for y, rule in enumerate(rows):
        assert (round(means[rule], 6), y) in drawn
        for seed in range(5):
            assert any(x == round(100 * synthetic.accuracy_of(rule, seed), 6) and y < v < y + 0.5 for x, v in drawn)
    assert any("97.4%" in text for text in _texts(figure))


@MEDIA
@pytest.mark.filterwarnings("error")  # where nothing is left of the panels, Matplotlib warns and lays out nothing
def test_the_names_of_many_layers_leave_the_panels_their_height(medium: Medium) -> None:
    heights = []
    with drawing(medium):
        for layers in (4, 12):  # two rows of names, and six
            figure, (ax,) = curves._panels(1, medium)
            curves._key(figure, [Line2D([], [], label=f"layer {k}") for k in range(layers)], "layers", 2)
            figure.draw_without_rendering()
            heights.append(ax.get_window_extent().height)
    assert heights[1] > 0.9 * heights[0]


@MEDIA
def test_learning_draws_the_mean_of_the_seeds(table: tuple[Standing, ...], medium: Medium) -> None:
    with drawing(medium):
        figure = curves.learning(table, medium)
    assert figure is not None
    assert len(figure.axes) == len(synthetic.RULES)
    for ax, s in zip(figure.axes, table, strict=True):
        seeds = np.array([[100 * e.validation_accuracy for e in run.epochs] for run in s.contender.runs])
        heavy = max(ax.lines, key=lambda line: line.get_linewidth())
        assert np.allclose(heavy.get_ydata(), seeds.mean(axis=0))
        thin = [line for line in ax.lines if line.get_linewidth() == 0.6]
        assert np.allclose(np.array([line.get_ydata() for line in thin]), seeds)
        low, high = ax.get_ylim()
        assert low < seeds.min() and seeds.max() < high
        label = ax.texts[0].get_text()
        assert label == f"{seeds.mean(axis=0)[-1]:.1f}%"


@MEDIA
def test_angles_draw_every_layer_and_the_right_angle(table: tuple[Standing, ...], medium: Medium) -> None:
    with drawing(medium):
        figure = curves.angles(table, "update_angle", "Angle", medium)
    assert figure is not None
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["uSF", "Kolen–Pollack", "FA", "DFA"]
    fa = figure.axes[2]
    probes = next(s for s in table if s.contender.label == "fa").contender.runs
    for layer in synthetic.LAYERS:
        expected = np.mean([[p.layers[layer]["update_angle"] for p in run.probes] for run in probes], axis=0)
        assert any(len(line.get_ydata()) == 11 and np.allclose(line.get_ydata(), expected) for line in fa.lines), layer
    assert any(list(line.get_ydata()) == [90, 90] for line in fa.lines)


@MEDIA
def test_cost_draws_the_ratios(table: tuple[Standing, ...], medium: Medium) -> None:
    with drawing(medium):
        figure = figures.cost(table, medium)
    assert figure is not None
    time, memory = figure.axes
    for y, s in enumerate(table):
        assert s.contender.cost is not None
        for ax, ratio in ((time, s.contender.cost.time_ratio), (memory, s.contender.cost.memory_ratio)):
            assert any([ratio, y] in line.get_xydata().tolist() for line in ax.lines)


def test_nothing_to_draw_is_no_figure(tmp_path: Path) -> None:
    directory = synthetic.write(tmp_path, seeds=(0,), rules=("backprop",), epochs=1, probes=False, cost=False)
    for path in directory.glob("runs/*/result.json"):
        path.unlink()
    table = standings(load(directory))
    with drawing(WIDE):
        assert figures.final(table, WIDE) is None
        assert figures.cost(table, WIDE) is None
        assert field(table, WIDE) is None
        assert curves.learning(table, WIDE) is None
        assert curves.angles(table, "update_angle", "Angle", WIDE) is None


def test_an_error_of_zero_can_be_drawn(tmp_path: Path) -> None:
    directory = synthetic.write(tmp_path, seeds=(0,), rules=("backprop",), epochs=2, layers=("net.1",))
    path = directory.glob("runs/*/metrics.jsonl").__next__()
    text = re.sub(r'"validation_accuracy": [0-9.]+', '"validation_accuracy": 1.0', path.read_text())
    path.write_text(text)
    with drawing(WIDE):
        figure = curves.learning(standings(load(directory)), WIDE)
        assert figure is not None
        assert np.isfinite(figure.axes[0].get_ylim()).all()
        assert "100.0%" in svg.inline(figure, "x-wide", "")


@given(st.lists(st.floats(-180, 180), max_size=9), st.floats(0.5, 20))
def test_labels_are_moved_apart_and_stay_in_order(values: list[float], gap: float) -> None:
    places = curves.apart(values, gap)
    order = np.argsort(values, kind="stable")
    moved = np.array(places)[order] if values else np.array([])
    assert (np.diff(moved) >= gap - 1e-9).all()
    # What is far enough apart stays where it is.
    alone = np.diff(np.array(values)[order]) >= gap if values else np.array([])
    if len(alone) and alone.all():
        assert np.allclose(places, values)


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(a: str, b: str) -> float:
    low, high = sorted((_luminance(a), _luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("name", [n for n in PALETTE if n not in ("line", "band", "paper")])
def test_contrast(name: str, theme: int) -> None:
    # WCAG 2.2: 4.5 for text, 3 for graphics; the palest layers are also told by dash and number
    needed = 4.5 if name in ("ink", "soft") else 2.2 if name.startswith("depth") else 3.0
    assert _contrast(PALETTE[name][theme], PALETTE["paper"][theme]) >= needed


def test_no_two_contenders_look_the_same_without_colour() -> None:
    rules = ["backprop", "sham", "frozen", *(f"rule-{i}" for i in range(11))]
    looks = marks(tuple(Contender(r, r, r, r, "", {}, "", {}, "", (), None) for r in rules))
    assert len({(m.marker, m.face == m.colour, m.colour if m.face == "#1b1f24" else "") for m in looks.values()}) >= 13
    assert len({(m.marker, m.colour, m.dashes) for m in looks.values()}) == len(rules)


def test_each_light_colour_names_one_variable() -> None:
    lights = [light for light, _ in PALETTE.values()]
    assert len(set(lights)) == len(lights)


def test_inline_svg_has_no_fixed_colour_or_font(table: tuple[Standing, ...]) -> None:
    for draw in (field, figures.final, curves.learning, figures.cost):
        with drawing(WIDE):
            figure = draw(table, WIDE)
            assert figure is not None
            markup = svg.inline(figure, "x-wide", 'says "so" & so')
        root = ElementTree.fromstring(markup)
        assert root.attrib["aria-label"] == 'says "so" & so'
        assert "width" not in root.attrib
        assert re.findall(r"#[0-9a-f]{3,8}\b(?![\w-])", re.sub(r'(href="#|url\(#)[^")]*', "", markup)) == []
        assert set(re.findall(r"font-family: ([^;\"]*)", markup)) == {"var(--sans)"}
        ids = set(re.findall(r'\bid="([^"]*)"', markup))
        assert all(name.startswith("x-wide-") for name in ids)
        used = set(re.findall(r'href="#([^"]*)"', markup)) | set(re.findall(r"url\(#([^)]*)\)", markup))
        assert used <= ids


def test_files_for_print(finished: Path) -> None:
    folder = finished / "report" / "figures"
    expected = {"problems", "final", "learning", "update-angle", "feedback-angle", "cost"}
    assert {p.name for p in folder.iterdir()} == {f"{n}.{s}" for n in expected for s in ("svg", "pdf")}
    for name in expected:
        pdf = (folder / f"{name}.pdf").read_bytes()
        assert b"/Type3" not in pdf
        assert b"/CIDFontType2" in pdf and b"/FontFile2" in pdf  # TrueType, embedded
        root = ElementTree.parse(folder / f"{name}.svg").getroot()
        assert not list(root.iter("{http://www.w3.org/2000/svg}text"))  # outlines: the same everywhere
