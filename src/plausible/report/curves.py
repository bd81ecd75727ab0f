"""Figures of what changes over training: small multiples, a panel per rule, all on the same axes."""

import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from plausible.report.results import RunRecord
from plausible.report.style import INK, SOFT, Medium, depth, marks
from plausible.report.summary import Standing, angle_curves, layers_of, mean_curve

#: More layers than this are drawn as plain lines by depth, and only the first and the last carry their number.
FEW_LAYERS = 8


def learning(table: Sequence[Standing], medium: Medium) -> Figure | None:
    """Validation accuracy over training: every seed, their mean ± 1 SD, and back-propagation's mean in each panel.

    The axis is logarithmic in the error (100 % − accuracy), so that 97 and 98 % lie as far apart as 94 and 96 %.
    """
    shown = [s for s in table if mean_curve(s.contender, _validation)[0]]
    if not shown:
        return None
    mark = marks(tuple(s.contender for s in table))
    figure, axes = _panels(len(shown), medium)
    values = [v for s in shown for run in s.contender.finished for _, v in _validation(run)]
    error_axis(axes[0], values)
    reference = next((s for s in shown if s.reference), None)
    for ax, s in zip(axes, shown, strict=True):
        m = mark[s.contender.label]
        if reference is not None and s is not reference:
            x, mean, _ = mean_curve(reference.contender, _validation)
            ax.plot(x, mean, color=SOFT, lw=1, dashes=(3, 2))
        for run in s.contender.finished:
            ax.plot(*zip(*_validation(run), strict=True), color=m.colour, lw=0.6, alpha=0.4)
        x, mean, sd = mean_curve(s.contender, _validation)
        _band(ax, x, mean, sd, m.colour)
        ax.plot(x, mean, color=m.colour, lw=1.8, marker=m.marker, ms=4.5, mfc=m.face, mec=m.colour, markevery=[-1])
        ax.annotate(f"{mean[-1]:.1f}%", (x[-1], mean[-1]), (7, 0), textcoords="offset points", va="center",
                    color=m.colour, annotation_clip=False)  # fmt: skip
        ax.set_title(textwrap.fill(s.short, 24, break_long_words=False))
    keys = [
        Line2D([], [], color=INK, lw=1.8, label="mean ± 1 SD"),
        Line2D([], [], color=INK, lw=0.6, alpha=0.5, label="one seed"),
    ]
    if reference is not None:
        keys.append(Line2D([], [], color=SOFT, lw=1, dashes=(3, 2), label="back-propagation"))
    _key(figure, keys, "Validation accuracy", 2 if medium.narrow else 3)
    return figure


def angles(table: Sequence[Standing], measure: str, title: str, medium: Medium) -> Figure | None:
    """An angle per layer over training (mean over seeds ± 1 SD), a panel per rule, with the right angle marked.

    Args:
        table: the contenders.
        measure: ``update_angle`` or ``feedback_angle``.
        title: what the angle is, set above the panels.
        medium: where it will be seen.
    """
    shown = [s for s in table if not is_flat(s, measure)]
    if not shown:
        return None
    layers = layers_of(table)
    few = len(layers) <= FEW_LAYERS
    figure, axes = _panels(len(shown), medium)
    top = 95.0
    for ax, s in zip(axes, shown, strict=True):
        ax.axhline(90, color=INK, lw=0.8, dashes=(1, 2))
        ends = []
        for layer, (x, mean, sd) in angle_curves(s, measure).items():
            index = layers.index(layer)
            colour, dashes = depth(index, len(layers))
            if few:
                _band(ax, x, mean, sd, colour)
            ax.plot(x, mean, color=colour, lw=1.7 if few else 1, dashes=(dashes if few else ()) or (None, None))
            top = max(top, *mean)
            if few or index in (0, len(layers) - 1):
                ends.append((index, x[-1], mean[-1]))
        for (index, x_end, _), y in zip(ends, apart([end[2] for end in ends], 13.0), strict=True):
            ax.annotate(f"{index + 1}", (x_end, y), (6, 0), textcoords="offset points", va="center",
                        color=SOFT, annotation_clip=False)  # fmt: skip
        ax.set_title(textwrap.fill(s.short, 24, break_long_words=False))
    axes[0].set_ylim(-5, top + 3)
    axes[0].yaxis.set_major_locator(FixedLocator([0, 30, 60, 90, 120, 150, 180]))
    axes[0].yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0f}°"))
    chosen = range(len(layers)) if few else sorted({round(i) for i in np.linspace(0, len(layers) - 1, 6)})
    keys = []
    for i in chosen:
        colour, dashes = depth(i, len(layers))
        dashes = (dashes if few else ()) or (None, None)
        keys.append(Line2D([], [], color=colour, lw=1.8, dashes=dashes, label=f"{i + 1}\u2002{layers[i]}"))
    each = 4 * medium.size + 0.62 * medium.size * (4 + max(map(len, layers)))
    _key(figure, keys, title, max(1, int(72 * medium.width // each)))
    return figure


def is_flat(standing: Standing, measure: str) -> bool:
    """Nothing to see: the angle applies to no layer, or stays within half a degree of zero in all."""
    return all(max(mean) < 0.5 for _, mean, _ in angle_curves(standing, measure).values())


def apart(values: Sequence[float], gap: float) -> list[float]:
    """Positions near to ``values``, in their order, with at least ``gap`` between any two."""
    blocks: list[list[int]] = []
    for i in np.argsort(values, kind="stable"):
        blocks.append([int(i)])
        # Labels that would touch become one block, centred on what they label.
        while len(blocks) > 1:
            lower, upper = (float(np.mean([values[j] for j in block])) for block in blocks[-2:])
            if upper - lower >= gap * (len(blocks[-2]) + len(blocks[-1])) / 2:
                break
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    out = [0.0] * len(values)
    for block in blocks:
        centre = float(np.mean([values[j] for j in block]))
        for place, j in enumerate(block):
            out[j] = centre + gap * (place - (len(block) - 1) / 2)
    return out


def _validation(run: RunRecord) -> Iterable[tuple[float, float]]:
    return ((e.epoch, 100 * e.validation_accuracy) for e in run.epochs)


def _panels(n: int, medium: Medium) -> tuple[Figure, list[Axes]]:
    """A figure of ``n`` panels on shared axes, in the number of columns that makes it low and leaves few gaps."""
    columns = min(min(medium.columns, key=lambda c: -(-n // c) + 0.4 * (-n % c)), n)
    rows = -(-n // columns)
    figure = Figure(figsize=(medium.width, 0.8 + (1.5 if medium.narrow else 1.65) * rows))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    axes = [ax for row in grid for ax in row]
    for ax in axes[n:]:
        ax.remove()
    for i, ax in enumerate(axes[:n]):
        below = i + columns >= n
        ax.tick_params(axis="x", labelbottom=below)
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        if below:
            ax.set_xlabel("epoch", loc="left")
    return figure, axes[:n]


def _band(ax: Axes, x: Sequence[float], mean: Sequence[float], sd: Sequence[float | None], colour: str) -> None:
    spread = [s for s in sd if s is not None]
    if len(spread) == len(x):  # one seed has no spread
        low, high = np.array(mean) - np.array(spread), np.array(mean) + np.array(spread)
        ax.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)


def error_axis(ax: Axes, accuracies: Sequence[float], least: float = 4.0) -> None:
    """Make the y axis of ``ax`` (and of those that share it) logarithmic in 100 − accuracy.

    Args:
        ax: whose axis.
        accuracies: what must fit, in %.
        least: the ratio of the largest to the smallest error that it spans at least: where all is level, still a scale.
    """
    errors = [100 - v for v in accuracies]
    # Where a run makes no error at all, it is drawn as if it made half of the smallest one seen.
    floor = min((e for e in errors if e > 0), default=0.1) / 2
    ax.set_yscale(
        "function",
        functions=(
            lambda a: -np.log(np.maximum(100 - np.asarray(a), floor)),
            lambda v: 100 - np.exp(-np.asarray(v)),
        ),
    )
    best = max(min(errors), floor)
    worst = max(*errors, least * best)
    low, high = 100 - worst * 1.08, 100 - best * 0.9
    ax.set_ylim(low, high)
    ax.yaxis.set_major_locator(FixedLocator(_error_ticks(low, high)))
    ax.yaxis.set_minor_locator(FixedLocator([]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}%"))


def _error_ticks(low: float, high: float) -> list[float]:
    """Round accuracies between ``low`` and ``high`` (%), about evenly spaced in the logarithm of the error."""
    span = np.log((100 - low) / (100 - high))
    ticks: list[float] = []
    wide = [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 97, 98, 99, 99.5, 99.8, 99.9]
    for choice in (wide, *([k * step for k in range(round(100 / step))] for step in (5, 2, 1, 0.5, 0.2, 0.1))):
        ticks = []
        for tick in choice:
            room = not ticks or np.log((100 - ticks[-1]) / (100 - tick)) > span / 6
            if low <= tick <= high and room:
                ticks.append(round(tick, 1))
        if len(ticks) >= 4:
            break
    return ticks


def _key(figure: Figure, keys: list[Line2D], title: str, columns: int) -> None:
    columns = min(len(keys), columns)
    rows = -(-len(keys) // columns)
    figure.set_figheight(figure.get_figheight() + 0.21 * max(0, rows - 2))  # many layers must not squash the panels
    legend = figure.legend(
        handles=keys, title=title, alignment="left", loc="outside upper left", ncols=columns,
        handlelength=2.4, columnspacing=1.8, labelcolor=SOFT, borderpad=0.2, borderaxespad=0,
    )  # fmt: skip
    legend.get_title().set_color(INK)
