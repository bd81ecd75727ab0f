"""A spiking net at work, in the terminal: the image, who fires, the output and the accuracy so far."""

from collections import deque
from collections.abc import Iterator, Sequence

import torch
import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text
from torch import Tensor

from plausible.probes.activity import firing
from plausible.report.names import percent, population
from plausible.train.online import Shown

ROWS = 8
"""Rows of dots for a population: two lines of braille."""

BAR = 12
"""Width of the bar of a class, in columns."""

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of the eight dots of a braille sign, by row and column (Unicode, from U+2800)."""


class Screen:
    """What is drawn of the images so far.

    Args:
        title: over it all.
        width: of the terminal, in columns.
    """

    def __init__(self, title: str, width: int) -> None:
        self.title = title
        self.columns = max(20, width - 26)
        self.last: Shown | None = None
        self.rates: dict[str, float] = {}
        self._fired: dict[str, deque[Tensor]] = {}

    def add(self, shown: Shown) -> None:
        """Take in what came of the next image."""
        self.last = shown
        for name, fired in firing(shown.moments).items():
            self.rates[name] = float(fired.double().mean()) / shown.dt
            self._fired.setdefault(name, deque(maxlen=2 * self.columns)).extend(_rows(name, fired))

    def __rich__(self) -> RenderableType:
        if self.last is None:
            return Text(f"{self.title}: loading")
        head = Table.grid(padding=(0, 3))
        head.add_row(picture(self.last.image), _bars(self.last), _facts(self.last))
        body = Table.grid(padding=(0, 1))
        for name, steps in self._fired.items():
            colour = "red" if "." in name else "cyan" if name == "output" else "default"
            label = Text(f"{population(name)}\n{self.rates[name]:.1f} Hz", justify="right")
            body.add_row(label, Text(braille(torch.stack(list(steps))), style=colour))
        return Group(Text(self.title, style="bold"), Text(), head, Text(), body)


def _rows(name: str, fired: Tensor) -> Tensor:
    """(steps, ROWS): some of the cells; of those that stand for an error, of which few fire, whether any of a group."""
    if "." in name:
        return torch.stack([group.any(1) for group in fired.tensor_split(ROWS, 1)], 1)
    return fired[:, torch.linspace(0, fired.shape[1] - 1, ROWS).round().long()]


def braille(fired: Tensor) -> str:
    """(steps, cells), bool, as lines of braille: time from left to right, two steps and four cells in a sign."""
    steps, cells = fired.shape
    padded = torch.zeros(-(-steps // 2) * 2, -(-cells // 4) * 4, dtype=torch.long)
    padded[:steps, :cells] = fired.long()
    bits = padded.reshape(-1, 2, padded.shape[1] // 4, 4) * torch.tensor(_DOTS).t().reshape(1, 2, 1, 4)
    return "\n".join("".join(chr(0x2800 + sign) for sign in line) for line in bits.sum((1, 3)).t().tolist())


def picture(image: Tensor) -> Text:
    """(H, W) from 0 to 1, in half blocks: two rows of the image in a line, two columns for a pixel."""
    text = Text()
    rows = [[round(255 * float(v)) for v in row] for row in image]
    for upper, lower in zip(rows[::2], [*rows[1::2], [0] * len(rows[0])], strict=False):
        for a, b in zip(upper, lower, strict=True):
            text.append("▀▀", style=f"rgb({a},{a},{a}) on rgb({b},{b},{b})")
        text.append("\n")
    return text


def _bars(shown: Shown) -> Table:
    """The output of each class, that of the image marked, in two columns."""
    table = Table.grid(padding=(0, 1))
    half = -(-len(shown.output) // 2)
    lines = [_bar(shown, c) for c in range(len(shown.output))]
    for k in range(half):
        table.add_row(*lines[k], *(lines[k + half] if k + half < len(lines) else ()))
    return table


def _bar(shown: Shown, c: int) -> Sequence[Text]:
    share = min(max(float(shown.output[c]), 0.0), 1.0)
    colour = "green" if c == shown.label else "red" if c == shown.answer else "dim"
    filled = "█" * round(BAR * share)
    return Text(f"{c}", style=colour), Text(filled.ljust(BAR, "·"), style=colour)


def _facts(shown: Shown) -> Text:
    right = shown.label == shown.answer
    return Text.assemble(
        f"shown {shown.label}, answered ", (f"{shown.answer}", "green" if right else "red"),
        f"\naccuracy of late {percent(shown.accuracy)}\n{shown.seconds:.2f} s simulated",
    )  # fmt: skip


def live(shown: Iterator[Shown], title: str) -> Iterator[Shown]:
    """Draw what comes, as it comes, and hand it on; the last picture stays."""
    console = Console()
    screen = Screen(title, console.width)
    with Live(screen, console=console, auto_refresh=False) as drawn:
        for each in shown:
            screen.add(each)
            drawn.refresh()
            yield each


def lines(shown: Iterator[Shown], title: str) -> Iterator[Shown]:
    """Print a line for every second of simulated time, and hand on what comes."""
    typer.echo(title)
    told = 0
    for each in shown:
        if each.seconds >= told + 1 - 1e-9:
            told = int(each.seconds + 1e-9)
            rates = {name: float(fired.double().mean()) / each.dt for name, fired in firing(each.moments).items()}
            hertz = ", ".join(f"{population(name)} {rate:.1f}" for name, rate in rates.items())
            typer.echo(f"{each.seconds:6.2f} s  accuracy of late {percent(each.accuracy)}  Hz: {hertz}")
        yield each
