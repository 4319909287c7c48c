"""A contact sheet: digits before and after a variant's distortion."""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stn_train.data.digits import CLASSES, Digits
from stn_train.data.variant import draw_variant
from stn_train.specs import DatasetSpec


def contact_sheet(specs: list[DatasetSpec], digits: Digits) -> bytes:
    """A PNG: a row with one digit of each class, and for each variant a row of the same digits, distorted."""
    first = [int((digits.labels == label).int().argmax()) for label in range(CLASSES)]
    few = digits.subset(digits.labels.new_tensor(first))
    figure = Figure(figsize=(CLASSES + 1, 1.2 * (len(specs) + 1)), layout="constrained")
    axes = figure.subplots(len(specs) + 1, CLASSES, squeeze=False)
    axes[0, 0].set_ylabel("digits", fontsize=8, weight="bold")
    for column in range(CLASSES):
        _picture(axes[0, column], few.images[column].numpy(), str(column))
    for row, spec in zip(axes[1:], specs, strict=True):
        variant, drawn = draw_variant(spec, few, "test")
        row[0].set_ylabel(f"{spec.name}\n{spec.canvas[0]} x {spec.canvas[1]}", fontsize=8, weight="bold")
        for column in range(CLASSES):
            words = (
                (f"{drawn.rotation[column]:+.0f}°", spec.rotation),
                (f"×{drawn.scale[column]:.2f}", spec.scale),
                (f"{drawn.shear[column]:+.0f}°", spec.shear),
                ("({:+.0f}, {:+.0f})".format(*drawn.shift[column]), spec.translation),
            )
            title = " ".join(word for word, applied in words if applied is not None)
            _picture(row[column], variant.images[column, 0].numpy(), title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _picture(axes: Axes, image: NDArray[np.uint8], title: str) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_title(title, fontsize=6)
    axes.set_xticks([])
    axes.set_yticks([])
