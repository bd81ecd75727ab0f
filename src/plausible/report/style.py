"""How figures look: one palette for print, light and dark; type; and a mark for each contender.

A figure is drawn in the light palette's literal colours. That is what the files for a paper keep; in the page every
such colour is replaced by the CSS variable of its name (:mod:`plausible.report.svg`), and the variable has a light and
a dark value. Colour is never the only cue: each contender also has a marker and a dash, and is labelled where it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager

from plausible.report.results import Contender

#: CSS variable → (light, dark). The light values are all different: they are what svg.py looks for.
PALETTE = {
    "ink": ("#1b1f24", "#e8eaed"),
    "soft": ("#59616b", "#a3abb5"),
    "line": ("#d5d9de", "#3a4048"),
    "band": ("#eef1f4", "#232930"),
    "paper": ("#fefefd", "#15181c"),
    # After Okabe and Ito (2008), darkened until each has 3:1 on white, or lightened until it has on black.
    "blue": ("#0072b2", "#58aeea"),
    "vermilion": ("#d55e00", "#ff8d4d"),
    "green": ("#008f68", "#3cc99d"),
    "purple": ("#b24f89", "#e698c5"),
    "gold": ("#a87900", "#e9bd3f"),
    "indigo": ("#4a3d9c", "#a99ff2"),
    "sky": ("#3a93c8", "#9bd9fb"),
    "brown": ("#7c5a3d", "#cda883"),
    "olive": ("#6b7a1c", "#b7c766"),
    "wine": ("#8c2f4b", "#ec9bb0"),
    # Layers by depth, from the input to the output.
    "depth-0": ("#7fb3dc", "#33658c"),
    "depth-1": ("#5f9fce", "#4c85b3"),
    "depth-2": ("#3b82b8", "#6ea5d1"),
    "depth-3": ("#1f659c", "#97c3e6"),
    "depth-4": ("#0e4a7d", "#bfdcf3"),
    "depth-5": ("#06305c", "#e3f0fb"),
}
INK, SOFT, LINE, BAND, PAPER = (PALETTE[name][0] for name in ("ink", "soft", "line", "band", "paper"))
_COLOURS = [
    PALETTE[name][0]
    for name in ("blue", "vermilion", "green", "purple", "gold", "indigo", "sky", "brown", "olive", "wine")
]
_MARKERS = "osD^vPXhp<>"
_DASHES = ((), (5, 1.5), (1.5, 1.2), (6, 1.5, 1.5, 1.5), (9, 2), (3, 1, 1, 1, 1, 1))


@dataclass(frozen=True)
class Mark:
    """What a contender looks like in every figure; controls and back-propagation are hollow or neutral."""

    colour: str
    marker: str
    face: str
    dashes: tuple[float, ...]


@dataclass(frozen=True)
class Medium:
    """Where a figure will be seen: its width in inches, the numbers of panels that fit side by side, its type."""

    name: str
    width: float
    columns: tuple[int, ...]
    size: float
    fonts: tuple[str, ...]
    narrow: bool  # too narrow for names and numbers beside the marks


def _installed(*families: str) -> tuple[str, ...]:
    """Those of ``families`` that matplotlib has as TrueType (what a PDF can embed whole); DejaVu comes with it."""
    have = {font.name for font in font_manager.fontManager.ttflist if font.fname.endswith(".ttf")}
    return (*(family for family in families if family in have), "DejaVu Sans")


#: A journal's double column. The page measures with DejaVu, the widest, so that no reader's font overflows.
PRINT = Medium("print", 7.0, (4, 3), 8.0, _installed("Helvetica", "Arial", "Liberation Sans"), False)
WIDE = Medium("wide", 8.6, (4, 3), 9.0, ("DejaVu Sans",), False)
NARROW = Medium("narrow", 3.7, (2,), 8.5, ("DejaVu Sans",), True)


def marks(contenders: tuple[Contender, ...]) -> dict[str, Mark]:
    """Label → mark: ink for back-propagation, hollow grey for controls, the palette in order for the others."""
    out: dict[str, Mark] = {}
    rivals = 0
    for contender in contenders:
        if contender.rule == "backprop":
            out[contender.label] = Mark(INK, "o", INK, ())
        elif contender.rule == "sham":
            out[contender.label] = Mark(SOFT, "s", PAPER, (2, 2))
        elif contender.rule == "frozen":
            out[contender.label] = Mark(SOFT, "X", PAPER, (1, 2))
        else:
            colour = _COLOURS[rivals % len(_COLOURS)]
            dashes = _DASHES[rivals // len(_COLOURS) % len(_DASHES)]
            out[contender.label] = Mark(colour, _MARKERS[rivals % len(_MARKERS)], colour, dashes)
            rivals += 1
    return out


def depth(index: int, layers: int) -> tuple[str, tuple[float, ...]]:
    """Colour and dash of layer ``index`` of ``layers``: darker (on white) towards the output."""
    steps = [light for name, (light, _) in PALETTE.items() if name.startswith("depth-")]
    position = 1.0 if layers == 1 else index / (layers - 1)
    return steps[round(position * (len(steps) - 1))], _DASHES[index % 4]


@contextmanager
def drawing(medium: Medium) -> Iterator[None]:
    """matplotlib's settings while a figure for ``medium`` is drawn and saved."""
    settings: dict[Any, Any] = {
        "figure.constrained_layout.use": True,
        "figure.constrained_layout.h_pad": 0.06,
        "figure.constrained_layout.w_pad": 0.02,
        "figure.facecolor": "none",
        "savefig.facecolor": "none",
        "savefig.transparent": False,
        "axes.facecolor": "none",
        "font.family": list(medium.fonts),
        "font.size": medium.size,
        "axes.titlesize": medium.size,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 7,
        "axes.labelsize": medium.size,
        "axes.labelcolor": SOFT,
        "axes.titlecolor": INK,
        "axes.edgecolor": LINE,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": LINE,
        "grid.linewidth": 0.6,
        "xtick.color": LINE,
        "ytick.color": LINE,
        "xtick.labelcolor": SOFT,
        "ytick.labelcolor": SOFT,
        "xtick.labelsize": medium.size - 0.5,
        "ytick.labelsize": medium.size - 0.5,
        "xtick.major.size": 3,
        "ytick.major.size": 0,
        "xtick.major.width": 0.8,
        "text.color": INK,
        "lines.color": INK,
        "lines.solid_capstyle": "round",
        "lines.dash_capstyle": "butt",
        "patch.edgecolor": "none",
        "legend.frameon": False,
        "axes.unicode_minus": True,
        "pdf.fonttype": 42,
        "svg.fonttype": "none",
        "svg.hashsalt": "plausible",
    }
    with mpl.rc_context(settings):
        yield
