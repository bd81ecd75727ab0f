"""Turns LaTeX into MathML, which browsers show with no script and nothing to fetch."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

FORMULA = re.compile(
    r'<(span|div) class="arithmatex">(?:\\\(|\\\[)(.*?)(?:\\\)|\\\])</\1>', re.S
)
TAG = re.compile(r"\\tag\{(.*?)\}")


def on_page_content(content: str, **_: Any) -> str:
    """Convert what arithmatex has marked."""
    return FORMULA.sub(
        lambda match: mathml(html.unescape(match[2]), block=match[1] == "div"), content
    )


def mathml(latex: str, *, block: bool) -> str:
    """One formula; a ``\\tag{1}`` becomes its number at the right."""
    tag = TAG.search(latex)
    number = rf"\qquad\qquad\text{{({tag[1]})}}" if tag else ""
    return convert(TAG.sub("", latex) + number, display="block" if block else "inline")
