"""Figures of where each rule ends: rows with one mark each. Those of what changes over training are in curves.py."""

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, MaxNLocator

from plausible.compare.statistics import Estimate
from plausible.report import names
from plausible.report.style import BAND, INK, SOFT, Mark, Medium, marks
from plausible.report.summary import Standing, final_accuracies


def final(table: Sequence[Standing], medium: Medium) -> Figure | None:
    """Final test accuracy, best first: a dot per seed, mean and 95 % interval; back-propagation's as a band."""
    ranked = ranking(table)
    if not ranked:
        return None
    mark = marks(tuple(s.contender for s in table))
    lines = max(_wrapped(_label(s, medium), medium).count("\n") for s, _ in ranked) if medium.narrow else 0
    step = 0.56 + 0.16 * lines if medium.narrow else 0.36
    figure = Figure(figsize=(medium.width, 0.8 + step * len(ranked)))
    ax = figure.subplots()
    _rows(ax, [] if medium.narrow else [_label(s, medium) for s, _ in ranked], medium)
    if medium.narrow:
        # What stands over the first row has a fixed height, whatever a row is.
        ax.set_ylim(len(ranked) - 0.55, -(0.38 + 0.16 * lines) / step)
        ax.grid(False)
    for y, (s, e) in enumerate(ranked):
        seeds = [100 * v for v in final_accuracies(s.contender).values()]
        m = mark[s.contender.label]
        _interval(ax, y, 100 * e.mean, _scaled(e), m)
        ax.plot(seeds, [y + 0.27] * len(seeds), ls="", marker="o", ms=3.2, mfc=m.colour, mec="none", alpha=0.45)
    _reference(ax, ranked, (-0.14, 0.4) if medium.narrow else (-0.5, 0.5))
    # An interval may reach beyond what an accuracy can be; the axis does not.
    ax.set_xlim(max(ax.get_xlim()[0], 0), min(ax.get_xlim()[1], 100.3))
    ax.set_xlabel("test accuracy, %", loc="left")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    (_numbers_above if medium.narrow else _numbers_beside)(ax, ranked, medium)
    return figure


def cost(table: Sequence[Standing], medium: Medium) -> Figure | None:
    """Time and memory of a step as ratios to back-propagation's: median and quartiles."""
    shown = [(s, s.contender.cost) for s in table if s.contender.cost is not None]
    if not shown:
        return None
    mark = marks(tuple(s.contender for s in table))
    tall = 0.75 + 0.3 * len(shown)
    figure = Figure(figsize=(medium.width, 2 * tall if medium.narrow else tall))
    axes = figure.subplots(2, 1) if medium.narrow else figure.subplots(1, 2)
    for ax, title in zip(axes, ("Time per step", "Peak memory"), strict=True):
        # Names stand left of the first column only, where the second lies beside it.
        beside = ax is axes[1] and not medium.narrow
        _rows(ax, [] if beside else [_label(s, medium) for s, _ in shown], medium)
        ax.set_ylim(len(shown) - 0.4, -0.6)
        ax.set_title(title, pad=12)
        ax.axvline(1, color=SOFT, lw=0.8, dashes=(3, 2), zorder=0.5)
        drawn = [1.0]
        for y, (s, c) in enumerate(shown):
            time = ax is axes[0]
            value, low, high = (c.time_ratio, c.time_low, c.time_high) if time else (c.memory_ratio, None, None)
            if value is None:
                continue
            spread = None if low is None or high is None else (low, high)
            _interval(ax, y, value, spread, mark[s.contender.label])
            drawn += [value, *(spread or ())]
            ax.text(1.02, y, f"{value:.2f}×", transform=ax.get_yaxis_transform(), va="center")
        # Never zoom in until noise looks like a difference.
        room = max(0.06 * (max(drawn) - min(drawn)), 0.03)
        ax.set_xlim(min(drawn) - room, max(drawn) + room)
        ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}×"))
        ax.set_xlabel("ratio to back-propagation", loc="left")
    return figure


def ranking(table: Sequence[Standing]) -> list[tuple[Standing, Estimate]]:
    """Those that have a mean, with it, the best first."""
    having = [(s, s.accuracy) for s in table if s.accuracy is not None]
    return sorted(having, key=lambda pair: pair[1].mean, reverse=True)


def _rows(ax: Axes, labels: Sequence[str], medium: Medium) -> None:
    """Make ``ax`` a list of rows, the first on top, named at the left, with a grid across the values only."""
    wrapped = [_wrapped(label, medium) for label in labels]
    ax.set_yticks(range(len(labels)), wrapped, ha="left", va="center")
    ax.set_ylim(len(labels) - 0.4, -0.6)
    # Set from the left, the names need room for the widest.
    font = FontProperties(family=list(medium.fonts), size=medium.size)
    widths = [TextPath((0, 0), line, prop=font).get_extents().width for text in wrapped for line in text.split("\n")]
    ax.tick_params(axis="y", labelcolor=INK, labelsize=medium.size, length=0, pad=10 + max(widths, default=0))
    ax.grid(False, axis="y")
    ax.grid(True, axis="x")


def _label(s: Standing, medium: Medium) -> str:
    name = s.short if medium.narrow else s.title
    return f"{name} (control)" if s.control else name


def _wrapped(label: str, medium: Medium) -> str:
    return textwrap.fill(label, 20 if medium.narrow else 34, break_long_words=False)


def _interval(ax: Axes, y: float, value: float, bounds: tuple[float, float] | None, mark: Mark) -> None:
    if bounds is not None:
        ax.plot(bounds, [y, y], color=mark.colour, lw=1.8)
    ax.plot(value, y, ls="", marker=mark.marker, ms=7, mfc=mark.face, mec=mark.colour, mew=1.4, zorder=3)


def _scaled(e: Estimate) -> tuple[float, float] | None:
    return None if e.low is None or e.high is None else (100 * e.low, 100 * e.high)


def _reference(ax: Axes, ranked: Sequence[tuple[Standing, Estimate]], reach: tuple[float, float]) -> None:
    """Back-propagation's mean and interval behind every row, from ``reach[0]`` to ``reach[1]`` around it."""
    reference = next((e for s, e in ranked if s.reference), None)
    if reference is None:
        return
    rows = range(len(ranked))
    if (bounds := _scaled(reference)) is not None:
        ax.bar(
            [bounds[0]] * len(rows), reach[1] - reach[0], bounds[1] - bounds[0], [y + reach[0] for y in rows],
            align="edge", color=BAND, lw=0, zorder=0,
        )  # fmt: skip
    low, high = [y + reach[0] for y in rows], [y + reach[1] for y in rows]
    ax.vlines([100 * reference.mean] * len(rows), low, high, color=SOFT, lw=0.8, ls=(0, (3, 2)), zorder=0.5)


def _numbers_beside(ax: Axes, ranked: Sequence[tuple[Standing, Estimate]], medium: Medium) -> None:
    """Mean, difference and interval as three columns right of the marks, at fixed distances in ems."""

    def put(y: float, em: float, text: str, align: str, colour: str, weight: str = "normal") -> None:
        ax.annotate(
            text, (1, y), (em * medium.size, 0), xycoords=ax.get_yaxis_transform(), textcoords="offset points",
            ha=align, va="center", color=colour, weight=weight, annotation_clip=False,
        )  # fmt: skip

    put(-0.85, 4.9, "mean", "right", SOFT)
    if any(s.difference for s, _ in ranked):
        put(-0.85, 7.2, "difference (95% CI)", "left", SOFT)
    for y, (s, e) in enumerate(ranked):
        put(y, 4.9, names.percent(e.mean), "right", INK, "bold")
        if s.difference is not None:
            put(y, 9.4, names.points(s.difference.mean), "right", INK)
            put(y, 10.1, f"({ci})" if (ci := names.interval(s.difference)) else "", "left", SOFT)


def _numbers_above(ax: Axes, ranked: Sequence[tuple[Standing, Estimate]], medium: Medium) -> None:
    """Name and numbers of a row over its marks."""

    def put(x: float, y: float, text: str, align: str, colour: str, weight: str) -> None:
        ax.annotate(
            text, (x, y), (0, 9), xycoords=ax.get_yaxis_transform(), textcoords="offset points",
            ha=align, va="bottom", color=colour, weight=weight, annotation_clip=False,
        )  # fmt: skip

    for y, (s, e) in enumerate(ranked):
        put(0, y, _wrapped(_label(s, medium), medium), "left", INK, "bold")
        text = names.percent(e.mean)
        if s.difference is not None:
            ci = names.interval(s.difference)
            # Em spaces: a browser would run ordinary ones together.
            text += f"\u2003{names.points(s.difference.mean)}" + (f"\u2002({ci})" if ci else "")
        put(1, y, text, "right", SOFT, "normal")
