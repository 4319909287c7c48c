"""Pictures of images: what transformers look at, and what networks take for what."""

from collections.abc import Mapping
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stn_train.pictures import OUTLINES, draw_outline, png, show_image
from stn_train.reporting.records import unnumbered

Array = NDArray[np.generic]

_PICTURES = 8
"""How many inputs and outputs stand side by side in a picture of a transformer, if they are not more for one image."""

_KINDS = ("best", "typical", "worst")
"""Of the examples (see Gallery), in words."""


def examples(title: str, seen: Mapping[str, Array]) -> bytes:
    """A PNG of inputs with the outlines of the sampling grids on them, beside what the transformers put out.

    The best images come first, then typical ones, then the worst mistakes. A transformer has one colour for its outline
    and for the frame of its output. A dot marks the output's top left corner, so that a rotation can be seen; below
    stand the true and the predicted label, wrong ones in red. seen: the arrays of examples.npz (see Gallery).
    """
    images, outputs, outlines = (unnumbered(name, seen) for name in ("image", "output", "outline"))
    side = 1 + len(outputs)
    groups = max(_PICTURES // side, 1)
    rows = _rows(seen["kind"], groups)
    height = 1.6 * len(rows) + 0.4
    figure = Figure(figsize=(1.375 * groups * side, height))
    grid = figure.add_gridspec(
        len(rows),
        (side + 1) * groups - 1,
        width_ratios=([1] * side + [0.15]) * (groups - 1) + [1] * side,
        left=0.03,
        right=0.99,
        bottom=0.25 / height,
        top=1 - 0.4 / height,
        wspace=0.06,
        hspace=0.2,
    )
    places = [(row, group, index) for row, line in enumerate(rows) for group, index in enumerate(line)]
    for row, group, index in places:
        label, predicted = seen["label"][index], seen["predicted"][index]
        inside, *made = (figure.add_subplot(grid[row, (side + 1) * group + place]) for place in range(side))
        _picture(inside, images[0][index], f"true {label}")
        _widen(inside, *images[0].shape[-2:])
        if group == 0:
            inside.set_ylabel(_KINDS[int(seen["kind"][index])], fontsize=9)
        for axes, output, colour in zip(made, outputs, cycle(OUTLINES), strict=False):
            _picture(axes, output[index], frame=colour if len(outputs) > 1 else "black")
        made[-1].set_xlabel(
            f"predicted {predicted}", color="black" if label == predicted else "red", fontsize=8, labelpad=2
        )
        for outline, colour in zip(outlines, cycle(OUTLINES), strict=False):
            draw_outline(inside, outline[index], colour, width=1.2)
    figure.suptitle(
        f"{title}: the input with the sampling grid's outline (dot: the output's top left), and the output",
        y=1 - 0.1 / height,
        fontsize=10,
    )
    return png(figure)


def _rows(kinds: Array, most: int) -> list[list[int]]:
    """The numbers of images by rows of at most so many; each kind begins a row."""
    of_kind = [[int(index) for index in np.flatnonzero(kinds == kind)] for kind in np.unique(kinds)]
    return [numbers[start : start + most] for numbers in of_kind for start in range(0, len(numbers), most)]


def means(title: str, seen: Mapping[str, Array]) -> bytes:
    """A PNG of the mean image of each class, above, and of what the classifier reads, below.

    Each is as bright as it can be, so that how sharp they are can be compared. seen: the arrays of means.npz.
    """
    before, after = seen["image"], seen["output"]
    figure = Figure(figsize=(1.1 * len(before), 2.7), layout="constrained")
    grid = figure.subplots(2, len(before), squeeze=False)
    for row, images, words in zip(grid, (before, after), ("before", "after"), strict=True):
        row[0].set_ylabel(words, fontsize=9)
        for label, (axes, image) in enumerate(zip(row, images, strict=True)):
            show_image(axes, image.astype(float) * (255 / max(float(image.max()), 1.0)))
            if images is after:
                axes.set_xlabel(str(label), fontsize=9, labelpad=2)
    figure.suptitle(title, fontsize=10)
    return png(figure)


def confusions(title: str, matrices: Mapping[str, Array]) -> Figure:
    """What each model takes for what: percent of a true class's images (row) taken for each other class (column).

    matrices: for each model, classes x classes counts. One scale of colours for all; right answers are left blank.
    """
    shares = {
        model: 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) for model, counts in matrices.items()
    }
    wrong = {model: np.where(np.eye(len(share), dtype=bool), np.nan, share) for model, share in shares.items()}
    highest = max(float(np.nanmax(share)) for share in wrong.values())
    columns = min(len(wrong), 3)
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


def _picture(axes: Axes, image: Array, caption: str = "", frame: str = "black") -> None:
    show_image(axes, image)
    axes.set_anchor("N")
    axes.set_xlabel(caption, fontsize=8, labelpad=2)
    axes.spines[:].set_color(frame)


def _widen(axes: Axes, height: int, width: int) -> None:
    """Widens the view by a fifth, for outlines that leave the image."""
    axes.set_facecolor("0.85")
    axes.set_xlim(-0.5 - 0.1 * width, 1.1 * width - 0.5)
    axes.set_ylim(1.1 * height - 0.5, -0.5 - 0.1 * height)
