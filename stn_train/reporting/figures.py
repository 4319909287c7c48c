"""Pictures of a run: learning curves, and what the transformers look at."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from stn_train.reporting.records import EpochRecord
from stn_train.storage import atomic

_PAIRS = 4
"""Pairs of input and output side by side in a picture of a transformer."""

_LEAST_ERROR = 0.01
"""Percent; on the log axis, errors below stand here."""


def save(figure: Figure, path: Path) -> None:
    """Write a figure to `path` as PNG, atomically."""
    with atomic(path) as file:
        figure.savefig(file, format="png", dpi=150)


def outline(theta: ArrayLike, height: int, width: int) -> NDArray[np.float64]:
    """Where an affine transformer looks: the corners of its sampling grid on the input, (4, 2) as (x, y) in pixels.

    The corners are those of the output's outer edge, in the order top left, top right, bottom right, bottom left of
    the output. theta: the six numbers of [[a, b, c], [d, e, f]], row by row, that map the target's normalised (x, y, 1)
    to the source's normalised (x, y), where -1 and 1 are the outer edges of the outer pixels (align_corners=False).
    height, width: the input's, in pixels; a pixel's centre has whole coordinates, the first is (0, 0).
    """
    corners = np.array([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]])
    normalised = corners @ np.asarray(theta, dtype=np.float64).reshape(2, 3).T
    pixels: NDArray[np.float64] = ((normalised + 1) * (width, height) - 1) / 2
    return pixels


def learning_curves(title: str, split: str, curves: Mapping[str, Sequence[Sequence[EpochRecord]]]) -> Figure:
    """The error on `split` in percent and the training loss, per epoch, both on log axes.

    curves: for each model, its epochs seed by seed. One colour a model, one thin line a seed.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    errors, losses = figure.subplots(1, 2)
    for index, (model, seeds) in enumerate(curves.items()):
        for number, epochs in enumerate(seeds):
            style = {
                "color": f"C{index}",
                "linewidth": 0.9,
                "marker": ".",
                "markersize": 3,
                "label": model if number == 0 else None,
            }
            done = range(1, len(epochs) + 1)
            errors.plot(done, [max(epoch.error, _LEAST_ERROR) for epoch in epochs], **style)
            losses.plot(done, [epoch.loss for epoch in epochs], **style)
    errors.set_ylabel(f"{split} error (%)")
    losses.set_ylabel("training loss")
    for axes in (errors, losses):
        axes.set_xlabel("epoch")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    errors.legend(frameon=False)
    figure.suptitle(title)
    return figure


def transformer_samples(title: str, samples: Mapping[str, NDArray[np.generic]]) -> Figure:
    """Each input with the outline of the sampling grid drawn on it, beside the transformer's output.

    A dot marks the output's top left corner, so that a rotation can be seen; below stand the true and the predicted
    label, wrong ones in red. samples: the arrays of a trial's samples.npz.
    """
    images, outputs = samples["image"], samples["output"]
    rows = -(-len(images) // _PAIRS)
    height = 1.6 * rows + 0.4
    figure = Figure(figsize=(2.75 * _PAIRS, height))
    grid = figure.add_gridspec(
        rows,
        3 * _PAIRS - 1,
        width_ratios=([1, 1, 0.15] * _PAIRS)[:-1],
        left=0.01,
        right=0.99,
        bottom=0.25 / height,
        top=1 - 0.4 / height,
        wspace=0.06,
        hspace=0.2,
    )
    for index, (image, output, theta) in enumerate(zip(images, outputs, samples["theta"], strict=True)):
        row, pair = divmod(index, _PAIRS)
        label, predicted = samples["label"][index], samples["predicted"][index]
        seen, made = (figure.add_subplot(grid[row, 3 * pair + side]) for side in (0, 1))
        _picture(seen, image, f"true {label}")
        _picture(made, output, f"predicted {predicted}", "black" if label == predicted else "red")
        _draw_outline(seen, theta, *image.shape)
    figure.suptitle(
        f"{title}: the input with the sampling grid's outline (dot: the output's top left), and the output",
        y=1 - 0.1 / height,
        fontsize=10,
    )
    return figure


def located(title: str, samples: Mapping[str, Mapping[str, NDArray[np.generic]]]) -> Figure:
    """A row for each class: images with the true box (green) and the predicted one (orange).

    samples: for each row's caption, the arrays of a cell's samples.npz.
    """
    columns = max(len(arrays["image"]) for arrays in samples.values())
    figure = Figure(figsize=(1.3 * columns, 1.3 * len(samples) + 0.5), layout="constrained")
    grid = figure.subplots(len(samples), columns, squeeze=False)
    for row, (caption, arrays) in zip(grid, samples.items(), strict=True):
        row[0].set_ylabel(caption, fontsize=8)
        for axes in row[len(arrays["image"]) :]:
            axes.set_axis_off()
        for axes, image, *boxes in zip(row, arrays["image"], arrays["true"], arrays["predicted"], strict=False):
            _picture(axes, image, "")
            for box, colour in zip(boxes, ("limegreen", "orange"), strict=True):
                x, y = (((box.reshape(2, 2) + 1) * image.shape[::-1] - 1) / 2).T
                axes.plot(x[[0, 1, 1, 0, 0]], y[[0, 0, 1, 1, 0]], color=colour, linewidth=1.2)
            axes.set_xlim(-0.5, image.shape[1] - 0.5)
            axes.set_ylim(image.shape[0] - 0.5, -0.5)
    figure.suptitle(f"{title}: true (green) and predicted (orange) box", fontsize=10)
    return figure


def _picture(axes: Axes, image: NDArray[np.generic], caption: str, colour: str = "black") -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_anchor("N")
    axes.set_xlabel(caption, color=colour, fontsize=8, labelpad=2)
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_outline(axes: Axes, theta: NDArray[np.generic], height: int, width: int) -> None:
    """Widens the view by a fifth, for outlines that leave the image."""
    corners = outline(theta, height, width)
    axes.plot(*np.vstack([corners, corners[:1]]).T, color="orange", linewidth=1.2)
    axes.plot(*corners[0], marker="o", markersize=4, color="orange")
    axes.set_facecolor("0.85")
    axes.set_xlim(-0.5 - 0.1 * width, 1.1 * width - 0.5)
    axes.set_ylim(1.1 * height - 0.5, -0.5 - 0.1 * height)
