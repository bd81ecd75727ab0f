"""``plausible rules``: what there is to compare."""

import json
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plausible.cli import options

if TYPE_CHECKING:
    from plausible.core import Claims


def rules(
    name: Annotated[str | None, typer.Argument(help="Everything about this rule.")] = None,
    as_json: options.Json = False,
) -> None:
    """List the learning rules: what each does, what it claims to need, and its paper."""
    from plausible.core import registry

    if as_json:
        found: Any = _described(name) if name else [_described(each) for each in registry.names()]
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    elif name:
        _detail(name)
    else:
        _table()


def _described(name: str) -> dict[str, Any]:
    from plausible.compare.comparison import reference
    from plausible.core import registry

    rule = registry.get(name)
    tunables = rule.tunables()
    return {
        "name": name,
        "summary": registry.summary(name),
        "claims": asdict(rule.claims),
        "reference": reference(registry.citation(name)),
        "options": {
            field.name: {"default": field.default}
            | ({"tunable": asdict(tunables[field.name])} if field.name in tunables else {})
            for field in fields(rule)
        },
    }


def _claimed(claims: "Claims") -> str:
    """The claims in a few words."""
    return ", ".join(
        [
            f"forward weights: {claims.forward_weights}",
            "derivatives travel" if claims.derivatives_travel else "no derivatives travel",
            "one phase" if claims.phases == 1 else f"{claims.phases} phases",
        ]
    )


def _table() -> None:
    from rich.console import Console
    from rich.table import Table

    from plausible.core import registry

    table = Table(box=None, pad_edge=False, header_style="bold", row_styles=["", "dim"])
    table.add_column("rule", no_wrap=True)
    table.add_column("what it does")
    table.add_column("what it claims to need")
    table.add_column("paper")
    for name in registry.names():
        about = _described(name)
        table.add_row(name, about["summary"], _claimed(registry.get(name).claims), about["reference"])
    Console().print(table)
    typer.echo("\n`plausible rules NAME` tells more of one, `plausible cite NAME` whom to cite.")


def _detail(name: str) -> None:
    from plausible.core import registry

    rule = registry.get(name)
    typer.echo(f"{name}\n\n{registry.header(name)}\n\nClaims:")
    for claim, value in asdict(rule.claims).items():
        typer.echo(f"    {claim.replace('_', ' ')}: {value}")
    typer.echo("\nOptions:")
    tunables = rule.tunables()
    for field in fields(rule):
        if searched := tunables.get(field.name):
            scale = ", logarithmically" if searched.log else ""
            tuned = f" (tuned from {searched.low:g} to {searched.high:g}{scale})"
        else:
            tuned = ""
        typer.echo(f"    {field.name} = {field.default!r}{tuned}")
