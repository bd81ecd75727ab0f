"""``plausible report``: the report of a comparison, again."""

import json
from pathlib import Path
from typing import Annotated

import typer

from plausible.cli import options
from plausible.cli.options import WHERE


def report(
    directory: Annotated[Path, typer.Argument(help="What `plausible compare` wrote; it may still be at work.")],
    out: Annotated[
        Path | None, typer.Option(help="Write the report there instead of beside the runs.", rich_help_panel=WHERE)
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Write the report of a comparison: the page, its figures and the numbers."""
    import plausible.report

    page = plausible.report.write(directory, out=out)
    typer.echo(json.dumps({"report": str(page)}) if as_json else page)
