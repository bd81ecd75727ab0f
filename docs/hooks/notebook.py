"""Shows each notebook, with the outputs that are stored in it, as a page."""

import base64
import json
from pathlib import Path
from typing import Any


def on_files(files: Any, *, config: Any) -> None:
    """Add the pages and their figures."""
    from mkdocs.structure.files import File

    for path in sorted(Path(config.docs_dir).glob("*.ipynb")):
        markdown, figures = page(path)
        files.append(File.generated(config, f"{path.stem}.md", content=markdown))
        for name, content in figures.items():
            files.append(File.generated(config, name, content=content))


def page(notebook: Path) -> tuple[str, dict[str, bytes]]:
    """The notebook as Markdown, and its figures by path."""
    parts: list[str] = []
    figures: dict[str, bytes] = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        # One notebook links to another as a file, and its page to the other's page.
        source = "".join(cell["source"]).replace(".ipynb)", ".md)")
        parts.append(
            source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```"
        )
        for output in cell.get("outputs", []):
            if png := output.get("data", {}).get("image/png"):
                path = f"img/{notebook.stem}-{len(figures) + 1}.png"
                figures[path] = base64.b64decode(png)
                shown = f"![figure {len(figures)}]({path})"
            else:
                shown = f"```text\n{''.join(output['text']).rstrip()}\n```"
            parts.append(f'<div class="output" markdown>\n\n{shown}\n\n</div>')
    return "\n\n".join(parts), figures
