"""From a drawn figure to files for a paper and to markup for the page."""

import html
import io
import re
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path as Outline
from matplotlib.transforms import Affine2D

from plausible.report.style import PALETTE, Mark
from plausible.train.files import make_directory, write_atomically

_VARIABLES = {light: f"var(--{name})" for name, (light, _) in PALETTE.items()}
_STROKE = "fill: none; stroke-linecap: round; stroke-linejoin: round; stroke: var"
_VERDICTS = {
    "solved": '<circle r="7" style="fill: var(--green)"/>'
    f'<path d="M-3.2 .3L-1 2.6L3.4 -2.4" style="{_STROKE}(--paper); stroke-width: 1.9"/>',
    "partly": f'<circle r="6.2" style="{_STROKE}(--gold); stroke-width: 1.6"/>'
    '<path d="M0 -6.2A6.2 6.2 0 0 0 0 6.2Z" style="fill: var(--gold)"/>',
    "violated": f'<path d="M-4 -4L4 4M4 -4L-4 4" style="{_STROKE}(--vermilion); stroke-width: 2"/>',
    "does not apply": f'<path d="M-3 0H3" style="{_STROKE}(--soft); stroke-width: 1.6"/>',
    "could not be measured": f'<path d="M-2.6 -2.6A2.6 2.6 0 1 1 .6 -.1C.1 .4 0 .9 0 1.7M0 5V5.1" '
    f'style="{_STROKE}(--soft); stroke-width: 1.7"/>',
}
_COMMANDS = {int(Outline.MOVETO): "M", int(Outline.LINETO): "L", int(Outline.CURVE3): "Q", int(Outline.CURVE4): "C"}
_UNDATED_PDF = {"CreationDate": None, "Creator": "plausible", "Producer": None}
_UNDATED_SVG = {"Date": None, "Creator": "plausible"}


def save(figure: Figure, stem: Path, title: str) -> None:
    """Write ``stem``.svg (letters as outlines: the same everywhere) and ``stem``.pdf (fonts embedded as type 42).

    The same numbers give the same bytes: no dates, and identifiers from a fixed salt.
    """
    make_directory(stem.parent)
    with mpl.rc_context({"svg.fonttype": "path"}):
        for suffix, metadata in ((".svg", _UNDATED_SVG), (".pdf", _UNDATED_PDF)):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix[1:], metadata={**metadata, "Title": title})
            write_atomically(stem.with_suffix(suffix), buffer.getvalue())
            figure.set_layout_engine("none")  # the places found for the first file hold for the second


def inline(figure: Figure, name: str, description: str) -> str:
    """An ``<svg>`` element for the page: live text, theme colours as CSS variables, identifiers prefixed by ``name``.

    ``description`` is what a screen reader says in place of the picture.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=_UNDATED_SVG)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # Its style sheet would rule over the whole page, which has the same two lines for figures only.
    text = re.sub(r"\s*<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'xlink:href="#', f'href="#{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r"#[0-9a-f]{6}\b", lambda m: _VARIABLES.get(m.group(), m.group()), text)
    text = text.replace("stroke: #000000; stroke-opacity: 0", "stroke: none")
    # The page's own fonts: matplotlib only measured with its.
    text = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", text)
    head, _, body = text.partition(">")
    box = head[head.index("viewBox=") :].split('"')[1]
    label = html.escape(description, quote=True)
    return f'<svg class="{name.rpartition("-")[2]}" viewBox="{box}" role="img" aria-label="{label}">{body}'


def verdict(name: str) -> str:
    """The sign of a verdict of the audit as a small ``<svg>``: told by its form, and by colour besides."""
    return f'<svg class="verdict" viewBox="-8 -8 16 16" aria-hidden="true">{_VERDICTS[name]}</svg>'


def glyph(mark: Mark) -> str:
    """The mark of a contender as a small ``<svg>``, to stand beside its name."""
    style = MarkerStyle(mark.marker)
    # matplotlib's y points up, SVG's down.
    path = style.get_path().transformed(style.get_transform()).transformed(Affine2D().scale(9, -9))
    drawn = "".join(
        "Z" if code == Outline.CLOSEPOLY else _COMMANDS[int(code)] + " ".join(f"{v:.2f}" for v in points)
        for points, code in path.iter_segments()
    )
    fill, stroke = _VARIABLES[mark.face], _VARIABLES[mark.colour]
    return (
        f'<svg class="glyph" viewBox="-7 -7 14 14" aria-hidden="true"><path d="{drawn}" '
        f'style="fill: {fill}; stroke: {stroke}"/></svg>'
    )
