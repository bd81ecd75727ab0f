"""``plausible train``: one run."""

import os
from pathlib import Path
from typing import Annotated

import typer

from plausible.cli import options
from plausible.cli.options import EXPERIMENT, WHERE


def train(
    rule: Annotated[
        str | None,
        typer.Option(help="Learning rule, with options if you like: fa:scale=2.", rich_help_panel=EXPERIMENT),
    ] = None,
    data: Annotated[str | None, options.DATA] = None,
    model: Annotated[str | None, options.MODEL] = None,
    seed: Annotated[int | None, typer.Option(help="Of all that is random.", rich_help_panel=EXPERIMENT)] = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.", rich_help_panel=EXPERIMENT)] = None,
    optimizer: options.Optimizer = None,
    constraints: options.Constraints = None,
    settings: options.Set = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A run as .toml or .json, such as the run.json of another one; the command line wins.",
            rich_help_panel=WHERE,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A run after a paper, such as xiao-resnet18; the command line wins.",
            rich_help_panel=EXPERIMENT,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory of the run.", show_default="plausible-runs/…", rich_help_panel=WHERE)
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on from what the directory holds of this run.", rich_help_panel=WHERE)
    ] = True,
    root: options.Root = None,
    download: options.Download = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only look at the data and take a few steps: will it fit, and how long will it take? Writes nothing.",
            rich_help_panel=WHERE,
        ),
    ] = False,
    decode: Annotated[
        int,
        typer.Option(
            min=0, help="Streamed images that --dry-run decodes to see that it can; 0: all.", rich_help_panel=WHERE
        ),
    ] = 256,
    device: options.Device = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, help="Processes that decode streamed images; by default one per processor.", rich_help_panel=WHERE
        ),
    ] = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Train one run. What was interrupted goes on when the same command is given again."""
    import plausible.train
    from plausible.cli import display
    from plausible.compare.comparison import Contender
    from plausible.compare.rehearsal import rehearse
    from plausible.compare.settings import stem
    from plausible.core.errors import ConfigurationError
    from plausible.report.names import count, percent
    from plausible.train import Run

    if recipe and config:
        raise ConfigurationError(f"--recipe {recipe} and --config {config}: a run begins with one of them.")
    config = options.recipe(recipe) if recipe else config
    made_for = options.model_for([Contender.parse(rule).rule]) if rule and not config else None
    given = {
        "data": data,
        "model": model or made_for,
        "seed": seed,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "optimizer": optimizer,
        "device": device,
        "constraints": options.constraints_of(constraints),
    }
    run = (Run.read(config) if config else Run()).replace(**{k: v for k, v in given.items() if v is not None})
    own = {"rule_options": run.rule_options}
    entry = Contender.parse(rule) if rule else Contender(label=run.rule, rule=run.rule, overrides=own)
    run, (entry,) = options.assign(run, [entry], options.assignments(settings))
    run = entry.applied(run.replace(rule=entry.rule, rule_options={}))
    if dry_run:
        found = rehearse(run, root=root, download=download, workers=workers, decode=decode)
        display.rehearsal(run, found, as_json=as_json)
        return
    directory = out or Path("plausible-runs") / f"{stem(run.data, run.model)}-{run.rule}-{run.id}"
    leads = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun has started, one speaks
    with display.training(run, quiet=quiet or as_json or not leads) as on_event:
        result = plausible.train.train(
            run, directory, root=root, download=download, resume=resume, on_event=on_event, workers=workers
        )
    if not leads:
        return
    if as_json:
        typer.echo(result.to_json(), nl=False)
    elif quiet:
        typer.echo(directory)
    else:
        top5 = "" if result.test_top5 is None else f", top-5 {percent(result.test_top5)}"
        left_out = f" ({count(len(result.skipped), 'file')} left out, see result.json)" if result.skipped else ""
        accuracy = percent(result.test_accuracy or 0.0)
        typer.echo(f"Test accuracy {accuracy}{top5}. Everything is in {directory}{left_out}")
