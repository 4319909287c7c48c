"""From a run's folder to rows: what each model reached on each dataset, over the seeds that have finished."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stn_train.errors import UserError
from stn_train.evaluation.metrics import AlignmentMetrics, Diagnostics
from stn_train.report.alignment import AlignmentSummary, summarise
from stn_train.report.diagnostics import mean_diagnostics, warnings_of
from stn_train.report.paper import paper_error
from stn_train.run_folder import EpochRecord, RunFolder, Timing, TrialFolder, TrialResult
from stn_train.specs import ExperimentSpec, TrialSpec, baseline_of, control_names, trials_of
from stn_train.statistics import Comparison, Estimate, compare, corrected, error_over_seeds

_MOST_DIGITS = 1_000_000


@dataclass(frozen=True)
class Measured:
    """A finished trial: what it wrote, and what it got `wrong` (M) of images with a `label` (M) and a `digit` (M; M x C
    for C channels)."""

    key: str
    model: str
    dataset: str
    seed: int
    result: TrialResult
    timing: Timing
    label: NDArray[np.integer]
    digit: NDArray[np.integer]
    wrong: NDArray[np.bool_]
    alignment: AlignmentMetrics | None
    latest: EpochRecord | None
    """The last epoch's record; None where there is no metrics.jsonl."""


BySeed = dict[int, Measured]
"""The trials of a model on a dataset, by seed."""


def measured(folder: TrialFolder, spec: TrialSpec) -> Measured:
    """Read what a trial wrote. Raises UserError where a file is missing or damaged."""
    result, epochs = folder.load_result(), folder.load_metrics()
    classes, arrays = result.trial.dataset.classes, folder.load_predictions(result.trial.dataset.channels)
    label, predicted, digit = (arrays[name].astype(np.int64) for name in ("label", "predicted", "digit"))
    for name, numbers, most in (
        ("label", label, classes),
        ("predicted", predicted, classes),
        ("digit", digit, _MOST_DIGITS),
    ):
        if ((numbers < 0) | (numbers >= most)).any():
            raise UserError(f"{folder.predictions} is damaged: {name} is not between 0 and {most - 1}; {folder.anew}")
    wrong = predicted != label
    if (len(wrong), int(wrong.sum())) != (result.images, result.errors):
        raise UserError(f"{folder.predictions} and {folder.result} do not agree; delete both and run the trial again")
    return Measured(
        key=spec.key,
        model=spec.model.name,
        dataset=spec.dataset.name,
        seed=spec.seed,
        result=result,
        timing=folder.load_timing(),
        label=label,
        digit=digit,
        wrong=wrong,
        alignment=folder.load_alignment(),
        latest=epochs[-1] if epochs else None,
    )


def class_errors(confusion: NDArray[np.integer]) -> tuple[float | None, ...]:
    """The error of each true class (row) of a confusion, in percent; None for a class without images."""
    return tuple(
        float(100 * (row.sum() - row[label]) / row.sum()) if row.sum() else None for label, row in enumerate(confusion)
    )


def wrong_of(trials: BySeed, seeds: tuple[int, ...]) -> NDArray[np.bool_]:
    """(S, M): what the networks of these seeds got wrong."""
    return np.stack([trials[seed].wrong for seed in seeds])


def compared(mine: BySeed, theirs: BySeed) -> Comparison | None:
    """Over the seeds that both have; None where there is none."""
    paired = tuple(seed for seed in mine if seed in theirs)
    return compare(wrong_of(mine, paired), wrong_of(theirs, paired), theirs[paired[0]].digit) if paired else None


@dataclass(frozen=True)
class Gain:
    """Where a model's gain over its baseline comes from; each a comparison over the seeds that both have finished."""

    size: Comparison
    """Its control frozen at the identity against the baseline: what the output's size alone is worth."""
    transforming: Comparison
    """The model against that control."""
    supervised: Comparison | None
    """Its control that is taught the true pose against the model; None where there is no such pose."""
    oracle: Comparison | None
    """Its control that is given the true pose against the model; None where there is no such pose."""


@dataclass(frozen=True)
class Row:
    """What one model reached on one dataset; errors in percent, differences in percentage points."""

    dataset: str
    model: str
    seeds: tuple[int, ...]
    """The seeds that have finished."""
    seed_errors: tuple[float, ...]
    """The error of each of them."""
    error: Estimate
    paper_error: float | None
    """What the paper reports for it, where it does."""
    baseline: str | None
    """The model that it is compared with, where the experiment has one."""
    paired_seeds: tuple[int, ...]
    """The seeds that both it and its baseline have finished."""
    comparison: Comparison | None
    """With its baseline over the paired seeds, or None where there are none; p is adjusted for all rows beside it."""
    gain: Gain | None
    """Where it has the control that is frozen at the identity (see ExperimentSpec)."""
    parameters: int
    width: float | None
    tta_angles: tuple[float, ...]
    """By how many degrees images were turned, to be read again; the MACs are those of all readings."""
    macs: int
    training_seconds: float
    """Of one trial, as are the speeds below: means over the seeds."""
    training_images_per_second: float
    evaluation_images_per_second: float
    split: str
    precision: str
    training_digits: int
    images: int
    digits: int
    """Distinct digits among the images."""
    clipped: int
    """Images that lost ink at the canvas's edge."""
    class_errors: tuple[float | None, ...]
    """By true class, over the seeds' images together; None for a class without images."""
    transforms: bool
    """Whether it has transformers."""
    diagnostics: tuple[Diagnostics, ...]
    """Of each of them at the end of training, in the mean over the seeds."""
    warnings: tuple[str, ...]
    """What was wrong with them at the end of training, seed by seed."""
    alignment: AlignmentSummary | None
    """What its transformers do, where they stand where this can be told (see AlignmentMetrics), of all seeds."""
    confusion: tuple[tuple[int, ...], ...]
    """Rows: true class, columns: predicted; summed over the seeds."""


def finished_trials(folder: RunFolder, experiment: ExperimentSpec) -> list[TrialSpec]:
    """The trials of `experiment` that have a result in `folder`, in the experiment's order."""
    return [trial for trial in trials_of(experiment) if folder.trial(trial).result.exists()]


def rows_of(folder: RunFolder) -> list[Row]:
    """A row for every dataset and model with a finished trial, in the experiment's order.

    Raises UserError where a file is missing or damaged, or where trials of one dataset did not answer for the same
    images.
    """
    experiment = folder.load_experiment()
    finished = finished_trials(folder, experiment)
    rows = []
    for dataset in experiment.datasets:
        trials = [measured(folder.trial(trial), trial) for trial in finished if trial.dataset.name == dataset.name]
        _check_same_images(trials)
        for model in experiment.models:
            baseline = baseline_of(model, experiment.models)
            mine, theirs, *controls = (
                {trial.seed: trial for trial in trials if trial.model == name}
                for name in (model.name, baseline.name if baseline else None, *control_names(model.name))
            )
            if mine:
                row = row_of(mine, theirs, baseline.name if baseline else None)
                rows.append(replace(row, gain=_gain(mine, theirs, *controls)))
    return corrected_rows(rows)


def _gain(mine: BySeed, baseline: BySeed, frozen: BySeed, supervised: BySeed, told: BySeed) -> Gain | None:
    size, transforming = compared(frozen, baseline), compared(mine, frozen)
    return Gain(size, transforming, compared(supervised, mine), compared(told, mine)) if size and transforming else None


def corrected_rows(rows: list[Row]) -> list[Row]:
    """The rows that stand in one table, with the p of their comparisons adjusted for each other."""
    adjusted = iter(corrected([row.comparison for row in rows if row.comparison]))
    return [replace(row, comparison=next(adjusted)) if row.comparison else row for row in rows]


def _check_same_images(trials: list[Measured]) -> None:
    for trial in trials:
        first = trials[0]
        if not (np.array_equal(trial.digit, first.digit) and np.array_equal(trial.label, first.label)):
            raise UserError(
                f"{first.key} and {trial.key} were evaluated on different images, so they cannot be compared: "
                "delete the older of the two and run again"
            )


def row_of(mine: BySeed, theirs: BySeed, baseline: str | None) -> Row:
    """The row of a model's trials by seed, at least one, and those of its baseline, which has this name."""
    trials = list(mine.values())
    first = trials[0]
    result, digit = first.result, first.digit
    seeds = tuple(mine)
    paired = tuple(seed for seed in seeds if seed in theirs)
    alignments = [trial.alignment for trial in trials if trial.alignment]
    confusion = np.sum([trial.result.confusion for trial in trials], axis=0)
    return Row(
        dataset=first.dataset,
        model=first.model,
        seeds=seeds,
        seed_errors=tuple(trial.result.error for trial in trials),
        error=error_over_seeds(wrong_of(mine, seeds), digit),
        paper_error=paper_error(result.trial),
        baseline=baseline,
        paired_seeds=paired,
        comparison=compared(mine, theirs),
        gain=None,
        parameters=result.parameters,
        width=result.width,
        tta_angles=result.trial.model.tta_angles,
        macs=result.macs,
        training_seconds=_mean([trial.timing.seconds for trial in trials]),
        training_images_per_second=_mean([trial.timing.training_images_per_second for trial in trials]),
        evaluation_images_per_second=_mean([trial.timing.evaluation_images_per_second for trial in trials]),
        split=result.split,
        precision=", ".join(sorted({trial.result.precision for trial in trials})),
        training_digits=result.training_digits,
        images=result.images,
        digits=result.digits,
        clipped=result.clipped,
        class_errors=class_errors(confusion),
        transforms=result.trial.model.transformer is not None,
        diagnostics=mean_diagnostics([trial.latest for trial in trials if trial.latest]),
        warnings=tuple(
            f"seed {trial.seed}: {warning.sentence}"
            for trial in trials
            if trial.latest
            for warning in warnings_of(trial.latest, trial.result.trial.training)
        ),
        alignment=summarise(alignments) if len(alignments) == len(trials) else None,
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
