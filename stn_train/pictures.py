"""Images as colours, images and outlines on matplotlib's axes, and figures as files. Torch-free."""

import io
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stn_train.storage import write_bytes

OUTLINES = ("orange", "limegreen", "magenta", "deepskyblue")
"""The colours of transformers' outlines, in turn."""

_CHANNELS = np.array([(1.0, 0.35, 0.3), (0.2, 0.8, 1.0), (0.9, 0.9, 0.2), (0.5, 0.4, 1.0)])
"""Of an image's channels where there are several, in turn, as red, green and blue."""


def coloured(image: NDArray[Any]) -> NDArray[np.uint8]:
    """An image, C x H x W, from 0 to 255, as H x W x 3: one channel in grey, several in a colour each, added up."""
    channels = image.astype(float)[:, :, :, None]
    colours = cycle(_CHANNELS if len(image) > 1 else np.ones((1, 3)))
    seen = sum(channel * colour for channel, colour in zip(channels, colours, strict=False))
    pixels: NDArray[np.uint8] = np.clip(seen, 0, 255).round().astype(np.uint8)
    return pixels


def show_image(axes: Axes, image: NDArray[Any]) -> None:
    """An image, C x H x W, from 0 to 255, without ticks (see `coloured`)."""
    axes.imshow(coloured(image), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def draw_outline(axes: Axes, outline: NDArray[Any], colour: str, width: float) -> None:
    """A polygon, V x 2 as (x, y) in pixels, closed, with a dot at its first point; the axes' limits stay."""
    limits = axes.get_xlim(), axes.get_ylim()
    axes.plot(*np.vstack([outline, outline[:1]]).T, color=colour, linewidth=width)
    axes.plot(*outline[0], marker="o", markersize=3 * width, color=colour)
    axes.set(xlim=limits[0], ylim=limits[1])


_UNDATED: dict[str, dict[str, None]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
"""By a file's ending, what keeps the time of drawing out of it."""


def png(figure: Figure) -> bytes:
    """A figure as a PNG file's bytes."""
    return _drawn(figure, ".png")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure to `path`, atomically, in the format of its ending: the same bytes for the same figure.

    Raises ValueError where matplotlib knows no such format.
    """
    write_bytes(path, _drawn(figure, path.suffix.lower()))


def _drawn(figure: Figure, ending: str) -> bytes:
    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "stn-train"}):
        figure.savefig(file, format=ending[1:], dpi=150, metadata=_UNDATED.get(ending))
    return file.getvalue()
