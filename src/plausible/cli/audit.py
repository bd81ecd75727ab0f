"""``plausible audit``: which of back-propagation's problems a rule, or somebody's code, really solves."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plausible.cli import options
from plausible.cli.options import EXPERIMENT, OUTPUT, WHERE

if TYPE_CHECKING:
    from plausible.train import Run


def audit(
    rules: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RULE",
            help="Learning rules; one may bring options of its own, as in fa:last_layer=backprop.",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PACKAGE.MODULE:FACTORY",
            help="Code of your own: a callable that returns (model, step), where step(x, y) fills p.grad or moves the "
            "weights. Repeatable.",
            rich_help_panel=EXPERIMENT,
        ),
    ] = None,
    data: Annotated[str, options.DATA] = "digits",
    model: Annotated[
        str | None,
        typer.Option(
            help="As for `plausible compare`.", show_default="what the rule is made for", rich_help_panel=EXPERIMENT
        ),
    ] = None,
    criteria: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B,C",
            help="What to examine, such as weight-transport, with commas or repeated.",
            show_default="everything",
            rich_help_panel=EXPERIMENT,
        ),
    ] = None,
    examples: Annotated[int, typer.Option(min=2, help="Of the training split.", rich_help_panel=EXPERIMENT)] = 512,
    seed: Annotated[
        int, typer.Option(help="Of the weights, the feedback and the batch.", rich_help_panel=EXPERIMENT)
    ] = 0,
    constraints: options.Constraints = None,
    settings: options.Set = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory for the scorecards, as JSON.", rich_help_panel=WHERE)
    ] = None,
    root: options.Root = None,
    download: options.Download = False,
    device: options.Device = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print one line for each scorecard.", rich_help_panel=OUTPUT)
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Measure, by intervention, which of back-propagation's problems learning rules really solve.

    Nothing is read off the code or its documentation: weights, activations, messages and labels are changed, and it is
    seen what the updates do. Code of your own is examined as well as what `plausible rules` lists.
    """
    from plausible.audit.criterion import get
    from plausible.cli import scorecards
    from plausible.compare import audits
    from plausible.core.errors import ConfigurationError

    if not (rules or target):
        raise ConfigurationError(
            "There is nothing to audit. Name a rule, as in `plausible audit fa`, or code of your own, as in "
            "`plausible audit --target package.module:factory`; `plausible rules` lists the rules."
        )
    if target and constraints:
        raise ConfigurationError(
            "--constraint acts on the weights of rules that are bound here, and the code that --target names binds its "
            "own. Audit it in a command without --constraint, or let its step keep the constraint."
        )
    only = [get(name).name for name in options.listed(criteria)] if criteria else None
    medium = options.constraints_of(constraints)
    flags = {"batch_size": examples, "seed": seed, "device": device, "constraints": medium}
    entries = _entries(rules or [], target or [], data, model, settings, **flags)
    cards = []
    with scorecards.progress(quiet=quiet or as_json) as watcher:
        for label, run, foreign in entries:
            where = {"root": root, "download": download}
            card = audits.examine(run, label, foreign=foreign, only=only, on_event=watcher(label), **where)
            cards.append(card)
            if out is not None:
                card.write(out / (re.sub(r"[^\w.=-]+", "-", label) + ".json"))
    if as_json:
        typer.echo(json.dumps({"scorecards": [card.to_dict() for card in cards]}, ensure_ascii=False, allow_nan=False))
    elif quiet:
        for card in cards:
            typer.echo(scorecards.line(card))
    else:
        scorecards.show(cards, {label: run.rule for label, run, foreign in entries if not foreign})
        if out is not None:
            typer.echo(f"\nScorecards: {out}")


def _entries(
    rules: Sequence[str],
    targets: Sequence[str],
    data: str,
    model: str | None,
    settings: list[str] | None,
    **flags: Any,
) -> "list[tuple[str, Run, bool]]":
    """(label, run, whether it is foreign code) of each thing to audit; of foreign code, only the run's data count."""
    from plausible.compare.comparison import Contender
    from plausible.core import registry

    pairs = options.assignments(settings)
    asked = [Contender.parse(rule) for rule in options.listed(rules)]
    entries = []
    for place, contender in enumerate(asked):
        base = options.shipped_base(data, model or registry.get(contender.rule).model, **flags)
        base, assigned = options.assign(base, asked, pairs)
        run = assigned[place].applied(base)
        medium = [name for each in run.constraints for name in each]  # which a scorecard should name
        entries.append((" + ".join([contender.label, *medium]), run, False))
    for target in targets:
        base, _ = options.assign(options.shipped_base(data, model or "mlp", **flags), asked, pairs)
        entries.append((target, base, True))
    return entries
