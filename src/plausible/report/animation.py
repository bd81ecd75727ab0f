"""The figure of a look inside, moving: a frame for each image, in real time."""

import io
from collections.abc import Iterable, Iterator
from itertools import islice

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from PIL import Image

from plausible.probes.activity import Activity, record
from plausible.report import names
from plausible.report.raster import raster
from plausible.report.style import INK, PAPER, PRINT, drawing
from plausible.train.online import Shown

WINDOW = 5
"""Images that a frame shows side by side."""

_DPI = 100
_COLOURS = 64


def gif(shown: Iterable[Shown], title: str) -> bytes | None:
    """A GIF that shows the images of a net at work, as the time of the simulation goes; None for less than a frame."""
    frames = list(_frames(shown, title))
    if not frames:
        return None
    palette = frames[0][0].quantize(_COLOURS)
    first, *others = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame, _ in frames]
    buffer = io.BytesIO()
    first.save(
        buffer, format="GIF", save_all=True, append_images=others, loop=0, duration=round(1e3 * frames[0][1])
    )  # fmt: skip
    return buffer.getvalue()


def _frames(shown: Iterable[Shown], title: str) -> Iterator[tuple[Image.Image, float]]:
    """Frames, and for how many seconds each stands."""
    coming = iter(shown)
    window = list(islice(coming, WINDOW))
    if len(window) < WINDOW:
        return
    cells: list[int] | None = None
    while True:
        seen = record(
            window[0].dt,
            [moment for each in window for moment in each.moments],
            [each.label for each in window],
            [each.answer for each in window],
            cells,
        )
        cells = [trace.cell for trace in seen.traces]  # the same in every frame
        yield _frame(seen, window, title), window[-1].dt * len(window[-1].moments)
        following = next(coming, None)
        if following is None:
            return
        window = [*window[1:], following]


def _frame(seen: Activity, window: list[Shown], title: str) -> Image.Image:
    # With a layout that is sought for each frame, more would move than spikes.
    with drawing(PRINT), mpl.rc_context({"figure.constrained_layout.use": False}):
        figure = raster(seen, PRINT)
        figure.set_facecolor(PAPER)
        figure.set_dpi(_DPI)
        figure.subplots_adjust(left=0.17, right=0.97, top=0.84, bottom=0.09, hspace=0.06)
        ms = 1e3 * seen.dt * len(seen.readout) / len(window)
        for k, each in enumerate(window):
            picture = OffsetImage(each.image.numpy(), zoom=3.4, cmap="gray_r", interpolation="nearest")
            figure.axes[0].add_artist(
                AnnotationBbox(
                    picture, ((k + 0.5) * ms, 1), (0, 30), xycoords=figure.axes[0].get_xaxis_transform(),
                    boxcoords="offset points", frameon=False, annotation_clip=False,
                )
            )  # fmt: skip
        last = window[-1]
        told = f"{last.seconds:.2f} s    accuracy {names.percent(last.accuracy)}"
        figure.text(0.17, 0.965, title, color=INK, weight="bold", va="center")
        figure.text(0.97, 0.965, told, color=INK, va="center", ha="right")
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
