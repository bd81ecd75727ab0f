"""``plausible cite``: whom to cite."""

from typing import Annotated

import typer


def cite(
    rules: Annotated[list[str] | None, typer.Argument(metavar="[RULE]...", help="Which rules; by default all.")] = None,
) -> None:
    """Print the BibTeX entries of the rules' papers, each once."""
    from plausible.core import registry

    entries = dict.fromkeys(registry.citation(rule) for rule in rules or registry.names())
    typer.echo("\n\n".join(entries))
