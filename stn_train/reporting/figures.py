"""Pictures of a run: learning curves, and what the transformers look at."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from stn_train.pictures import draw_outline, show_image
from stn_train.reporting.measured import Measured
from stn_train.reporting.records import EpochRecord, unnumbered
from stn_train.storage import atomic

Array = NDArray[np.generic]

_PICTURES = 8
"""How many inputs and outputs stand side by side in a picture of a transformer, if they are not more for one image."""

_COLOURS = ("orange", "limegreen", "magenta", "deepskyblue")
"""Of the transformers, in turn."""

_LEAST_ERROR = 0.01
"""Percent; on the log axis, errors below stand here."""


def save(figure: Figure, path: Path) -> None:
    """Write a figure to `path` as PNG, atomically."""
    with atomic(path) as file:
        figure.savefig(file, format="png", dpi=150)


def learning_curves(title: str, split: str, curves: Mapping[str, Sequence[Sequence[EpochRecord]]]) -> Figure:
    """The error on `split` in percent and the training loss, per epoch, both on log axes.

    curves: for each model, its epochs seed by seed. Each has one colour: a line for the mean over its seeds, and a band
    from the lowest to the highest of them. Ends with the epoch that all of a model's seeds have reached.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    errors, losses = figure.subplots(1, 2)
    for index, (model, seeds) in enumerate(curves.items()):
        for axes, of_epoch in ((errors, _shown_error), (losses, _loss)):
            together = [[of_epoch(epoch) for epoch in epochs] for epochs in zip(*seeds, strict=False)]
            values = np.array(together).reshape(-1, len(seeds))
            done, colour = range(1, len(values) + 1), f"C{index}"
            axes.plot(done, values.mean(axis=1), color=colour, linewidth=1.2, marker=".", markersize=4, label=model)
            axes.fill_between(done, values.min(axis=1), values.max(axis=1), color=colour, alpha=0.2, linewidth=0)
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


def _shown_error(epoch: EpochRecord) -> float:
    return max(epoch.error, _LEAST_ERROR)


def _loss(epoch: EpochRecord) -> float:
    return epoch.loss


def transformer_samples(title: str, samples: Mapping[str, Array]) -> Figure:
    """Each input with the outlines of the sampling grids drawn on it, beside what the transformers put out.

    A transformer has one colour for its outline and for the frame of its output. A dot marks the output's top left
    corner, so that a rotation can be seen; below stand the true and the predicted label, wrong ones in red. samples:
    the arrays of a trial's samples.npz.
    """
    images, outputs, outlines = (unnumbered(name, samples) for name in ("image", "output", "outline"))
    side = 1 + len(outputs)
    groups = max(_PICTURES // side, 1)
    rows = -(-len(images[0]) // groups)
    height = 1.6 * rows + 0.4
    figure = Figure(figsize=(1.375 * groups * side, height))
    grid = figure.add_gridspec(
        rows,
        (side + 1) * groups - 1,
        width_ratios=([1] * side + [0.15]) * (groups - 1) + [1] * side,
        left=0.01,
        right=0.99,
        bottom=0.25 / height,
        top=1 - 0.4 / height,
        wspace=0.06,
        hspace=0.2,
    )
    for index, image in enumerate(images[0]):
        row, group = divmod(index, groups)
        label, predicted = samples["label"][index], samples["predicted"][index]
        seen, *made = (figure.add_subplot(grid[row, (side + 1) * group + place]) for place in range(side))
        _picture(seen, image, f"true {label}")
        _widen(seen, *image.shape[-2:])
        for axes, output, colour in zip(made, outputs, cycle(_COLOURS), strict=False):
            _picture(axes, output[index], frame=colour if len(outputs) > 1 else "black")
        made[-1].set_xlabel(
            f"predicted {predicted}", color="black" if label == predicted else "red", fontsize=8, labelpad=2
        )
        for outline, colour in zip(outlines, cycle(_COLOURS), strict=False):
            draw_outline(seen, outline[index], colour, width=1.2)
    figure.suptitle(
        f"{title}: the input with the sampling grid's outline (dot: the output's top left), and the output",
        y=1 - 0.1 / height,
        fontsize=10,
    )
    return figure


def class_means(title: str, before: Array, after: Array) -> Figure:
    """The mean image of each class, above, and of what the classifier reads, below; both classes x C x H x W, uint8.

    Each is as bright as it can be, so that how sharp they are can be compared.
    """
    figure = Figure(figsize=(1.1 * len(before), 2.7), layout="constrained")
    grid = figure.subplots(2, len(before), squeeze=False)
    for row, images, words in zip(grid, (before, after), ("before", "after"), strict=True):
        row[0].set_ylabel(words, fontsize=9)
        for label, (axes, image) in enumerate(zip(row, images, strict=True)):
            show_image(axes, image.astype(float) * (255 / max(float(image.max()), 1.0)))
            if images is after:
                axes.set_xlabel(str(label), fontsize=9, labelpad=2)
    figure.suptitle(title, fontsize=10)
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


def errors_by_digits(trials: Sequence[Measured]) -> Figure:
    """The error in percent against the number of training digits, both on log axes, in a panel for each dataset.

    Each model has one colour: a line for the mean over its seeds, and a band from the lowest to the highest of them.
    """
    datasets = list(dict.fromkeys(trial.dataset for trial in trials))
    models = list(dict.fromkeys(trial.model for trial in trials))
    figure = Figure(figsize=(0.5 + 4.5 * len(datasets), 4), layout="constrained")
    for axes, dataset in zip(figure.subplots(1, len(datasets), squeeze=False)[0], datasets, strict=True):
        here = [trial for trial in trials if trial.dataset == dataset]
        for model in dict.fromkeys(trial.model for trial in here):
            of_model = [trial for trial in here if trial.model == model]
            _draw_by_digits(axes, of_model, f"C{models.index(model)}")
        axes.set_title(dataset)
        axes.set_xlabel("training digits")
        axes.set_xscale("log")
        axes.set_xticks(sorted({trial.result.training_digits for trial in here}))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylabel(f"{here[0].result.split} error (%)")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    return figure


def _draw_by_digits(axes: Axes, trials: Sequence[Measured], colour: str) -> None:
    """The line and the band of one model's trials."""
    digits = sorted({trial.result.training_digits for trial in trials})
    errors = [
        [max(trial.result.error, _LEAST_ERROR) for trial in trials if trial.result.training_digits == count]
        for count in digits
    ]
    means = [sum(seeds) / len(seeds) for seeds in errors]
    axes.plot(digits, means, color=colour, linewidth=1.2, marker=".", markersize=6, label=trials[0].model)
    axes.fill_between(digits, [*map(min, errors)], [*map(max, errors)], color=colour, alpha=0.2, linewidth=0)
