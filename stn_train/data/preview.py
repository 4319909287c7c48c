"""A contact sheet: digits before and after a variant's distortion."""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stn_train.data.digits import CLASSES, Digits
from stn_train.data.distortion import Draw
from stn_train.data.outline import Outline
from stn_train.data.variant import draw_variant
from stn_train.specs import DatasetSpec

_COLOURS = np.array([[1.0, 0.55, 0.15], [0.0, 0.45, 0.85]])
"""Of the first and the second channel of images that have two; their sum is nearly white."""


def contact_sheet(specs: list[DatasetSpec], digits: Digits) -> bytes:
    """A PNG: a row with one digit of each class, and for each variant a row of the same digits, distorted.

    On the images lie the outline of each digit's frame, with a dot at its upper left corner, and the box of its ink.
    """
    first = [int((digits.labels == label).int().argmax()) for label in range(CLASSES)]
    few = digits.subset(digits.labels.new_tensor(first))
    figure = Figure(figsize=(CLASSES + 1, 1.2 * (len(specs) + 1)), layout="constrained")
    axes = figure.subplots(len(specs) + 1, CLASSES, squeeze=False)
    axes[0, 0].set_ylabel("digits", fontsize=8, weight="bold")
    for column in range(CLASSES):
        _picture(axes[0, column], few.images[column, None].numpy(), str(column))
    for row, spec in zip(axes[1:], specs, strict=True):
        variant, draws, outlines = draw_variant(spec, few, "test")
        row[0].set_ylabel(f"{spec.name}\n{spec.canvas[0]} x {spec.canvas[1]}", fontsize=8, weight="bold")
        for column in range(CLASSES):
            title = str(int(variant.labels[column])) if spec.addition else _pose(spec, draws[0], column)
            _picture(row[column], variant.images[column].numpy(), title)
            for lies in outlines:
                _draw_outline(row[column], lies, column)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _pose(spec: DatasetSpec, drawn: Draw, number: int) -> str:
    """What was drawn for an image, in words."""
    words = (
        (f"{drawn.rotation[number]:+.0f}°", spec.rotation),
        (f"×{drawn.scale[number]:.2f}", spec.scale),
        (f"{drawn.shear[number]:+.0f}°", spec.shear),
        ("({:+.0f}, {:+.0f})".format(*drawn.shift[number]), spec.translation),
    )
    return " ".join(word for word, applied in words if applied is not None)


def _picture(axes: Axes, image: NDArray[np.uint8], title: str) -> None:
    """An image, C x H x W, of one channel or of two."""
    shown = image[0] if len(image) == 1 else np.tensordot(image / 255, _COLOURS, axes=(0, 0)).clip(0, 1)
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_title(title, fontsize=6)
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_outline(axes: Axes, lies: Outline, number: int) -> None:
    """The frame's quadrilateral and the ink's box; what lies off the canvas is cut off."""
    limits = axes.get_xlim(), axes.get_ylim()
    frame = lies.frame[number]
    axes.plot(*np.vstack([frame, frame[:1]]).T, color="C1", linewidth=0.6)
    axes.plot(*frame[0], ".", color="C1", markersize=3)
    left, top, right, bottom = lies.ink[number]
    axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color="C2", linewidth=0.5)
    axes.set(xlim=limits[0], ylim=limits[1])
