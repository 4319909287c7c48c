"""From a run's files to three tables: what each trial found, what each model reached, and who is ahead. Torch-free.

- `trials`: a row for each dataset, model and seed; a column for each measure (see stn_train.report.measures).
- `summary`: a row for each dataset and model; a measure with a 95 % interval has two more columns, `_low` and `_high`.
- `comparisons`: a row for each pair of models on the same images and seeds.

Terminal, HTML, Markdown, report.json, report.csv and notebooks show these, and compute nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stn_train.errors import UserError
from stn_train.evaluation.metrics import LEVELS, Factor, ResidualCurve, Robustness, others, trained_range
from stn_train.report.diagnostics import TransformerWarning, warnings_of
from stn_train.report.measures import MEASURES, Measure, measured, over_seeds
from stn_train.run_folder import RunFolder
from stn_train.specs import ExperimentSpec, TrialSpec, baseline_of, control_names
from stn_train.statistics import Comparison, compare, corrected

_MOST_DIGITS = 1_000_000

_CLIPPED = 0.05
"""The share of images that may lose ink at the canvas's edge beyond the dataset's own: where more do, a level of
robustness is left out."""

Cell = tuple[str, str]
"""A dataset's and a model's name."""


@dataclass(frozen=True)
class Trial:
    """A finished trial: its `row` of the table `trials`, and image by image what its network found.

    label, predicted: (M), classes from 0 on; digit: (M), or (M, 2) where an image shows two. `spec`: what it measured.
    """

    row: dict[str, Any]
    label: NDArray[np.integer]
    predicted: NDArray[np.integer]
    digit: NDArray[np.integer]
    spec: TrialSpec | None = None
    warnings: tuple[TransformerWarning, ...] = ()
    residual_curves: tuple[ResidualCurve, ...] | None = None
    robustness: Robustness | None = None

    @property
    def key(self) -> str:
        """`dataset/model/seed-0`."""
        return f"{self.row['dataset']}/{self.row['model']}/seed-{self.row['seed']}"

    @cached_property
    def confusion(self) -> NDArray[np.integer]:
        """Classes x classes: rows are the true class, columns the predicted one."""
        classes = int(self.row["classes"])
        counts = np.bincount(self.label * classes + self.predicted, minlength=classes**2)
        return counts.reshape(classes, classes)


@dataclass(frozen=True)
class Curve:
    """The error of a model, in percent, against one quantity of the distortion."""

    dataset: str
    model: str
    factor: Factor
    trained: tuple[float, float]
    """From where to where training has seen the quantity."""
    levels: tuple[float, ...]
    errors: tuple[tuple[float, ...], ...]
    """At each level, of each seed."""

    @property
    def means(self) -> tuple[float, ...]:
        """At each level, over the seeds."""
        return tuple(sum(seeds) / len(seeds) for seeds in self.errors)


@dataclass(frozen=True)
class Crossed:
    """The mean error over seeds of a model trained on one dataset and tested on each of the run, in percent.

    None where it cannot be asked.
    """

    trained_on: str
    model: str
    errors: dict[str, float | None]


@dataclass(frozen=True)
class Robust:
    """All that `stn-train robustness` has measured of a run; `images` of each point of the curves, by quantity."""

    images: dict[Factor, int]
    curves: tuple[Curve, ...]
    crossed: tuple[Crossed, ...]

    def of(self, dataset: str) -> dict[Factor, list[Curve]]:
        """The curves of one dataset's models, by quantity."""
        return {
            factor: [curve for curve in self.curves if (curve.dataset, curve.factor) == (dataset, factor)]
            for factor in LEVELS
        }


@dataclass(frozen=True)
class Results:
    """What a run, or several side by side, has found: the one thing that every view of results reads.

    trials, summary, comparisons: see above. In `comparisons`, `part` is "all" for a model against its baseline, whose
    p are adjusted for each other (Holm); the other parts tell where the gain of the model `of` comes from: "size"
    (frozen at the identity, against the baseline), "transforming" (the model against that), "supervised" and "oracle"
    (with the true pose, against the model). Differences are in percentage points of error, below zero where `model` has
    fewer errors than `baseline`.

    confusions: classes x classes counts, rows the true class, summed over the seeds. residual_curves: means over the
    seeds. warnings: of each trial's transformers at the end of training. experiment: None where it is not that of one.
    """

    trials: pd.DataFrame
    summary: pd.DataFrame
    comparisons: pd.DataFrame
    confusions: dict[Cell, NDArray[np.integer]]
    residual_curves: dict[Cell, tuple[ResidualCurve, ...]]
    warnings: list[tuple[Trial, TransformerWarning]] = field(repr=False)
    experiment: ExperimentSpec | None = None
    robustness: Robust | None = None


def finished_trials(folder: RunFolder, experiment: ExperimentSpec) -> list[TrialSpec]:
    """The trials of `experiment` that have a result in `folder`, dataset by dataset and model by model."""
    finished = folder.finished(experiment)
    return [
        trial
        for dataset in experiment.datasets
        for model in experiment.models
        for trial in finished
        if (trial.dataset.name, trial.model.name) == (dataset.name, model.name)
    ]


def read_trial(folder: RunFolder, spec: TrialSpec, baseline: str | None) -> Trial:
    """Read what a trial wrote. Raises UserError where a file is missing or damaged."""
    files = folder.trial(spec)
    result, epochs = files.load_result(), files.load_metrics()
    arrays, trial = files.load_predictions(result.trial.dataset.channels), result.trial
    label, predicted, digit = (arrays[name].astype(np.int64) for name in ("label", "predicted", "digit"))
    classes = trial.dataset.classes
    for name, numbers, most in (
        ("label", label, classes),
        ("predicted", predicted, classes),
        ("digit", digit, _MOST_DIGITS),
    ):
        if ((numbers < 0) | (numbers >= most)).any():
            raise UserError(f"{files.predictions} is damaged: {name} is not between 0 and {most - 1}; {files.anew}")
    if (len(label), int((predicted != label).sum())) != (result.images, result.errors):
        raise UserError(f"{files.predictions} and {files.result} do not agree; delete both and run the trial again")
    timing, alignment, latest = files.load_timing(), files.load_alignment(), epochs[-1] if epochs else None
    robustness = files.load_robustness()
    row = {
        "dataset": spec.dataset.name,
        "model": spec.model.name,
        "seed": spec.seed,
        "baseline": baseline,
        "transforms": trial.model.transformer is not None,
        "tta_angles": trial.model.tta_angles,
        "classes": classes,
        "split": result.split,
        "precision": result.precision,
        "device": timing.device,
        "threads": timing.threads,
        **measured(result, timing, alignment, latest, robustness),
    }
    warnings = tuple(warnings_of(latest, trial.training)) if latest else ()
    curves = alignment.residual_curves if alignment else None
    return Trial(row, label, predicted, digit, trial, warnings, curves, robustness)


def read_trials(folder: RunFolder, experiment: ExperimentSpec) -> list[Trial]:
    """The finished trials of a run. Raises UserError where a file is missing or damaged."""
    baselines = {model.name: baseline_of(model, experiment.models) for model in experiment.models}
    return [
        read_trial(folder, trial, baseline.name if (baseline := baselines[trial.model.name]) else None)
        for trial in finished_trials(folder, experiment)
    ]


def results_of(folder: RunFolder, experiment: ExperimentSpec | None = None) -> Results:
    """What a run has found so far; `experiment` is the folder's, where it has been read already.

    Raises UserError where a file is missing or damaged, where the trials of one dataset were not evaluated on the same
    images, or where none has finished.
    """
    experiment = experiment or folder.load_experiment()
    trials = read_trials(folder, experiment)
    if not trials:
        raise UserError(f"{folder.path} has nothing to report yet: none of its trials has finished")
    return replace(tabulate(trials), experiment=experiment, robustness=robust(experiment, trials))


def tabulate(trials: Sequence[Trial]) -> Results:
    """The tables of some trials, in their order; each is compared with the trials of the same dataset and seed of the
    model that its row names as `baseline`.

    Raises UserError where those of one dataset were not evaluated on the same images.
    """
    cells: dict[Cell, list[Trial]] = {}
    first: dict[str, Trial] = {}
    for trial in trials:
        cells.setdefault((trial.row["dataset"], trial.row["model"]), []).append(trial)
        before = first.setdefault(trial.row["dataset"], trial)
        if not (np.array_equal(trial.digit, before.digit) and np.array_equal(trial.label, before.label)):
            raise UserError(
                f"{before.key} and {trial.key} were evaluated on different images, so they cannot be compared: "
                "delete the older of the two and run again"
            )
    shown = [
        one
        for one in MEASURES
        if not one.group.startswith(_NUMBERED) or any(trial.row.get(one.key) is not None for trial in trials)
    ]
    columns = [*_NAMES, *(one.key for one in shown)]
    comparisons = pd.DataFrame(_comparisons(cells), columns=_COMPARED)
    curves = {cell: _mean_curves(seeds) for cell, seeds in cells.items()}
    return Results(
        trials=pd.DataFrame([{key: trial.row.get(key) for key in columns} for trial in trials]),
        summary=pd.DataFrame([_summary(cells, cell, shown) for cell in cells]),
        comparisons=comparisons.astype({"adjusted_p": float}),
        confusions={cell: np.sum([trial.confusion for trial in seeds], axis=0) for cell, seeds in cells.items()},
        residual_curves={cell: found for cell, found in curves.items() if found},
        warnings=[(trial, warning) for trial in trials for warning in trial.warnings],
    )


_NUMBERED = ("classes", "diagnostics")
"""Groups of measures that have columns only where a trial has a number: of a class, or of a transformer."""
_NAMES = ("dataset", "model", "seed", "baseline", "transforms", "tta_angles", "split", "precision", "device", "threads")
_COMPARED = (
    *("dataset", "of", "part", "model", "baseline", "seeds", "difference", "difference_low", "difference_high", "p"),
    *("adjusted_p", "shown", "mcnemar"),
)


def _summary(cells: dict[Cell, list[Trial]], cell: Cell, measures: Sequence[Measure]) -> dict[str, Any]:
    seeds = cells[cell]
    first = seeds[0].row
    baseline = {trial.row["seed"] for trial in cells.get((cell[0], first["baseline"]), [])}
    row: dict[str, Any] = {
        **{key: first[key] for key in ("dataset", "model", "baseline", "transforms", "tta_angles", "split")},
        "precision": ", ".join(sorted({trial.row["precision"] for trial in seeds})),
        "seeds": tuple(trial.row["seed"] for trial in seeds),
        "seed_errors": tuple(trial.row["error"] for trial in seeds),
        "paired_seeds": tuple(trial.row["seed"] for trial in seeds if trial.row["seed"] in baseline),
    }
    for measure in measures:
        row |= over_seeds(measure, seeds)
    return row


def _comparisons(cells: dict[Cell, list[Trial]]) -> list[dict[str, Any]]:
    """The models against their baselines, and then what the gains of those that have controls are made of."""
    whole, parts = [], []
    for (dataset, model), seeds in cells.items():
        identity, supervised, oracle = control_names(model)
        baseline = seeds[0].row["baseline"]
        whole.append(_compared(cells, dataset, model, "all", model, baseline))
        size = _compared(cells, dataset, model, "size", identity, baseline)
        transforming = _compared(cells, dataset, model, "transforming", model, identity)
        if size and transforming:
            told = _compared(cells, dataset, model, "supervised", supervised, model)
            parts += [size, transforming, told, _compared(cells, dataset, model, "oracle", oracle, model)]
    found, rows = [one for one in whole if one], []
    for (names, _), one in zip(found, corrected([comparison for _, comparison in found]), strict=True):
        rows.append((names, one, one.adjusted, one.is_shown))
    rows += [(names, one, math.nan, False) for names, one in filter(None, parts)]
    return [
        {**names, "seeds": one.seeds, "p": one.p, "mcnemar": one.mcnemar, "adjusted_p": adjusted, "shown": shown}
        | dict(zip(("difference", "difference_low", "difference_high"), astuple(one.difference), strict=True))
        for names, one, adjusted, shown in rows
    ]


def _compared(
    cells: dict[Cell, list[Trial]], dataset: str, of: str, part: str, model: str, baseline: str | None
) -> tuple[dict[str, Any], Comparison] | None:
    """Over the seeds that both have finished; None where there is none."""
    mine, theirs = (
        {trial.row["seed"]: trial for trial in cells.get((dataset, name or ""), [])} for name in (model, baseline)
    )
    paired = [seed for seed in mine if seed in theirs]
    if not paired:
        return None
    model_wrong, baseline_wrong = (
        np.stack([of_seed[seed].predicted != of_seed[seed].label for seed in paired]) for of_seed in (mine, theirs)
    )
    names = {"dataset": dataset, "of": of, "part": part, "model": model, "baseline": baseline}
    return names, compare(model_wrong, baseline_wrong, theirs[paired[0]].digit)


def _mean_curves(seeds: Sequence[Trial]) -> tuple[ResidualCurve, ...]:
    """Over the seeds that have them; empty where those do not have the same components.

    Seeds have as many parts, and the same ones; but where maps bend, parts are of each seed's own mean map.
    """
    of_seeds = [trial.residual_curves for trial in seeds if trial.residual_curves is not None]
    if len({tuple(curve.component for curve in curves) for curves in of_seeds}) > 1:
        return ()
    return tuple(
        ResidualCurve(
            component=curves[0].component,
            **{
                name: tuple(
                    sum(of_part) / len(of_part)
                    for of_part in zip(*(getattr(curve, name) for curve in curves), strict=True)
                )
                for name in ("before", "after", "varies")
            },
        )
        for curves in zip(*of_seeds, strict=True)
    )


def robust(experiment: ExperimentSpec, trials: Sequence[Trial]) -> Robust | None:
    """What has been measured of finished trials; None where nothing has."""
    cells: dict[Cell, list[tuple[Trial, Robustness]]] = {}
    for trial in trials:
        if trial.robustness is not None:
            cells.setdefault((trial.row["dataset"], trial.row["model"]), []).append((trial, trial.robustness))
    if not cells:
        return None
    images = {point.factor: point.images for _, found in next(iter(cells.values())) for point in found.points}
    curves = (_curve(seeds, factor) for seeds in cells.values() for factor in LEVELS)
    several = len(experiment.datasets) > 1
    crossed = tuple(_crossed(seeds, experiment) for seeds in cells.values()) if several else ()
    return Robust(images, tuple(curves), crossed)


def _curve(seeds: Sequence[tuple[Trial, Robustness]], factor: Factor) -> Curve:
    trial = seeds[0][0]
    of_seeds = [[point for point in found.points if point.factor == factor] for _, found in seeds]
    own = trial.row["clipped"] / trial.row["images"]
    levels = [
        points for points in zip(*of_seeds, strict=True) if points[0].clipped / points[0].images <= own + _CLIPPED
    ]
    assert trial.spec
    return Curve(
        dataset=trial.row["dataset"],
        model=trial.row["model"],
        factor=factor,
        trained=trained_range(trial.spec.dataset, factor),
        levels=tuple(points[0].level for points in levels),
        errors=tuple(tuple(100 * point.errors / point.images for point in points) for points in levels),
    )


def _crossed(seeds: Sequence[tuple[Trial, Robustness]], experiment: ExperimentSpec) -> Crossed:
    spec = seeds[0][0].spec
    assert spec
    own, model = spec.dataset, spec.model.name
    meant = others(own, experiment.datasets)  # a record of another dataset of the same name says nothing of this one
    of_seeds = [
        {own.name: trial.row["error"]}
        | {other.dataset.name: 100 * other.errors / other.images for other in found.crossed if other.dataset in meant}
        for trial, found in seeds
    ]
    asked = [dataset.name for dataset in experiment.datasets]
    return Crossed(
        own.name,
        model,
        {
            name: sum(errors[name] for errors in of_seeds) / len(of_seeds)
            if all(name in errors for errors in of_seeds)
            else None
            for name in asked
        },
    )
