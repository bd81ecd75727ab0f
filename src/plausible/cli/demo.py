"""``plausible demo``: something to look at."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from plausible.train.online import Shown

SPIKES = "spikes"


def demo(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which one: spikes.")],
    rule: Annotated[str, typer.Option(help="Learning rule of spiking nets: nef-dfa, nef-6, …")] = "nef-dfa",
    seconds: Annotated[float, typer.Option(min=0.1, help="Of simulated time; Ctrl-C ends it before.")] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is random.")] = 0,
    live: Annotated[
        bool | None,
        typer.Option(
            "--live/--no-live", help="Draw in the terminal, or print a line a second.", show_default="by the terminal"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.gif", help="Write it as an animation, in real time.")
    ] = None,
) -> None:
    """Watch a net of spiking neurons learn to tell digits, online: it is never reset, and learns as it answers.

    Sixteen streams of images share its weights, and one of them is drawn: the image, the spikes of every population,
    the error's among them, the output, and how many answers of late were right. Nothing is downloaded.
    """
    from plausible.core.errors import ConfigurationError, unknown

    if name != SPIKES:
        raise unknown("demo", name, [SPIKES])
    if out is not None and out.suffix != ".gif":
        raise ConfigurationError(f"--out {out}: an animation is written as GIF. Give a name that ends in .gif.")
    if out is not None and not out.parent.is_dir():  # now, and not after the last image
        raise ConfigurationError(f"--out {out}: there is no directory {out.parent}. Make it first.")
    from plausible.cli import spikes
    from plausible.report.names import percent
    from plausible.train.files import write_atomically
    from plausible.train.online import learning, settings

    title = f"{rule} on digits, seed {seed}"
    shown = _until(seconds, learning(settings(rule, seed)))
    kept: list[Shown] = []
    watch = spikes.live if (sys.stdout.isatty() if live is None else live) else spikes.lines
    last = None
    try:
        for last in watch(shown, title):
            kept += [last] if out is not None else []
    except KeyboardInterrupt:
        typer.echo("Stopped.")
    if last is None:
        return
    typer.echo(f"{title}: {last.seconds:.1f} s simulated, accuracy of late {percent(last.accuracy)}")
    if out is not None:
        from plausible.report.animation import WINDOW, gif

        animation = gif(kept, title)
        if animation is None:
            raise ConfigurationError(f"An animation needs {WINDOW} images, and {len(kept)} were shown: more --seconds.")
        write_atomically(out, animation)
        typer.echo(f"Animation: {out}")


def _until(seconds: float, shown: "Iterator[Shown]") -> "Iterator[Shown]":
    """Those that come before the simulated time is over, and the one that ends it."""
    for each in shown:
        yield each
        if each.seconds >= seconds - 1e-9:
            return
