"""A look inside a spiking net: who fired when, some voltages, and what the output made of it."""

from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from plausible.probes.activity import Activity
from plausible.report import names
from plausible.report.style import INK, LINE, PALETTE, SOFT, Medium, depth

GAP = 4
"""Rows that are left free between two populations."""

_TOLD = PALETTE["vermilion"][0]


def raster(seen: Activity, medium: Medium) -> Figure:
    """Spikes of all populations, stacked in the order in which they send; below them voltages and the readout."""
    rows = sum(len(p.cells) + GAP for p in seen.populations)
    heights = [0.026 * rows, max(0.3 * len(seen.traces), 0.2), 0.8]
    figure = Figure(figsize=(medium.width, sum(heights) + 1.0))
    spikes, voltages, readout = figure.subplots(3, 1, sharex=True, height_ratios=heights)
    _spikes(spikes, seen)
    _voltages(voltages, seen)
    _readout(readout, seen)
    ms = 1e3 * seen.dt * len(seen.readout)
    for ax in (spikes, voltages, readout):
        ax.set_xlim(0, ms)
        ax.grid(False)
        for change in _changes(seen)[1:-1]:
            ax.axvline(change, color=LINE, lw=0.8, zorder=0)
    readout.xaxis.set_major_locator(MaxNLocator(5 if medium.narrow else 10, integer=True))
    readout.set_xlabel("time, ms", loc="left")
    return figure


def _changes(seen: Activity) -> list[float]:
    """Where a stimulus sets in, and where the last one ends, in ms."""
    each = 1e3 * seen.dt * len(seen.readout) / len(seen.shown)
    return [each * k for k in range(len(seen.shown) + 1)]


def _spikes(ax: Axes, seen: Activity) -> None:
    """A row for each cell, a stroke for each spike."""
    hidden = [p for p in seen.populations if "." not in p.name and p.name not in ("sensors", "output")]
    top, places = 0.0, []
    for p in seen.populations:
        colour = SOFT
        if p in hidden:
            colour, _ = depth(hidden.index(p) + 1, len(hidden) + 1)
        elif p.name == "output":
            colour = INK
        elif "." in p.name:
            colour = _TOLD
        # One path with gaps for a population: a page of thousands of separate strokes is slow.
        strokes = [(1e3 * seen.dt * (t + 0.5), top + row) for row, when in enumerate(p.spikes) for t in when]
        x = np.repeat([t for t, _ in strokes], 3)
        y = np.array([[row, row + 1, np.nan] for _, row in strokes]).ravel()
        ax.plot(x, y, color=colour, lw=1.2, solid_capstyle="butt")
        places.append(top + len(p.cells) / 2)
        top += len(p.cells) + GAP
    ax.set_ylim(top - GAP + 1, -1)
    labels = [f"{names.population(p.name)}\n{p.rate:.1f} Hz" for p in seen.populations]
    ax.set_yticks(places, labels, color=INK, linespacing=1.3)
    ax.tick_params(axis="x", bottom=False)
    ax.spines["bottom"].set_visible(False)
    for (left, right), shown, answered in zip(pairwise(_changes(seen)), seen.shown, seen.answered, strict=True):
        right_answer = shown == answered
        ax.annotate(
            f"{shown} → {answered}", ((left + right) / 2, 1), (0, 3), xycoords=ax.get_xaxis_transform(),
            textcoords="offset points", ha="center", va="bottom", color=SOFT if right_answer else INK,
            weight="normal" if right_answer else "bold",
        )  # fmt: skip


def _voltages(ax: Axes, seen: Activity) -> None:
    """A line for each cell, from 0 to the threshold; a stroke where it has fired."""
    t = 1e3 * seen.dt * (np.arange(len(seen.readout)) + 1)
    rows = {(p.name, cell): spikes for p in seen.populations for cell, spikes in zip(p.cells, p.spikes, strict=True)}
    top = 1.6 * len(seen.traces)
    ticks = []
    for k, trace in enumerate(seen.traces):
        base = top - 1.6 * (k + 1)
        ax.plot(t, base + np.array(trace.voltage), color=INK, lw=0.8)
        fired = [1e3 * seen.dt * (step + 0.5) for step in rows.get((trace.population, trace.cell), [])]
        ax.vlines(fired, base + 1.0, base + 1.35, color=INK, lw=1.1)
        ax.axhline(base + 1, color=LINE, lw=0.6, dashes=(2, 2), zorder=0)
        ticks.append((base + 0.5, f"{trace.population}, cell {trace.cell}"))
    ax.set_ylim(min((v for trace in seen.traces for v in trace.voltage), default=0.0) - 0.2, top)
    ax.set_yticks([y for y, _ in ticks], [label for _, label in ticks], color=INK)
    ax.tick_params(axis="x", bottom=False)
    ax.spines["bottom"].set_visible(False)


def _readout(ax: Axes, seen: Activity) -> None:
    """A line for each class; the one that is shown stands out as long as it is shown."""
    y = np.array(seen.readout)
    t = 1e3 * seen.dt * (np.arange(len(y)) + 1)
    for c in range(y.shape[1]):
        ax.plot(t, y[:, c], color=LINE, lw=0.7)
    each = len(y) // len(seen.shown)
    for k, shown in enumerate(seen.shown):
        part = slice(k * each, (k + 1) * each)
        ax.plot(t[part], y[part, shown], color=PALETTE["blue"][0], lw=1.6)
    ax.set_yticks([(y.min() + y.max()) / 2], ["readout"], color=INK)
    ax.axhline(0, color=LINE, lw=0.6, dashes=(2, 2), zorder=0)


def caption(seen: Activity, title: str) -> str:
    """What is seen, of whom."""
    images = names.count(len(seen.shown), "test image")
    return (
        f"{title} at the end of training, as it goes on learning from {images}, one after the other. Above, label → "
        "answer, bold where they differ. Each row is a cell and each stroke a spike; the rate is the mean of all cells "
        "of a population, of which some are drawn. Below, the voltage of some cells up to the threshold, with their "
        "spikes, and the readout of each class, that of the class shown in colour."
    )
