"""``plausible coverage``: which way the error really comes back through each weight of a model."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from plausible.cli import options
from plausible.cli.options import EXPERIMENT, OUTPUT

if TYPE_CHECKING:
    from plausible.audit.coverage import Carrier


def coverage(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="As for `plausible compare`: a name, or a callable, such as torchvision.models:vit_b_16.",
            show_default=False,
        ),
    ],
    rule: Annotated[
        str, typer.Option(help="Learning rule, with options if you like: fa:scale=2.", rich_help_panel=EXPERIMENT)
    ] = "fa",
    shape: Annotated[
        str, typer.Option(metavar="CxHxW", help="Of one input; it is filled with noise.", rich_help_panel=EXPERIMENT)
    ] = "3x224x224",
    classes: Annotated[int, typer.Option(min=2, help="Outputs of the model.", rich_help_panel=EXPERIMENT)] = 10,
    examples: Annotated[int, typer.Option(min=1, help="How many inputs.", rich_help_panel=EXPERIMENT)] = 2,
    seed: Annotated[int, typer.Option(help="Of the weights and the inputs.", rich_help_panel=EXPERIMENT)] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="An option of the model. Repeatable.", rich_help_panel=EXPERIMENT
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the counts only.", rich_help_panel=OUTPUT)
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Measure which way the error comes back through each weight of a model: the rule's feedback, or the weight itself.

    Weights and feedback are changed one after the other, while the activity of every unit is held; whichever other
    updates follow have read what was changed. If a rule that brings feedback of its own lets an error through a forward
    weight somewhere, the command ends with status 1.
    """
    import torch
    from torch.nn import functional as F

    from plausible.audit import coverage as measured
    from plausible.compare.comparison import Contender
    from plausible.core import bind, registry
    from plausible.core.errors import ConfigurationError
    from plausible.models import build

    asked = Contender.parse(rule)
    size = _size(shape)
    torch.manual_seed(seed)
    net = build(model, shape=size, classes=classes, **dict(options.assignments(settings))).double()
    x, y = torch.randn(examples, *size, dtype=torch.float64), torch.arange(examples) % classes
    try:
        net(x)
    except Exception as error:  # somebody's code may fail in any way
        raise ConfigurationError(
            f"Model {model!r} cannot take an input of shape {shape}: {type(error).__name__}: {error} Give the size it "
            "is made for with --shape, or let it be made for this one with --set."
        ) from error
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.1)
    learner = bind(
        net,
        registry.make(asked.rule, **asked.overrides.get("rule_options", {})),
        F.cross_entropy,
        example=x,
        optimizer=optimizer,
    )
    carriers = measured.coverage(learner, x, learner.rule.teacher(y))
    counts = measured.count(carriers)
    missed = measured.through_forward_weights(carriers) if learner.rule.claims.forward_weights != "full" else []
    if as_json:
        typer.echo(json.dumps({"model": model, "rule": asked.label, "counts": counts,
                               "weights": [each.to_dict() for each in carriers]}))  # fmt: skip
    else:
        if not quiet:
            _table(carriers)
        typer.echo(
            f"{asked.label} on {model}, {len(carriers)} weights: error comes back through {counts['feedback']} by "
            f"feedback of the rule's own, {counts['signs']} by signs, {counts['weights']} by the weights themselves, "
            f"{counts['gain']} by gains; through "
            f"{counts['nothing']} none comes back that anything learns from."
        )
    if missed:
        typer.echo(f"Not covered: {', '.join(missed)}", err=True)
        raise typer.Exit(1)


def _size(shape: str) -> tuple[int, ...]:
    from plausible.core.errors import ConfigurationError

    try:
        size = tuple(int(part) for part in shape.lower().split("x"))
    except ValueError:
        size = ()
    if not size or min(size) < 1:
        raise ConfigurationError(f"--shape {shape!r}: write numbers with x between, such as 3x224x224, or 64.")
    return size


def _table(carriers: "list[Carrier]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("weight", "shape", "error comes back by"):
        table.add_column(title)
    for each in carriers:
        table.add_row(each.name, "x".join(map(str, each.shape)), each.by)
    Console().print(table)
