"""A contact sheet: digits before and after a dataset's distortion."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stn_train.data.datasets import make_fixed_dataset
from stn_train.data.distortion import Distortion, Outline
from stn_train.data.images import ImageSet
from stn_train.report.plots import IN_PLAIN_TEXT, draw_outline, show_image
from stn_train.specs import DatasetSpec

_MOST = 10
"""Classes that are shown."""


@rc_context(IN_PLAIN_TEXT)
def contact_sheet(specs: list[DatasetSpec], digits: ImageSet, names: Sequence[str]) -> Figure:
    """A figure: a row with one digit of each class, and for each dataset a row of the same digits, distorted.

    Of the first ten of the classes, which are called `names`. On the images lie the outline of each digit's frame, with
    a dot at its upper left corner, and the box of its ink.
    """
    labels = digits.labels.unique()[:_MOST].tolist()
    first = [int((digits.labels == label).int().argmax()) for label in labels]
    few = digits.subset(digits.labels.new_tensor(first))
    figure = Figure(figsize=(len(labels) + 1, 1.2 * (len(specs) + 1)), layout="constrained")
    axes = figure.subplots(len(specs) + 1, len(labels), squeeze=False)
    axes[0, 0].set_ylabel("images", fontsize=8, weight="bold")
    for column, label in enumerate(labels):
        _picture(axes[0, column], few.images[column].numpy(), names[label])
    for row, spec in zip(axes[1:], specs, strict=True):
        made, draws, outlines = make_fixed_dataset(spec, few, "test")
        row[0].set_ylabel(f"{spec.name}\n{spec.canvas[0]} x {spec.canvas[1]}", fontsize=8, weight="bold")
        for column in range(len(labels)):
            title = str(int(made.labels[column])) if spec.addition else _pose(spec, draws[0], column)
            _picture(row[column], made.images[column].numpy(), title)
            for lies in outlines:
                _draw_outlines(row[column], lies, column)
    return figure


def _pose(spec: DatasetSpec, drawn: Distortion, number: int) -> str:
    """What was drawn for an image, in words."""
    words = (
        (f"{drawn.rotation[number]:+.0f}°", spec.rotation),
        (f"×{drawn.scale[number]:.2f}", spec.scale),
        (f"{drawn.shear[number]:+.0f}°", spec.shear),
        ("({:+.0f}, {:+.0f})".format(*drawn.shift[number]), spec.translation),
    )
    return " ".join(word for word, applied in words if applied is not None)


def _picture(axes: Axes, image: NDArray[np.uint8], title: str) -> None:
    show_image(axes, image)
    axes.set_title(title, fontsize=6)


def _draw_outlines(axes: Axes, lies: Outline, number: int) -> None:
    """The frame's quadrilateral and the ink's box; what lies off the canvas is cut off."""
    left, top, right, bottom = lies.ink[number]
    draw_outline(axes, lies.frame[number], "C1", width=0.6)
    draw_outline(axes, np.array([[left, top], [right, top], [right, bottom], [left, bottom]]), "C2", width=0.5)
