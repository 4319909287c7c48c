"""A contact sheet: digits before and after a variant's distortion."""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stn_train.data.digits import Digits
from stn_train.data.variant import draw_variant
from stn_train.specs import DatasetSpec

_PAIRS = 10


def contact_sheet(specs: list[DatasetSpec], digits: Digits) -> bytes:
    """A PNG with one pair of rows a variant: one digit of each class before, and below it after distortion."""
    first = [int((digits.labels == label).int().argmax()) for label in range(_PAIRS)]
    few = digits.subset(digits.labels.new_tensor(first))
    figure = Figure(figsize=(1.0 * _PAIRS + 1, 2.3 * len(specs)), layout="constrained")
    axes = np.atleast_2d(figure.subplots(2 * len(specs), _PAIRS, squeeze=False))
    for number, spec in enumerate(specs):
        variant, drawn = draw_variant(spec, few, "test")
        before, after = axes[2 * number], axes[2 * number + 1]
        before[0].set_ylabel("digit", fontsize=8)
        after[0].set_ylabel(f"{spec.name}\n{spec.canvas[0]} x {spec.canvas[1]}", fontsize=8, weight="bold")
        for column in range(_PAIRS):
            _picture(before[column], few.images[column].numpy(), f"{int(few.labels[column])}")
            words = (
                (f"{drawn.rotation[column]:+.0f}°", spec.rotation),
                (f"×{drawn.scale[column]:.2f}", spec.scale),
                (f"{drawn.shear[column]:+.0f}°", spec.shear),
                ("({:+.0f}, {:+.0f})".format(*drawn.shift[column]), spec.translation),
            )
            title = " ".join(word for word, applied in words if applied is not None)
            _picture(after[column], variant.images[column, 0].numpy(), title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _picture(axes: Axes, image: np.ndarray, title: str) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_title(title, fontsize=6)
    axes.set_xticks([])
    axes.set_yticks([])
