"""Puts a file of ``examples/`` where a page asks for it: nothing is written twice."""

import re
from pathlib import Path
from typing import Any

MARK = re.compile(r"<!-- (examples/\w+\.py) -->")
ROOT = Path(__file__).parents[2]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with the files in it, as they are."""
    return MARK.sub(lambda match: block(match[1]), markdown)


def block(path: str) -> str:
    """A file as a code block whose title is its path."""
    code = (ROOT / path).read_text(encoding="utf-8").rstrip()
    return f'```python title="{path}"\n{code}\n```'
