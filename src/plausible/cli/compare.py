"""``plausible compare``: the main job."""

import json
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plausible.cli import options
from plausible.cli.guard import complain
from plausible.cli.options import EXPERIMENT, OUTPUT, WHERE

if TYPE_CHECKING:
    from plausible.compare.comparison import Comparison, Contender
    from plausible.compare.execute import Ended
    from plausible.compare.settings import Tuned
    from plausible.train import Run

RULES = "backprop,sham,usf,fa,dfa,kolen-pollack,frozen"


def compare(
    context: typer.Context,
    rules: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B,C",
            help="Learning rules, with commas or repeated; one may bring options of its own, as in "
            "fa:last_layer=backprop or fa:lr=0.01:scale=2.",
            show_default="seven of them",
            rich_help_panel=EXPERIMENT,
        ),
    ] = None,
    data: Annotated[str | None, options.DATA] = None,
    model: Annotated[str | None, options.MODEL] = None,
    seeds: Annotated[
        str, typer.Option(metavar="N|LIST", help="How many seeds, or which (0,1,7).", rich_help_panel=EXPERIMENT)
    ] = "5",
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate of every rule; else the tuned ones.", rich_help_panel=EXPERIMENT),
    ] = None,
    optimizer: options.Optimizer = None,
    last_layer: Annotated[
        str | None,
        typer.Option(
            metavar="rule|backprop",
            help="How the error leaves the output layer, for every rule that offers the choice.",
            rich_help_panel=EXPERIMENT,
        ),
    ] = None,
    constraints: options.Constraints = None,
    untuned: Annotated[
        bool,
        typer.Option(
            "--untuned", help="Leave the tuned settings that come with plausible.", rich_help_panel=EXPERIMENT
        ),
    ] = False,
    tuned: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Take data, model and the rules' settings from what `plausible tune` wrote.",
            show_default="what comes with plausible",
            rich_help_panel=EXPERIMENT,
        ),
    ] = None,
    settings: options.Set = None,
    config: options.Config = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Directory of the comparison.", show_default="plausible-runs/…", rich_help_panel=WHERE),
    ] = None,
    root: options.Root = None,
    download: options.Download = False,
    device: options.Device = None,
    jobs: options.Jobs = None,
    no_cost: Annotated[
        bool, typer.Option("--no-cost", help="Do not measure the cost of a step.", rich_help_panel=WHERE)
    ] = False,
    audit: Annotated[
        bool,
        typer.Option(
            "--audit",
            help="Afterwards, measure which of back-propagation's problems each rule solves here; else the report "
            "takes that from the table that comes with plausible. Takes minutes.",
            rich_help_panel=WHERE,
        ),
    ] = False,
    title: Annotated[str, typer.Option(help="Title of the report.", rich_help_panel=OUTPUT)] = "",
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Compare learning rules on the same data, model and seeds, and write a report.

    Without options: backprop, sham, usf, fa, dfa, kolen-pollack and frozen on scikit-learn's digits, with a
    multi-layer perceptron and five seeds each. What is stopped goes on when the same command is given again; what is
    finished is never done twice.
    """
    del config  # its callback has made it the defaults
    from plausible import report
    from plausible.cli import display
    from plausible.compare import execute
    from plausible.compare.comparison import Comparison
    from plausible.compare.settings import read, stem
    from plausible.compare.settings import tuned as shipped

    started = time.monotonic()
    flags = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "optimizer": optimizer, "device": device}
    flags["constraints"] = options.constraints_of(constraints)
    contenders = _contenders(rules or [RULES], last_layer)
    if tuned is not None:
        found = read(tuned)
    else:
        data, model = data or "digits", model or options.model_for([contender.rule for contender in contenders])
        found = shipped(data, model)
    base = options.base_of(found, data=data, model=model, **flags)
    assigned = options.assignments(settings)
    base, contenders = options.assign(base, contenders, assigned)
    given = {name for name, _ in assigned} | ({"lr"} if lr is not None else set())
    found, contenders, note = _with_tuned(None if untuned else found, base, contenders, given)
    comparison = Comparison(base=base, contenders=contenders, seeds=options.seeds_of(seeds), title=title)
    directory = out or Path("plausible-runs") / f"{stem(base.data, base.model)}-{comparison.id}"
    with display.comparing(comparison, note, quiet=quiet or as_json) as on_event:
        try:
            ended = execute.compare(
                comparison,
                directory,
                jobs=jobs,
                root=root,
                download=download,
                costs=not no_cost,
                audited=audit,
                command=options.command_line(context),
                tuning=found and {"study": found.study, "trials": found.trials, "command": found.command},
                on_event=on_event,
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"Stopped. What was done is kept in {directory}: the same command goes on from there, and "
                f"`plausible report {directory}` reports what there is."
            ) from None
        page = report.write(directory)
    seconds = time.monotonic() - started
    if as_json:
        typer.echo(json.dumps(_document(comparison, directory, page, ended, seconds)))
    elif quiet:
        typer.echo(page)
    else:
        display.outcome(comparison, ended, page, seconds)
    if bad := [end for end in ended if end.status != "finished"]:
        _lament(bad, directory)
        raise typer.Exit(1)


def _contenders(rules: Sequence[str], last_layer: str | None) -> "tuple[Contender, ...]":
    """The entries of ``--rules``, with ``--last-layer`` for those that have it and do not set it themselves."""
    from plausible.compare.comparison import Contender
    from plausible.core import registry

    contenders = [Contender.parse(entry) for entry in options.listed(rules)]
    if last_layer is not None:
        choice = {"rule_options": {"last_layer": last_layer}}
        contenders = [
            contender.under(choice)
            if "last_layer" in {f.name for f in fields(registry.get(contender.rule))}
            else contender
            for contender in contenders
        ]
    return tuple(contenders)


def _with_tuned(
    found: "Tuned | None", base: "Run", contenders: "tuple[Contender, ...]", given: set[str]
) -> "tuple[Tuned | None, tuple[Contender, ...], str]":
    """The settings if they were used, the contenders on top of them but for what was ``given``, and a note."""
    if found is None:
        return None, contenders, "Untuned: every rule has its default settings."
    if not found.applies(base):
        return (
            None,
            contenders,
            "The tuned settings are for other settings of the run: not used.",
        )
    settings = [found.overrides(contender.rule, contender.label) for contender in contenders]
    missing = [contender.rule for contender, setting in zip(contenders, settings, strict=True) if setting is None]
    note = f"Tuned settings: {found.trials} trials for each rule"
    tuned: list[Contender] = []
    for contender, setting in zip(contenders, settings, strict=True):
        kept = {name: value for name, value in (setting or {}).items() if name not in given}
        tuned.append(contender.under(kept))
    return found, tuple(tuned), f"{note}, none for {', '.join(missing)}." if missing else f"{note}."


def _document(
    comparison: "Comparison", directory: Path, page: Path, ended: "Sequence[Ended]", seconds: float
) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "directory": str(directory),
        "report": str(page),
        "seconds": round(seconds, 1),
        "runs": [
            {
                "label": end.label,
                "seed": end.seed,
                "status": end.status,
                "test_accuracy": end.result and end.result.test_accuracy,
                "message": end.message,
            }
            for end in ended
        ],
    }


def _lament(bad: "Sequence[Ended]", directory: Path) -> None:
    """One paragraph for each kind of thing that went wrong."""
    # Every divergence has words of its own; a failure has often one cause for all.
    for kind in dict.fromkeys(map(_kind, bad)):
        alike = [end for end in bad if _kind(end) == kind]
        who = ", ".join(f"{end.label} (seed {end.seed})" for end in alike)
        complain(f"{who} {alike[0].status}: {alike[0].message}")
    failed = sum(end.status == "failed" for end in bad)
    if failed:
        complain(
            f"{failed} of the runs failed; the tracebacks are in {directory / 'runs'}/*/error.txt. The same command "
            "tries them again, and keeps all others."
        )


def _kind(end: "Ended") -> str:
    return end.label if end.status == "diverged" else end.message
