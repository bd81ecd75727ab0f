"""The fenced code blocks of a Markdown file."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w+)(?P<info>[^\n]*)\n(?P<code>.*?)^(?P=indent)```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A block: its language, its title ("" if it has none), its code and the line where that starts."""

    language: str
    title: str
    code: str
    line: int


def blocks(path: Path, language: str) -> list[Block]:
    """The blocks in that language, in order."""
    text = path.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        title = re.search(r'title="([^"]*)"', match["info"])
        line = text.count("\n", 0, match.start("code"))
        found.append(Block(match["language"], title[1] if title else "", textwrap.dedent(match["code"]), line))
    return [block for block in found if block.language == language]


def pages() -> list[Path]:
    """Every page a reader may copy code from."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
