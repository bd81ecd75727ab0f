"""The command ``plausible``. Each command is a module; torch is imported when one needs it, not for ``--help``."""

from typing import Annotated

import typer

import plausible
from plausible.cli import audit, cite, compare, coverage, demo, report, rules, train, tune
from plausible.cli.guard import guarded

app = typer.Typer(
    name="plausible",
    help="Train networks under the brain's constraints instead of backprop's, and see what that costs.",
    epilog="Start with `plausible compare`: it needs no data, no network and no GPU, and ends with a report.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"plausible {plausible.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version  # its callback has answered


for _name, _command in {
    "compare": compare.compare,
    "audit": audit.audit,
    "coverage": coverage.coverage,
    "train": train.train,
    "rules": rules.rules,
    "report": report.report,
    "cite": cite.cite,
    "tune": tune.tune,
    "demo": demo.demo,
}.items():
    app.command(_name)(guarded(_command))


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="plausible")
