"""Shows the classroom notebook, with the outputs that are stored in it, as a page."""

import base64
import json
from pathlib import Path
from typing import Any

NAME = "classroom"


def on_files(files: Any, *, config: Any) -> None:
    """Add the page and its figures."""
    from mkdocs.structure.files import File

    markdown, figures = page(
        json.loads(
            (Path(config.docs_dir) / f"{NAME}.ipynb").read_text(encoding="utf-8")
        )
    )
    files.append(File.generated(config, f"{NAME}.md", content=markdown))
    for path, content in figures.items():
        files.append(File.generated(config, path, content=content))


def page(notebook: dict[str, Any]) -> tuple[str, dict[str, bytes]]:
    """The notebook as Markdown, and its figures by path."""
    parts: list[str] = []
    figures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(
            source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```"
        )
        for output in cell.get("outputs", []):
            if png := output.get("data", {}).get("image/png"):
                path = f"img/{NAME}-{len(figures) + 1}.png"
                figures[path] = base64.b64decode(png)
                shown = f"![figure {len(figures)}]({path})"
            else:
                shown = f"```text\n{''.join(output['text']).rstrip()}\n```"
            parts.append(f'<div class="output" markdown>\n\n{shown}\n\n</div>')
    return "\n\n".join(parts), figures
