"""The picture that sums the field up: accuracy against the number of problems solved, both measured."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import FixedLocator

from plausible.audit import Scorecard
from plausible.compare.statistics import Estimate
from plausible.report import names
from plausible.report.curves import error_axis
from plausible.report.labels import Box, Place, place
from plausible.report.style import BAND, INK, SOFT, Mark, Medium, marks
from plausible.report.summary import Standing

_MARK = 7.0  # points across
_BESIDE = 10.5  # from middle to middle of marks that would else lie on each other

_Drawn = tuple[Standing, Scorecard, Estimate]


@dataclass(frozen=True)
class _Point:
    """A contender as it is drawn: accuracies in %, ``x`` and ``reach`` on the axis of problems."""

    standing: Standing
    mark: Mark
    x: float
    mean: float
    low: float
    high: float
    reach: float


class _Scale:
    """From the axes' values to points from their lower left corner, once the layout is known."""

    def __init__(self, ax: Axes, dpi: float) -> None:
        self.ax, self.per_pixel = ax, 72 / dpi
        self.width, self.height = ax.bbox.width * self.per_pixel, ax.bbox.height * self.per_pixel
        low, high = ax.get_xlim()
        self.per_point = (high - low) / self.width

    def __call__(self, x: float, y: float) -> tuple[float, float]:
        across, up = self.ax.transData.transform((x, y))
        return float(across - self.ax.bbox.x0) * self.per_pixel, float(up - self.ax.bbox.y0) * self.per_pixel


def shown(table: Sequence[Standing]) -> list[_Drawn]:
    """Those with an accuracy and a scorecard: only they can be drawn."""
    return [(s, s.audited.card, s.accuracy) for s in table if s.audited is not None and s.accuracy is not None]


def field(table: Sequence[Standing], medium: Medium) -> Figure | None:
    """Mean test accuracy and its 95 % interval over the number of the six problems that are solved.

    A paler bar goes on to the right as far as there are problems solved in part. What would lie on another stands
    beside it. The axis of accuracy is logarithmic in the error.
    """
    drawn = shown(table)
    if not drawn:
        return None
    height = 4.1 + 0.06 * max(0, len(drawn) - 7) + (0.4 if medium.narrow else 0.0)
    figure = Figure(figsize=(medium.width, height))
    ax = figure.subplots()
    _axes(ax, drawn, medium)
    if reference := next((s.accuracy for s, _, _ in drawn if s.reference), None):
        level, what = 100 * reference.mean, "BP" if medium.narrow else "back-propagation"
        ax.axhline(level, color=SOFT, lw=0.8, dashes=(3, 2), zorder=0.6)
        ax.annotate(
            f"{what} {names.percent(reference.mean)}", (1, level), (-4, 3), xycoords=ax.get_yaxis_transform(),
            textcoords="offset points", ha="right", color=SOFT,
        )  # fmt: skip
    figure.draw_without_rendering()  # finds where the axes are; nothing that is added from here on moves them
    scale = _Scale(ax, figure.dpi)
    points = _points(drawn, marks(tuple(s.contender for s in table)), scale)
    for p in points:
        look = {"color": p.mark.colour, "scalex": False, "scaley": False}
        if p.reach > p.x:
            ax.plot([p.x, p.reach], [p.mean, p.mean], lw=5, alpha=0.3, solid_capstyle="butt", zorder=1.5, **look)
        ax.plot([p.x, p.x], [p.low, p.high], lw=1.8, zorder=2, **look)
        ax.plot(p.x, p.mean, ls="", marker=p.mark.marker, ms=_MARK, mfc=p.mark.face, mec=p.mark.colour, mew=1.4,
                zorder=3, **look)  # fmt: skip
    _name(ax, points, scale, medium)
    return figure


def _axes(ax: Axes, drawn: Sequence[_Drawn], medium: Medium) -> None:
    core = max(card.core for _, card, _ in drawn)
    error_axis(ax, [100 * v for _, _, e in drawn for v in _within(e)], least=1.5)
    ax.set_xlim(-0.5, core + 0.5)
    ax.xaxis.set_major_locator(FixedLocator(range(core + 1)))
    ax.set_xticklabels(["none", *map(str, range(1, core)), "all" if medium.narrow else f"all {names.number(core)}"])
    ax.tick_params(axis="x", length=0)
    for column in range(0, core + 1, 2):
        ax.axvspan(column - 0.5, column + 0.5, color=BAND, lw=0, zorder=0)
    ax.set_xlabel("problems of back-propagation that the rule solves", loc="left")
    ax.set_title("test accuracy", fontweight="normal", color=SOFT)


def _within(e: Estimate) -> tuple[float, float, float]:
    """Low, mean and high, as accuracies can be; of one seed, the mean alone."""
    low, high = (e.mean if bound is None else min(max(bound, 0.0), 1.0) for bound in (e.low, e.high))
    return low, e.mean, high


def _points(drawn: Sequence[_Drawn], mark: dict[str, Mark], scale: _Scale) -> list[_Point]:
    """Where each is drawn: in a column, those whose intervals overlap stand side by side, the best leftmost."""
    points: list[_Point] = []
    for solved in sorted({card.solved for _, card, _ in drawn}):
        column = [each for each in drawn if each[1].solved == solved]
        column.sort(key=lambda each: -each[2].mean)
        for group in _together(column, scale):
            lane = min(_BESIDE * scale.per_point, 0.84 / len(group))
            for i, (s, card, e) in enumerate(group):
                x = solved + lane * (i - (len(group) - 1) / 2)
                low, mean, high = (100 * v for v in _within(e))
                points.append(_Point(s, mark[s.contender.label], x, mean, low, high, x + card.partly))
    return points


def _together(column: Sequence[_Drawn], scale: _Scale) -> list[list[_Drawn]]:
    """The column, best first, cut where neither marks nor intervals of those above and below would touch."""
    groups: list[list[_Drawn]] = []
    floor = float("inf")
    for each in column:
        low, mean, high = (scale(0, 100 * v)[1] for v in _within(each[2]))
        if max(high, mean + _MARK / 2) < floor:
            groups.append([])
        groups[-1].append(each)
        floor = min(floor, low - 1, mean - _MARK / 2 - 1)
    return groups


def _name(ax: Axes, points: Sequence[_Point], scale: _Scale, medium: Medium) -> None:
    """Write each contender's name where it covers nothing, with a line to its mark where that is not at its side."""
    texts = [textwrap.fill(p.standing.short, 18, break_long_words=False) for p in points]
    font = FontProperties(family=list(medium.fonts), size=medium.size)
    lines = [[TextPath((0, 0), line, prop=font).get_extents().width for line in text.split("\n")] for text in texts]
    sizes = [(max(widths) + 3, 1.25 * medium.size * len(widths)) for widths in lines]
    anchors = [scale(p.x, p.mean) for p in points]
    obstacles = [Box(x - _MARK / 2 - 1, y - _MARK / 2 - 1, x + _MARK / 2 + 1, y + _MARK / 2 + 1) for x, y in anchors]
    for p, (x, y) in zip(points, anchors, strict=True):
        obstacles.append(Box(x - 1.5, scale(p.x, p.low)[1], x + 1.5, scale(p.x, p.high)[1]))
        obstacles.append(Box(x, y - 3, scale(p.reach, p.mean)[0], y + 3))
        if p.standing.reference:
            # The dashed line, and its name at the right.
            obstacles += [
                Box(0, y - 1, scale.width, y + 1),
                Box(scale.width - 13 * medium.size, y, scale.width, y + 14),
            ]
    bounds = Box(0, 0, scale.width, scale.height)
    for p, text, size, anchor, found in zip(
        points, texts, sizes, anchors, place(anchors, sizes, obstacles, bounds, gap=_MARK / 2 + 2.5), strict=True
    ):
        _write(ax, p, text, size, anchor, found)


def _write(
    ax: Axes, p: _Point, text: str, size: tuple[float, float], anchor: tuple[float, float], found: Place
) -> None:
    if found.leader is not None:
        ax.annotate(
            "", anchor, found.leader, xycoords="axes points", textcoords="axes points", zorder=1,
            arrowprops={"arrowstyle": "-", "color": SOFT, "lw": 0.6, "shrinkA": 0, "shrinkB": _MARK / 2 + 1},
        ).set_in_layout(False)  # fmt: skip
    # Towards the mark, so that another font leaves the gap as it is.
    right = found.x > anchor[0]
    left = found.x + size[0] < anchor[0]
    align, x = (
        ("left", found.x) if right else ("right", found.x + size[0]) if left else ("center", found.x + size[0] / 2)
    )
    ax.annotate(
        text, (x, found.y + size[1] / 2), xycoords="axes points", ha=align, va="center", zorder=4,
        color=SOFT if p.standing.control else INK, weight="bold" if p.standing.reference else "normal",
    ).set_in_layout(False)  # fmt: skip
