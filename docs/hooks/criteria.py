"""Gives every criterion of the audit a page: problem, drawing, thresholds."""

import importlib
import re
import sys
from inspect import cleandoc
from pathlib import Path
from typing import Any

from plausible.audit import criteria
from plausible.audit.criterion import Criterion, thresholds
from plausible.core.errors import ConfigurationError

sys.path.insert(0, str(Path(__file__).parent))
drawings = importlib.import_module("drawings")

MARK = "<!-- the table of criteria -->"


def on_files(files: Any, *, config: Any) -> None:
    """Add a page for each criterion."""
    from mkdocs.structure.files import File

    for each in criteria():
        files.append(
            File.generated(config, f"criteria/{slug(each.name)}.md", content=page(each))
        )


def on_nav(nav: Any, *, config: Any, files: Any) -> None:
    """List the pages in the navigation; a new criterion needs no line in mkdocs.yml."""
    from mkdocs.structure.nav import Section
    from mkdocs.structure.pages import Page

    pages = [
        Page(
            each.name,
            files.get_file_from_path(f"criteria/{slug(each.name)}.md"),
            config,
        )
        for each in criteria()
    ]
    nav.items.append(Section("Every criterion", pages))
    nav.pages.extend(pages)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the table where a page asks for it."""
    return markdown.replace(MARK, table()) if MARK in markdown else markdown


def slug(name: str) -> str:
    """The name in an address: ``Dale's law`` → ``dales-law``."""
    return re.sub(r"[^a-z]+", "-", name.lower().replace("'", ""))


def page(criterion: Criterion) -> str:
    """What the criterion's own file says, with the drawing and the thresholds."""
    doc = cleandoc(sys.modules[criterion.experiment.__module__].__doc__ or "")
    problem, _, done = doc.partition("\n\n")
    problem = " ".join(problem.split())
    drawing = drawings.drawing(criterion.name, problem)
    try:
        limits = thresholds(criterion.name)
        rows = "\n".join(f"| {name} | {value:g} |" for name, value in limits.items())
        head = "| threshold | value |\n|---|--:|"
        separated = f"## What separates the verdicts\n\n{head}\n{rows}\n"
    except ConfigurationError:
        separated = ""
    title = criterion.name[0].upper() + criterion.name[1:]
    command = f'plausible audit fa --criteria "{criterion.name}"'
    return (
        f"# {title}\n\n{problem}\n\n{drawing}\n\n## What is done\n\n{done}\n\n"
        f"{separated}\n## Try it\n\n```sh\n{command}\n```\n"
    )


def table() -> str:
    """All criteria, a row each."""
    rows = "\n".join(
        f"| [{each.name}](criteria/{slug(each.name)}.md) | {each.summary} "
        f"| {'one of the six' if each.core else ''} |"
        for each in criteria()
    )
    return f"| problem | what it is | |\n|---|---|---|\n{rows}"
