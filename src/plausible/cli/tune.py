"""``plausible tune``: settings for a pair of data and model."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from plausible.cli import options
from plausible.cli.options import EXPERIMENT, WHERE

SEARCH = "How the search goes"


def tune(
    context: typer.Context,
    rules: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B,C",
            help="Learning rules, with commas or repeated; what one brings of its own, as in fa:last_layer=backprop, "
            "is not searched.",
            show_default="all",
            rich_help_panel=EXPERIMENT,
        ),
    ] = None,
    data: Annotated[str, options.DATA] = "digits",
    model: Annotated[str | None, options.MODEL] = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    lr: Annotated[
        float | None,
        typer.Option(
            help="Learning rate of the first trial; so is weight_decay, with --set.",
            rich_help_panel=EXPERIMENT,
        ),
    ] = None,
    optimizer: options.Optimizer = None,
    settings: options.Set = None,
    trials: Annotated[int, typer.Option(min=1, help="Budget of each rule.", rich_help_panel=SEARCH)] = 20,
    trial_epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of a trial.", show_default="half of --epochs", rich_help_panel=SEARCH),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the search and of the trials.", rich_help_panel=SEARCH)] = 0,
    prune: Annotated[
        bool, typer.Option("--prune", help="Stop trials that fall below the median.", rich_help_panel=SEARCH)
    ] = False,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Where the study lies, to be shared by processes and machines: an Optuna storage URL, such as "
            "sqlite:///study.db, or a journal file.",
            show_default="a journal file in --out",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    config: options.Config = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Directory of the settings found.", show_default="plausible-runs/…", rich_help_panel=WHERE),
    ] = None,
    root: options.Root = None,
    download: options.Download = False,
    device: options.Device = None,
    jobs: options.Jobs = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Search the best settings of each rule, with the same budget for all, on the validation split.

    The same command, here or on another machine that sees the same storage, takes part in the search or goes on with
    it. What was found is written as <data>-<model>.toml, and every trial as .csv beside it.
    """
    del config  # its callback has made it the defaults
    from plausible.cli import display
    from plausible.compare import tune as tuner
    from plausible.compare.comparison import Contender
    from plausible.compare.settings import Tuned, stem
    from plausible.core import registry

    flags = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "optimizer": optimizer, "device": device}
    entries = options.listed(rules or [])
    model = model or options.model_for([Contender.parse(entry).rule for entry in entries])
    base = options.shipped_base(data, model, **flags)
    base, _ = options.assign(base, [], options.assignments(settings))
    directory = out or Path("plausible-runs") / f"tune-{stem(data, model)}"
    tuning = tuner.Tuning(
        base=base,
        rules=tuple(entries or (n for n in registry.names() if not registry.get(n).tuned_as)),
        trials=trials,
        epochs=trial_epochs or max(1, base.epochs // 2),
        storage=storage or str(directory / f"{stem(data, model)}.journal"),
        seed=seed,
        prune=prune,
    )
    with display.tuning(tuning, quiet=quiet or as_json) as on_event:
        try:
            path = tuner.tune(
                tuning,
                directory,
                jobs=jobs,
                root=root,
                download=download,
                command=options.command_line(context),
                on_event=on_event,
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"Stopped. The trials so far are kept in {tuning.storage}: the same command goes on from there."
            ) from None
    found = Tuned.from_toml(path.read_text(encoding="utf-8"))
    if as_json:
        typer.echo(json.dumps({"settings": str(path), "rules": asdict(found)["rules"]}))
    elif quiet:
        typer.echo(path)
    else:
        display.settings(found, path)
