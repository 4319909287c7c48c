"""From a run's files to three tables: what each trial found, what each model reached, and who is ahead. Torch-free.

- `trials`: a row for each dataset, model and seed; a column for each measure (see stn_train.report.measures).
- `summary`: a row for each dataset and model; a measure with a 95 % interval has two more columns, `_low` and `_high`.
- `comparisons`: a row for each pair of models on the same images and seeds.

Terminal, HTML, Markdown, report.json, report.csv and notebooks show these, and compute nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stn_train.errors import UserError
from stn_train.evaluation.metrics import (
    LEVELS,
    AlignmentMetrics,
    Factor,
    ResidualCurve,
    Robustness,
    TransformerWarning,
    others,
    trained_range,
    warnings_of,
)
from stn_train.report.measures import MEASURES, Measure, measured
from stn_train.run_folder import RunFolder, Timing, TrialResult
from stn_train.specs import ExperimentSpec, ModelSpec, TrialSpec, baseline_of, control_names, pose_is_known
from stn_train.statistics import LEVEL, Estimate, compare, error_over_seeds, holm, mean_over_seeds

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
    errors: the epochs done, and the error in percent then, for each record of the training.
    """

    row: dict[str, Any]
    label: NDArray[np.integer]
    predicted: NDArray[np.integer]
    digit: NDArray[np.integer]
    spec: TrialSpec | None = None
    warnings: tuple[TransformerWarning, ...] = ()
    residual_curves: tuple[ResidualCurve, ...] | None = None
    robustness: Robustness | None = None
    errors: tuple[tuple[int, float], ...] = ()

    @property
    def key(self) -> str:
        """`dataset/model/seed-0`."""
        return f"{self.row['dataset']}/{self.row['model']}/seed-{self.row['seed']}"


@dataclass(frozen=True)
class Robust:
    """All that is known of how robust the networks of a run are; errors in percent, `images` of each point of a factor.

    curves: a row for each dataset, model and factor. `trained`: from where to where training has seen the factor;
    `errors`: at each of the `levels`, of each seed. crossed: a row for each dataset that networks were `trained_on` and
    each model. `errors`: by the datasets of the run, the mean over the seeds; None where it cannot be asked.
    """

    images: dict[Factor, int]
    curves: pd.DataFrame
    crossed: pd.DataFrame


@dataclass(frozen=True)
class Results:
    """What a run, or several side by side, has found: the one thing that every view of results reads.

    trials, summary, comparisons: see above. In `comparisons`, `part` is "all" for a model against its baseline, whose
    p are adjusted for each other (Holm); the other parts tell where the gain of the model `of` comes from: "size"
    (frozen at the identity, against the baseline), "transforming" (the model against that), "supervised" and "oracle"
    (with the true pose, against the model). Differences are in percentage points of error, below zero where `model` has
    fewer errors than `baseline`.

    confusions: classes x classes counts, rows the true class, summed over the seeds. class_names: by dataset.
    residual_curves: means over the seeds. warnings: of each trial's transformers at the end of training. experiment:
    None where it is not that of one. files: what was written of them, the report and its pictures. pose_unknown: the
    names of its datasets of which no image's pose is known (see pose_is_known).
    """

    trials: pd.DataFrame
    summary: pd.DataFrame
    comparisons: pd.DataFrame
    confusions: dict[Cell, NDArray[np.integer]]
    residual_curves: dict[Cell, tuple[ResidualCurve, ...]]
    warnings: list[tuple[Trial, TransformerWarning]] = field(repr=False)
    experiment: ExperimentSpec | None = None
    robustness: Robust | None = None
    files: Sequence[Path] = ()
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    pose_unknown: tuple[str, ...] = ()


def read_trial(folder: RunFolder, spec: TrialSpec, baseline: str | None) -> Trial:
    """Read what a trial wrote. Raises UserError where a file is missing or damaged."""
    files = folder.trial(spec)
    result, epochs = files.load(TrialResult, files.result), files.load_metrics()
    arrays, trial = files.load_predictions(result.trial.dataset.addition), result.trial
    label, predicted, digit = (arrays[name].astype(np.int64) for name in ("label", "predicted", "digit"))
    classes = trial.classes
    for name, numbers, most in (
        ("label", label, classes),
        ("predicted", predicted, classes),
        ("digit", digit, _MOST_DIGITS),
    ):
        if ((numbers < 0) | (numbers >= most)).any():
            raise UserError(f"{files.predictions} is damaged: {name} is not between 0 and {most - 1}; {files.anew}")
    if (len(label), int((predicted != label).sum())) != (result.images, result.errors):
        raise UserError(f"{files.predictions} and {files.result} do not agree; delete both and run the trial again")
    timing, latest = files.load(Timing, files.timing), epochs[-1] if epochs else None
    alignment = files.load(AlignmentMetrics, files.alignment) if files.alignment.exists() else None
    robustness = files.load(Robustness, files.robustness) if files.robustness.exists() else None
    row = _identity(result, baseline) | {"device": timing.device, "threads": timing.threads}
    row |= measured(result, timing, alignment, epochs, robustness)
    warnings = tuple(warnings_of(latest, trial.training)) if latest else ()
    curves = alignment.residual_curves if alignment else None
    errors = tuple((epoch.epoch, epoch.error) for epoch in epochs)
    return Trial(row, label, predicted, digit, trial, warnings, curves, robustness, errors)


def _identity(result: TrialResult, baseline: str | None) -> dict[str, Any]:
    """What a row of the table `trials` says of a trial before any measure."""
    trial = result.trial
    return {
        "dataset": trial.dataset.name,
        "model": trial.model.name,
        "seed": trial.seed,
        "baseline": baseline,
        "transforms": trial.model.transformer is not None,
        "tta_angles": trial.model.tta_angles,
        "classes": trial.classes,
        "source": trial.source.label,
        "split": result.split,
        "precision": result.precision,
    }


def read_trials(folder: RunFolder, experiment: ExperimentSpec) -> list[Trial]:
    """The finished trials of a run, dataset by dataset and model by model.

    Raises UserError where a file is missing or damaged.
    """
    finished, trials = folder.finished(experiment), []
    for dataset, model in product(experiment.datasets, experiment.models):
        baseline = baseline_of(model, experiment.models)
        for spec in finished:
            if (spec.dataset.name, spec.model.name) == (dataset.name, model.name):
                trials.append(read_trial(folder, spec, baseline.name if baseline else None))
    return trials


def read_evaluation(
    result: TrialResult,
    trained_on: str,
    images: tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.integer]],
    alignment: AlignmentMetrics | None,
    models: tuple[ModelSpec, ...],
) -> Trial:
    """What a checkpoint made of a dataset, as a trial beside those of `models`; `images`: label, predicted and digit.

    The dataset is called `tested (trained on another)` where these are two. What only a training has is missing.
    """
    trial = result.trial
    elsewhere = trial.dataset.name != trained_on
    baseline = baseline_of(trial.model, models)
    row = _identity(result, baseline.name if baseline else None) | measured(result, None, alignment, [])
    if elsewhere:
        row |= {"dataset": f"{trial.dataset.name} (trained on {trained_on})", "paper_error": None}
    return Trial(row, *images, trial)


def results_of(folder: RunFolder, experiment: ExperimentSpec | None = None) -> Results:
    """What a run has found so far; `experiment` is the folder's, where it has been read already.

    Raises UserError where a file is missing or damaged, where the trials of one dataset were not evaluated on the same
    images, or where none has finished.
    """
    experiment = experiment or folder.load_experiment()
    trials = read_trials(folder, experiment)
    if not trials:
        raise UserError(f"{folder.path} has nothing to report yet: none of its trials has finished")

    # Each dataset's models after as long a training as its shortest; between two epochs, on the line through them.
    seconds: dict[str, float] = {}
    for trial in trials:
        seconds[trial.row["dataset"]] = min(trial.row["training_seconds"], seconds.get(trial.row["dataset"], math.inf))
    for index, trial in enumerate(trials):
        if not trial.errors:
            continue
        epochs, errors = zip(*trial.errors, strict=True)
        reached = epochs[-1] * seconds[trial.row["dataset"]] / (trial.row["training_seconds"] or math.inf)
        if reached >= epochs[0]:
            accuracy = 100 - float(np.interp(reached, epochs, errors))
            trials[index] = replace(trial, row=trial.row | {"accuracy_at_equal_time": accuracy})
    unknown = tuple(one.name for one in experiment.datasets if not pose_is_known(one, experiment.source))
    found = tabulate(trials)
    return replace(found, experiment=experiment, robustness=robust(experiment, trials), pose_unknown=unknown)


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
    summary = []  # a row for each dataset and model, over their seeds
    confusions: dict[Cell, NDArray[np.integer]] = {}
    for (dataset, model), seeds in cells.items():
        first_row = seeds[0].row
        classes = int(first_row["classes"])
        pairs = np.concatenate([trial.label * classes + trial.predicted for trial in seeds])
        confusions[dataset, model] = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        baseline = {trial.row["seed"] for trial in cells.get((dataset, first_row["baseline"]), [])}
        row = {key: first_row[key] for key in _OF_ALL_SEEDS} | {
            "precision": ", ".join(sorted({trial.row["precision"] for trial in seeds})),
            "seeds": tuple(trial.row["seed"] for trial in seeds),
            "seed_errors": tuple(trial.row["error"] for trial in seeds),
            "paired_seeds": tuple(trial.row["seed"] for trial in seeds if trial.row["seed"] in baseline),
        }
        for measure in shown:
            row |= over_seeds(measure, seeds)
        summary.append(row)
    curves = {cell: _mean_curves(seeds) for cell, seeds in cells.items()}
    return Results(
        trials=pd.DataFrame([{key: trial.row.get(key) for key in columns} for trial in trials]),
        summary=pd.DataFrame(summary),
        comparisons=comparisons_of(cells),
        confusions=confusions,
        class_names={
            dataset: trial.spec.class_names if trial.spec else tuple(map(str, range(trial.row["classes"])))
            for dataset, trial in first.items()
        },
        residual_curves={cell: found for cell, found in curves.items() if found},
        warnings=[(trial, warning) for trial in trials for warning in trial.warnings],
    )


def over_seeds(measure: Measure, seeds: Sequence[Trial]) -> dict[str, float | None]:
    """What several seeds have of a measure, by column of `summary`: the number and, where it has one, its interval."""
    key, how = measure.key, measure.over_seeds
    values = [one.row[key] for one in seeds if one.row[measure.among or key] is not None]
    if how == "same":
        return {key: seeds[0].row[key]}
    if how == "mean":
        return {key: sum(values) / len(values) if values else None}
    if how == "pooled_class_error":
        shown = seeds[0].label == int(key.rsplit("_")[-1])
        wrong = sum(int((one.predicted != one.label)[shown].sum()) for one in seeds)
        return {key: 100 * wrong / (len(seeds) * int(shown.sum())) if shown.any() else None}
    if how in ("pooled_error", "pooled_accuracy"):
        found = error_over_seeds(np.stack([one.predicted != one.label for one in seeds]), seeds[0].digit)
        if how == "pooled_accuracy":
            found = Estimate(100 - found.value, 100 - found.high, 100 - found.low)
    elif values and None not in values:
        mean = mean_over_seeds(values)
        found = Estimate(mean.value, max(mean.low, measure.least), min(mean.high, measure.most))
    else:
        return dict.fromkeys((key, f"{key}_low", f"{key}_high"))
    return {key: found.value, f"{key}_low": found.low, f"{key}_high": found.high}


_NUMBERED = ("classes", "diagnostics")
"""Groups of measures that have columns only where a trial has a number: of a class, or of a transformer."""
_OF_ALL_SEEDS = ("dataset", "model", "baseline", "transforms", "tta_angles", "source", "split")
_NAMES = (*_OF_ALL_SEEDS[:2], "seed", *_OF_ALL_SEEDS[2:], "precision", "device", "threads")
_COMPARED = (
    *("dataset", "of", "part", "model", "baseline", "seeds", "difference", "difference_low", "difference_high", "p"),
    *("adjusted_p", "shown", "mcnemar"),
)


def paired_errors(
    model: Sequence[Trial], baseline: Sequence[Trial]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.integer]] | None:
    """What two models of a dataset got wrong (S x M each), over the S seeds that both have finished, and the digits.

    None where there is no such seed.
    """
    mine, theirs = ({one.row["seed"]: one for one in trials} for trials in (model, baseline))
    pairs = [(mine[seed], theirs[seed]) for seed in mine if seed in theirs]
    if not pairs:
        return None
    model_wrong, baseline_wrong = (
        np.stack([one.predicted != one.label for one in side]) for side in zip(*pairs, strict=True)
    )
    return model_wrong, baseline_wrong, pairs[0][1].digit


def comparisons_of(cells: dict[Cell, list[Trial]]) -> pd.DataFrame:
    """The table `comparisons`: models and baselines, then what the gains of those that have controls are made of."""
    whole: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    for (dataset, model), seeds in cells.items():
        identity, supervised, oracle = control_names(model)
        baseline = seeds[0].row["baseline"]
        pairs = {
            "all": (model, baseline),
            "size": (identity, baseline),
            "transforming": (model, identity),
            "supervised": (supervised, model),
            "oracle": (oracle, model),
        }
        rows = {}
        for part, names in pairs.items():
            paired = paired_errors(*(cells.get((dataset, name or ""), []) for name in names))
            if paired is None:
                continue
            found = compare(*paired)
            rows[part] = {
                **{"dataset": dataset, "of": model, "part": part, "model": names[0], "baseline": names[1]},
                **{"seeds": len(paired[0]), "p": found.p, "adjusted_p": math.nan, "shown": False},
                **{"mcnemar": found.mcnemar, "difference": found.difference.value},
                **{"difference_low": found.difference.low, "difference_high": found.difference.high},
            }
        whole += [rows.pop("all")] if "all" in rows else []
        parts += rows.values() if {"size", "transforming"} <= rows.keys() else []
    for row, adjusted in zip(whole, holm([row["p"] for row in whole]), strict=True):
        row |= {"adjusted_p": adjusted, "shown": adjusted < LEVEL}
    return pd.DataFrame(whole + parts, columns=_COMPARED).astype({"adjusted_p": float})


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
    curves, crossed = [], []
    images: dict[Factor, int] = {}
    for (dataset, model), seeds in cells.items():
        first = seeds[0][0]
        assert first.spec
        own = first.spec.dataset
        most = first.row["clipped"] / first.row["images"] + _CLIPPED
        for factor in LEVELS:
            of_seeds = [{one.level: one for one in found.points if one.factor == factor} for _, found in seeds]
            at_levels = [[points[level] for points in of_seeds if level in points] for level in LEVELS[factor]]
            asked = [points for points in at_levels if len(points) == len(seeds)]
            levels = [points for points in asked if points[0].clipped / points[0].images <= most]
            if not levels:
                continue
            images[factor] = levels[0][0].images
            errors = tuple(tuple(100 * point.errors / point.images for point in points) for points in levels)
            row = {"dataset": dataset, "model": model, "factor": factor, "trained": trained_range(first.spec, factor)}
            curves.append({**row, "levels": tuple(points[0].level for points in levels), "errors": errors})

        if len(experiment.datasets) < 2:
            continue
        # Tested on the run's other datasets; a record of another dataset of the same name says nothing of this one.
        meant = others(own, experiment.datasets)
        by_name: dict[str, list[float]] = {own.name: [trial.row["error"] for trial, _ in seeds]}
        for other in (other for _, found in seeds for other in found.crossed if other.dataset in meant):
            by_name.setdefault(other.dataset.name, []).append(100 * other.errors / other.images)
        of_all = {name: sum(each) / len(each) for name, each in by_name.items() if len(each) == len(seeds)}
        mean_errors = {name: of_all.get(name) for name in (each.name for each in experiment.datasets)}
        crossed.append({"trained_on": dataset, "model": model, "errors": mean_errors})
    return Robust(images, pd.DataFrame(curves), pd.DataFrame(crossed)) if cells else None
