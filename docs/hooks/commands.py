"""Writes the reference of the command line from the program itself."""

from typing import Any

from typer.testing import CliRunner

from plausible.cli import app

MARK = "<!-- every command -->"
WIDTH = "88"  # columns; what a page shows without scrolling


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the reference where a page asks for it."""
    return markdown.replace(MARK, reference()) if MARK in markdown else markdown


def reference() -> str:
    """What ``--help`` says of every command."""
    parts = []
    for command in app.registered_commands:
        shown = CliRunner().invoke(
            app, [command.name or "", "--help"], env={"COLUMNS": WIDTH, "NO_COLOR": "1"}
        )
        parts.append(
            f"### plausible {command.name}\n\n```text\n{shown.stdout.strip()}\n```"
        )
    return "\n\n".join(parts)
