"""Curves, matrices, images and outlines, drawn with matplotlib, and figures as files."""

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator, StrMethodFormatter
from numpy.typing import NDArray

from stn_train.evaluation.metrics import LEAST, Factor, ResidualCurve
from stn_train.report.measures import COMPONENTS
from stn_train.run_folder import EpochRecord
from stn_train.storage import write

if TYPE_CHECKING:
    import pandas as pd

    from stn_train.evaluation.prediction import Prediction

OUTLINES = ("orange", "limegreen", "magenta", "deepskyblue")
"""The colours of transformers' outlines, in turn."""

_CHANNELS = np.array([(1.0, 0.35, 0.3), (0.2, 0.8, 1.0), (0.9, 0.9, 0.2), (0.5, 0.4, 1.0)])
"""Of an image's channels where there are several, in turn, as red, green and blue."""


def coloured(image: NDArray[Any]) -> NDArray[np.uint8]:
    """An image, C x H x W, from 0 to 255, as H x W x 3.

    One channel is grey, three are red, green and blue, and others have a colour each and are added up.
    """
    if len(image) == 3:
        return np.ascontiguousarray(image.transpose(1, 2, 0)).astype(np.uint8)
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


_EAST_ASIAN = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Micro Hei",
    "Microsoft YaHei",
    "SimHei",
    "Arial Unicode MS",
)
FURTHER_FONTS = [font for font in _EAST_ASIAN if font in get_font_names()]
"""Those of the machine, for names that matplotlib's own cannot write. Of a file of several fonts matplotlib knows the
first: of Noto's, as Linux has them, the Japanese one, in which Chinese is, too."""

IN_PLAIN_TEXT: Any = {
    "text.usetex": False,
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "font.family": [*rcParams["font.family"], *FURTHER_FONTS],
}
"""For figures whose text is no LaTeX: names may hold a $, whatever the user's matplotlibrc asks for, or be Chinese."""

_UNDATED: dict[str, dict[str, None]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
"""By a file's ending, what keeps the time of drawing out of it."""


def figure_file(figure: Figure, ending: str = ".png") -> bytes:
    """A figure as a file's bytes, of the format of this ending: the same ones for the same figure.

    What no font of the machine can write is drawn as a box.
    """
    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "stn-train"} | IN_PLAIN_TEXT), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(file, format=ending[1:], dpi=150, metadata=_UNDATED.get(ending))
    return file.getvalue()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure to `path`, atomically, in the format of its ending.

    Raises ValueError where matplotlib knows no such format.
    """
    write(path, figure_file(figure, path.suffix.lower()))


_LEAST_ERROR = 0.01
"""Percent; on the log axis, errors below stand here."""

_QUANTITIES: dict[Factor, str] = {
    "rotation": "rotation (degrees, clockwise)",
    "scale": "scale (factor)",
    "translation": "translation (share of the room: -1 upper left, 1 lower right)",
    "clutter": "clutter (patches)",
}


@rc_context(IN_PLAIN_TEXT)
def learning_curves(title: str, split: str, curves: Mapping[str, Sequence[Sequence[EpochRecord]]]) -> Figure:
    """The error on `split` in percent and the training loss, per epoch, both on log axes.

    curves: for each model, its epochs seed by seed; see `_draw`. Ends with the epoch that all of a model's seeds have
    reached.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    errors, losses = figure.subplots(1, 2)
    for number, (model, seeds) in enumerate(curves.items()):
        epochs = [*zip(*seeds, strict=False)]
        done = [together[0].epoch for together in epochs]
        _draw(errors, done, [[epoch.error for epoch in together] for together in epochs], model, number)
        _draw(losses, done, [[epoch.loss for epoch in together] for together in epochs], model, number)
    errors.set_ylabel(f"{split} error (%)")
    losses.set_ylabel("training loss")
    for axes in (errors, losses):
        axes.set_xlabel("epoch")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    errors.legend(frameon=False)
    figure.suptitle(title)
    return figure


@rc_context(IN_PLAIN_TEXT)
def costs(
    title: str, split: str, rows: "pd.DataFrame", curves: Mapping[str, Sequence[Sequence[EpochRecord]]]
) -> Figure:
    """The accuracy on `split` in percent against seconds of training and against MACs: a dot for each model.

    rows: of Results.summary, those of a dataset, whose intervals are drawn; curves: for each model, its epochs seed by
    seed, as a line through their means. The dashed line is the end of the shortest training.
    """
    figure = Figure(figsize=(10, 3.5), layout="constrained")
    time, work = figure.subplots(1, 2, sharey=True)
    for number, row in enumerate(rows.to_dict("records")):
        epochs = [*zip(*curves[row["model"]], strict=False)]
        means = [100 - float(np.mean([one.error for one in together])) for together in epochs]
        seconds = [row["training_seconds"] * together[0].epoch / epochs[-1][0].epoch for together in epochs]
        time.plot(seconds, means, color=f"C{number}", linewidth=1, alpha=0.6)
        ends = [[row["accuracy"] - row["accuracy_low"]], [row["accuracy_high"] - row["accuracy"]]]
        for axes, cost in ((time, "training_seconds"), (work, "macs")):
            axes.errorbar(row[cost], row["accuracy"], ends, fmt="o", color=f"C{number}", capsize=3, label=row["model"])
    time.axvline(rows["training_seconds"].min(), color="0.6", linestyle="--", linewidth=1, zorder=0)
    low, high = rows[["accuracy_low", "accuracy_at_equal_time"]].min(axis=None), rows["accuracy_high"].max()
    time.set_ylim(low - 0.1 * (high - low) - 0.01, high + 0.1 * (high - low) + 0.01)
    time.set(xlabel="seconds of training", ylabel=f"{split} accuracy (%)")
    work.set_xlabel("MACs for one image")
    work.xaxis.set_major_formatter(EngFormatter(sep=" "))
    work.legend(frameon=False)
    for axes in (time, work):
        axes.margins(x=0.08)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    return figure


@rc_context(IN_PLAIN_TEXT)
def robustness_curves(title: str, split: str, panels: Sequence["pd.DataFrame"]) -> Figure:
    """The error on `split` in percent against a quantity, in each panel, a line for each model.

    The quantities of one dataset, or one of them for several datasets; a panel: these rows of Robust's `curves`.
    Grey is the range of which all have seen images in training, where that is known; a model has one colour in all
    panels.
    """
    names = list(dict.fromkeys(name for panel in panels for name in panel["model"]))
    several = len({name for panel in panels for name in panel["dataset"]}) > 1
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(10, 3.5 * rows), layout="constrained")
    grid = figure.subplots(rows, 2, sharey=True, squeeze=False)
    for axes in grid.ravel()[len(panels) :]:
        axes.set_axis_off()
    for axes, panel in zip(grid.ravel(), panels, strict=False):
        curves = panel.to_dict("records")
        for curve in curves:
            _draw(axes, curve["levels"], curve["errors"], curve["model"], names.index(curve["model"]))
        lows, highs = zip(*(curve["trained"] or (math.inf, -math.inf) for curve in curves), strict=True)
        if max(lows) <= min(highs):
            axes.axvspan(max(lows), min(highs), color="0.5", alpha=0.15, linewidth=1)
        axes.set_xlabel(_QUANTITIES[curves[0]["factor"]])
        if several:
            axes.set_title(f"trained on {curves[0]['dataset']}")
    for axes in grid[:, 0]:
        axes.set_ylabel(f"{split} error (%)")
    figure.suptitle(title)
    _legend_below(figure)
    return figure


@rc_context(IN_PLAIN_TEXT)
def residual_curves(title: str, models: Mapping[str, Sequence[ResidualCurve]]) -> Figure:
    """What is left of each component against what there was of it, a panel for each, a line for each model.

    A model without residual curves has no line, and keeps its colour. A band holds a
    standard deviation of the images to either side. A transformer that removes nothing leaves the dashed line.
    """
    components = [one for one in LEAST if any(one == curve.component for each in models.values() for curve in each)]
    columns = min(len(components), 3)
    rows = -(-len(components) // columns)
    figure = Figure(figsize=(1 + 4 * columns, 0.5 + 3.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(components) :]:
        axes.set_axis_off()
    for axes, component in zip(panels, components, strict=False):
        for number, (model, of_model) in enumerate(models.items()):
            for curve in (each for each in of_model if each.component == component):
                after, varies, colour = np.array(curve.after), np.array(curve.varies), f"C{number}"
                axes.plot(curve.before, after, color=colour, linewidth=1.2, marker=".", markersize=5, label=model)
                axes.fill_between(curve.before, after - varies, after + varies, color=colour, alpha=0.15, linewidth=0)
        _, unit = LEAST[component]
        axes.set_xlabel(f"{COMPONENTS[component]}{f' ({unit})' if unit else ''}, as distorted")
        axes.set_ylabel("left after the transformer")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.axline((0, 0), slope=1, color="0.6", linestyle="--", linewidth=1, zorder=0, label="removes nothing")
        axes.axhline(0, color="0.6", linewidth=0.8, zorder=0, label="removes all")
    figure.suptitle(title)
    _legend_below(figure)
    return figure


@rc_context(IN_PLAIN_TEXT)
def errors_by_digits(trials: "pd.DataFrame") -> Figure:
    """The error in percent against the number of training digits, both on log axes, in a panel for each dataset.

    trials: as in Results, perhaps of several runs.
    """
    models = list(dict.fromkeys(trials["model"]))
    datasets = list(dict.fromkeys(trials["dataset"]))
    figure = Figure(figsize=(0.5 + 4.5 * len(datasets), 4), layout="constrained")
    for axes, dataset in zip(figure.subplots(1, len(datasets), squeeze=False)[0], datasets, strict=True):
        here = trials[trials["dataset"] == dataset]
        for model in dict.fromkeys(here["model"]):
            errors = here[here["model"] == model].groupby("training_digits")["error"].apply(list)
            _draw(axes, list(errors.index), list(errors), str(model), models.index(model))
        axes.set_title(dataset)
        axes.set_xlabel("training digits")
        axes.set_xscale("log")
        axes.set_xticks(sorted(set(here["training_digits"])))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylabel(f"{here['split'].iloc[0]} error (%)")
        axes.legend(frameon=False)
    return figure


def _legend_below(figure: Figure) -> None:
    """One legend for all panels, below them, where it hides no line: a name has one colour in all of them."""
    told = {name: line for axes in figure.axes for line, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    rows = -(-len(told) // int(figure.get_figwidth() // 2.5))
    columns = -(-len(told) // rows)
    figure.legend(told.values(), told.keys(), loc="outside lower center", ncols=columns, frameon=False)


def _draw(axes: Axes, at: Sequence[float], values: Sequence[Sequence[float]], model: str, number: int) -> None:
    """A model's line through the means over its seeds, and a band from the lowest to the highest, on a log axis.

    values: at each place, of each seed; those below 0.01 are drawn there. number: the model's, which gives the colour.
    """
    seeds = [np.maximum(of_seeds, _LEAST_ERROR) for of_seeds in values]
    lowest, highest = ([float(reach(of_seeds)) for of_seeds in seeds] for reach in (np.min, np.max))
    means = [float(of_seeds.mean()) for of_seeds in seeds]
    axes.plot(at, means, color=f"C{number}", linewidth=1.2, marker=".", markersize=5, label=model)
    axes.fill_between(at, lowest, highest, color=f"C{number}", alpha=0.2, linewidth=0)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


Array = NDArray[np.generic]
_MOST_TICKS = 30
"""Classes that a matrix names, each of them; of more, some."""


def shortened(name: str, most: int = 12) -> str:
    """A class's name as it fits into a picture, in `most` characters."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


@rc_context(IN_PLAIN_TEXT)
def confusions(title: str, matrices: Mapping[str, Array], names: Sequence[str]) -> Figure:
    """The confusion of each model: percent of a true class's images (row) by predicted class (column).

    matrices: for each model, classes x classes counts; `names` are the classes'. One scale of colours for all; right
    answers are left blank.
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
        ticks = range(0, len(share), -(-len(share) // 9) if len(share) > _MOST_TICKS else 1)
        axes.set(xticks=ticks, yticks=ticks, xlabel="predicted class", ylabel="true class")
        shown = [shortened(names[tick]) for tick in ticks]
        long = max(map(len, shown)) > 2
        axes.set_xticklabels(shown, rotation=90 if long else 0)
        axes.set_yticklabels(shown)
    figure.colorbar(seen, ax=list(grid), label="% of the true class", shrink=0.8)
    figure.suptitle(title)
    return figure


@rc_context(IN_PLAIN_TEXT)
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


_MOST_CLASSES = 10


@rc_context(IN_PLAIN_TEXT)
def predictions(found: Sequence[tuple[NDArray[Any], "Prediction"]]) -> Figure:
    """A row for each picture (H x W x 3, uint8) and network: the picture, what the network reads with the outline
    of the sampling grid, what the transformers put out, and the probabilities of the likeliest classes.
    """
    columns = 3 + max(len(one.transformations) for _, one in found)
    figure = Figure(figsize=(2.1 * columns, 2.1 * len(found) + 0.3), layout="constrained")
    grid = figure.subplots(len(found), columns, squeeze=False)
    for row, (pixels, one) in zip(grid, found, strict=True):
        for axes in row[:-1]:
            axes.set_axis_off()
        row[0].imshow(pixels)
        row[0].set_title(Path(one.picture).name.encode(errors="replace").decode(), fontsize=8)
        show_image(row[1], one.image)
        row[1].set_title(one.network, fontsize=8)
        for axes, transformation, colour in zip(row[2:-1], one.transformations, cycle(OUTLINES), strict=False):
            draw_outline(row[1], transformation.outline, colour, 1.5)
            show_image(axes, transformation.output * 255)
            axes.set_title("transformed", fontsize=8)
        ranking = sorted(one.ranking[:_MOST_CLASSES], key=lambda entry: one.classes.index(entry[0]))
        names, shares = zip(*ranking, strict=True)
        colours = ["C1" if name == one.predicted else "0.7" for name in names]
        row[-1].bar(range(len(names)), shares, color=colours)
        row[-1].set(ylim=(0, 1), xticks=range(len(names)))
        row[-1].set_xticklabels(names, fontsize=8, rotation=90 if max(map(len, names)) > 2 else 0)
        row[-1].tick_params(labelsize=7)
        row[-1].set_title(f"{one.predicted}: {100 * one.ranking[0][1]:.1f} %", fontsize=8)
    return figure
