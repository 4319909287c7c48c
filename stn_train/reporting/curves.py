"""Curves of a run: errors epoch by epoch, against what a distortion holds, and against the training digits."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from stn_train.evaluation.evidence import LEAST
from stn_train.evaluation.robustness import Factor
from stn_train.reporting.evidence import Course
from stn_train.reporting.measured import Measured
from stn_train.reporting.records import EpochRecord
from stn_train.reporting.robustness import Curve

_LEAST_ERROR = 0.01
"""Percent; on the log axis, errors below stand here."""

_QUANTITIES: dict[Factor, str] = {
    "angle": "angle (degrees, clockwise)",
    "scale": "scale (factor)",
    "shift": "shift (share of the room: -1 upper left, 1 lower right)",
    "clutter": "clutter (patches)",
}


def learning_curves(title: str, split: str, curves: Mapping[str, Sequence[Sequence[EpochRecord]]]) -> Figure:
    """The error on `split` in percent and the training loss, per epoch, both on log axes.

    curves: for each model, its epochs seed by seed; see `_draw`. Ends with the epoch that all of a model's seeds have
    reached.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    errors, losses = figure.subplots(1, 2)
    for number, (model, seeds) in enumerate(curves.items()):
        epochs = [*zip(*seeds, strict=False)]
        done = range(1, len(epochs) + 1)
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


def robustness_curves(title: str, split: str, curves: Mapping[Factor, Sequence[Curve]]) -> Figure:
    """The error on `split` in percent against each quantity, a line for each model; grey is the range of training."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    panels = figure.subplots(2, 2, sharey=True).ravel()
    for axes, (factor, models) in zip(panels, curves.items(), strict=True):
        for number, curve in enumerate(models):
            _draw(axes, curve.levels, curve.errors, curve.model, number)
        axes.axvspan(*models[0].trained, color="0.5", alpha=0.15, linewidth=1)
        axes.set_xlabel(_QUANTITIES[factor])
    panels[0].legend(frameon=False)
    for axes in panels[::2]:
        axes.set_ylabel(f"{split} error (%)")
    figure.suptitle(title)
    return figure


def courses(title: str, models: Mapping[str, Sequence[Course]]) -> Figure:
    """What is left of each component against what there was of it, a panel for each, a line for each model.

    A model without courses has none, and yet a colour, so that a model's is the same in all figures. A band holds a
    standard deviation of the images to either side. A transformer that undoes nothing leaves the dashed line.
    """
    components = [one for one in LEAST if any(one == course.component for each in models.values() for course in each)]
    columns = min(len(components), 3)
    rows = -(-len(components) // columns)
    figure = Figure(figsize=(1 + 4 * columns, 0.5 + 3.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(components) :]:
        axes.set_axis_off()
    for axes, component in zip(panels, components, strict=False):
        for number, (model, of_model) in enumerate(models.items()):
            for course in (each for each in of_model if each.component == component):
                _draw_course(axes, course, model, number)
        axes.axline((0, 0), slope=1, color="0.6", linestyle="--", linewidth=1, zorder=0, label="undoes nothing")
        axes.axhline(0, color="0.6", linewidth=0.8, zorder=0, label="undoes all")
        axes.legend(frameon=False)
    figure.suptitle(title)
    return figure


def _draw_course(axes: Axes, course: Course, model: str, number: int) -> None:
    after, varies = np.array(course.after), np.array(course.varies)
    axes.plot(course.before, after, color=f"C{number}", linewidth=1.2, marker=".", markersize=5, label=model)
    axes.fill_between(course.before, after - varies, after + varies, color=f"C{number}", alpha=0.15, linewidth=0)
    unit = f" ({course.unit})" if course.unit else ""
    axes.set_xlabel(f"{course.component}{unit}, as distorted")
    axes.set_ylabel("left after the transformer")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def errors_by_digits(trials: Sequence[Measured]) -> Figure:
    """The error in percent against the number of training digits, both on log axes, in a panel for each dataset."""
    datasets = list(dict.fromkeys(trial.dataset for trial in trials))
    models = list(dict.fromkeys(trial.model for trial in trials))
    figure = Figure(figsize=(0.5 + 4.5 * len(datasets), 4), layout="constrained")
    for axes, dataset in zip(figure.subplots(1, len(datasets), squeeze=False)[0], datasets, strict=True):
        here = [trial for trial in trials if trial.dataset == dataset]
        for model in dict.fromkeys(trial.model for trial in here):
            errors: dict[int, list[float]] = {}
            for trial in here:
                if trial.model == model:
                    errors.setdefault(trial.result.training_digits, []).append(trial.result.error)
            digits = sorted(errors)
            _draw(axes, digits, [errors[count] for count in digits], model, models.index(model))
        axes.set_title(dataset)
        axes.set_xlabel("training digits")
        axes.set_xscale("log")
        axes.set_xticks(sorted({trial.result.training_digits for trial in here}))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylabel(f"{here[0].result.split} error (%)")
        axes.legend(frameon=False)
    return figure


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
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
