"""What networks take for what, and where they find it."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stn_train.pictures import draw_outline, show_image

Array = NDArray[np.generic]


def confusions(title: str, matrices: Mapping[str, Array]) -> Figure:
    """What each model takes for what: percent of a true class's images (row) taken for each other class (column).

    matrices: for each model, classes x classes counts. One scale of colours for all; right answers are left blank.
    """
    shares = {
        model: 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) for model, counts in matrices.items()
    }
    wrong = {model: np.where(np.eye(len(share), dtype=bool), np.nan, share) for model, share in shares.items()}
    highest = max(float(np.nanmax(share)) for share in wrong.values())
    columns = 2 if len(wrong) == 4 else min(len(wrong), 3)
    rows = -(-len(wrong) // columns)
    figure = Figure(figsize=(3.4 * columns + 0.8, 3.4 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(wrong) :]:
        axes.set_axis_off()
    for axes, (model, share) in zip(grid, wrong.items(), strict=False):
        seen = axes.imshow(share, cmap="Reds", vmin=0, vmax=max(highest, 1e-9))
        axes.set_title(model, fontsize=10)
        ticks = range(0, len(share), 1 if len(share) <= 10 else 3)
        axes.set(xticks=ticks, yticks=ticks, xlabel="taken for", ylabel="true class")
    figure.colorbar(seen, ax=list(grid), label="% of the true class", shrink=0.8)
    figure.suptitle(title)
    return figure


def located(title: str, samples: Mapping[str, Mapping[str, Array]]) -> Figure:
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
            show_image(axes, image[None])
            for box, colour in zip(boxes, ("limegreen", "orange"), strict=True):
                left, top, right, bottom = ((box.reshape(2, 2) + 1) * image.shape[::-1] - 1).ravel() / 2
                corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
                draw_outline(axes, corners, colour, width=1.2)
    figure.suptitle(f"{title}: true (green) and predicted (orange) box", fontsize=10)
    return figure
