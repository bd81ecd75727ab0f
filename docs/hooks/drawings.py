"""Draws what each criterion does to a network, in the page's colour and its accent."""
# ruff: noqa: E501  (what is drawn together stands on one line)

from collections.abc import Callable

X = (70, 230, 390, 550)
Y = (46, 80, 114)
NAMES = ("input", "hidden 1", "hidden 2", "output")
ACCENT = "var(--md-accent-fg-color, #0b7285)"


def _text(
    x: float,
    y: float,
    words: str,
    *,
    accent: bool = False,
    size: int = 13,
    anchor: str = "middle",
) -> str:
    colour = ACCENT if accent else "currentColor"
    return f'<text x="{x}" y="{y}" fill="{colour}" font-size="{size}" text-anchor="{anchor}">{words}</text>'


def _line(
    x1: float,
    y1: float,
    x2: float,
    y2: float,
    *,
    accent: bool = False,
    dashed: bool = False,
) -> str:
    colour, width = (ACCENT, 2.4) if accent else ("currentColor", 1.2)
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" stroke-width="{width}"{dash} '
        f'marker-end="url(#{"accent" if accent else "plain"})"/>'
    )


def _forward(layer: int, *, accent: bool = False, dashed: bool = False) -> str:
    return _line(X[layer] + 22, 80, X[layer + 1] - 26, 80, accent=accent, dashed=dashed)


def _back(layer: int, *, accent: bool = False, dashed: bool = False) -> str:
    return _line(
        X[layer + 1] - 10, 146, X[layer] + 14, 146, accent=accent, dashed=dashed
    )


def _net(*, back: bool = True) -> str:
    cells = "".join(
        f'<circle cx="{x}" cy="{y}" r="10" fill="none" stroke="currentColor" stroke-width="1.4"/>'
        for x in X
        for y in Y
    )
    names = "".join(_text(x, 22, name) for x, name in zip(X, NAMES, strict=True))
    arrows = "".join(_forward(i) for i in range(3)) + (
        "".join(_back(i) for i in (1, 2)) if back else ""
    )
    teacher = _text(550, 178, "teacher") + _line(550, 166, 550, 134)
    return cells + names + arrows + teacher


def _weight_transport() -> str:
    return (
        _net() + _forward(1, accent=True) + _text(310, 66, "W + N", accent=True) + _text(310, 104, "N h = 0", accent=True)
        + _text(150, 166, "does ΔW change here?", accent=True) + _line(150, 154, 150, 92, accent=True, dashed=True)
    )  # fmt: skip


def _derivative_transport() -> str:
    curve = (
        f'<path d="M 356 186 q 24 0 34 -14 t 34 -14" fill="none" stroke="currentColor" stroke-width="1.6"/>'
        f'<line x1="376" y1="186" x2="404" y2="158" stroke="{ACCENT}" stroke-width="2.4"/>'
    )
    return (
        _net() + curve + _text(346, 186, "same values, another slope", accent=True, anchor="end")
        + _line(390, 150, 390, 128, accent=True)
        + _text(150, 166, "does ΔW change here?", accent=True) + _line(150, 154, 150, 92, accent=True, dashed=True)
    )  # fmt: skip


def _linear_feedback() -> str:
    curve = f'<path d="M 250 190 q 26 -34 70 -34" fill="none" stroke="{ACCENT}" stroke-width="2.4"/>'
    return (
        _net() + _back(2, accent=True) + _back(1, accent=True) + _text(600, 150, "× 2⁴⁰", accent=True)
        + curve + _text(285, 204, "teacher’s gain", size=11) + _text(206, 172, "message", size=11)
    )  # fmt: skip


def _spiking() -> str:
    ticks = "".join(
        f'<line x1="{x}" y1="{y - 8}" x2="{x}" y2="{y + 8}" stroke="{ACCENT}" stroke-width="2.4"/>'
        for y, xs in (
            (64, (288, 300, 322)),
            (146, (446, 470, 482)),
            (146, (290, 312, 330)),
        )
        for x in xs
    )
    return (
        _net()
        + ticks
        + _text(310, 190, "0 or 1, at every step, there and back?", accent=True)
    )


def _timing() -> str:
    clock = (
        f'<circle cx="590" cy="150" r="11" fill="none" stroke="{ACCENT}" stroke-width="2.4"/>'
        f'<path d="M 590 143 v 7 h 6" fill="none" stroke="{ACCENT}" stroke-width="2"/>'
    )
    return (
        _net()
        + clock
        + _text(
            470,
            200,
            "the teacher comes late: is the update still the one in time?",
            accent=True,
        )
    )


def _target() -> str:
    labels = "".join(
        _text(596, y, word, accent=True)
        for y, word in ((150, "cat?"), (166, "dog?"), (182, "car?"))
    )
    return _net() + labels + _text(270, 190, "how many different updates?", accent=True)


def _weight_sharing() -> str:
    return (
        _net(back=False) + _forward(0, accent=True) + _line(X[0] + 22, 46, X[1] - 26, 46, accent=True)
        + _line(X[0] + 22, 114, X[1] - 26, 114, accent=True)
        + _text(150, 166, "one kernel, or one for each place?", accent=True)
    )  # fmt: skip


def _bptt() -> str:
    cuts = "".join(
        f'<line x1="{x}" y1="36" x2="{x}" y2="124" stroke="{ACCENT}" stroke-width="2" stroke-dasharray="4 4"/>'
        for x in (150, 310, 470)
    )
    cells = "".join(
        f'<circle cx="{x}" cy="80" r="16" fill="none" stroke="currentColor" stroke-width="1.4"/>'
        + _text(x, 85, f"t{n}", size=12)
        for n, x in enumerate(X, 1)
    )
    return (
        cells + "".join(_forward(i) for i in range(3)) + cuts
        + _text(310, 160, "chunk by chunk, state carried: do the updates add up to the whole?", accent=True)
    )  # fmt: skip


def _dale() -> str:
    signs = "".join(
        _text(270, y + 5, sign, accent=True, size=17)
        for y, sign in ((46, "+"), (68, "±"), (114, "−"))
    )
    return (
        _net(back=False)
        + signs
        + _text(290, 166, "one sign for all that leaves a neuron, always?", accent=True)
    )


def _locality() -> str:
    frames = "".join(
        f'<rect x="{x - 18}" y="62" width="36" height="36" fill="none" stroke="{ACCENT}" stroke-width="2.4"/>'
        for x in X[1:3]
    )
    return (
        _net() + frames + _forward(1, accent=True) + _text(310, 168, "held: both cells, and what reaches them", accent=True)
        + _text(310, 186, "changed: everything else", size=12)
    )  # fmt: skip


def _credit() -> str:
    return (
        _net() + _line(190, 190, 262, 162, accent=True) + _line(190, 190, 270, 190)
        + _text(276, 166, "update", accent=True, anchor="start") + _text(276, 195, "gradient", anchor="start")
        + _text(220, 212, "angle, over training, beside hidden layers that stay frozen", size=12)
    )  # fmt: skip


DRAWINGS: dict[str, Callable[[], str]] = {
    "weight transport": _weight_transport,
    "derivative transport": _derivative_transport,
    "linear feedback": _linear_feedback,
    "spiking": _spiking,
    "timing": _timing,
    "target": _target,
    "weight sharing": _weight_sharing,
    "BPTT": _bptt,
    "Dale's law": _dale,
    "locality": _locality,
    "credit": _credit,
}


def drawing(name: str, words: str) -> str:
    """The drawing of a criterion as inline SVG; empty if there is none.

    Args:
        name: of the criterion.
        words: what a screen reader says.
    """
    if name not in DRAWINGS:
        return ""
    head = "".join(
        f'<marker id="{key}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto" '
        f'markerUnits="userSpaceOnUse"><path d="M 0 0 L 8 4 L 0 8 z" fill="{colour}"/></marker>'
        for key, colour in (("plain", "currentColor"), ("accent", ACCENT))
    )
    return (
        f'<svg viewBox="0 0 640 220" role="img" aria-label="{words}" style="max-width:40rem;width:100%" '
        f'font-family="inherit"><defs>{head}</defs>{DRAWINGS[name]()}</svg>'
    )
