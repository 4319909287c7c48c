"""From a run's folder to rows: what each model reached on each dataset, over the seeds that have finished."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stn_train.errors import UserError
from stn_train.evaluation.evidence import Evidence
from stn_train.reporting.evidence import Undoing, undoing
from stn_train.reporting.paper import paper_error
from stn_train.reporting.records import RunFolder, Timing, TrialFolder, TrialResult
from stn_train.specs import ExperimentSpec, ModelSpec, TrialSpec, baseline_of, trials_of
from stn_train.statistics import Comparison, Estimate, compare, corrected, error_over_seeds


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
    parameters: int
    width: float | None
    multiply_adds: int
    training_seconds: float
    """Of one trial, as are the speeds below: means over the seeds."""
    training_images_per_second: float
    evaluation_images_per_second: float
    split: str
    precision: str
    images: int
    digits: int
    """Distinct digits among the images."""
    clipped: int
    """Images that lost ink at the canvas's edge."""
    class_errors: tuple[float | None, ...]
    """By true class, over the seeds' images together; None for a class without images."""
    transforms: bool
    """Whether it has transformers."""
    undoing: Undoing | None
    """What its transformers do, where they stand where this can be told (see Evidence), of all seeds."""
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
        _refuse_different_images(trials)
        for model in experiment.models:
            baseline = baseline_of(model, experiment.models)
            mine, theirs = (_of_model(one, trials) for one in (model, baseline))
            if mine:
                rows.append(row_of(mine, theirs, baseline.name if baseline else None))
    return corrected_rows(rows)


def corrected_rows(rows: list[Row]) -> list[Row]:
    """The rows that stand in one table, with the p of their comparisons adjusted for each other."""
    adjusted = iter(corrected([row.comparison for row in rows if row.comparison]))
    return [replace(row, comparison=next(adjusted)) if row.comparison else row for row in rows]


@dataclass(frozen=True)
class Measured:
    """A finished trial: what it wrote, and what it got `wrong` (M) of images with a `label` and a `digit` (M)."""

    key: str
    model: str
    dataset: str
    seed: int
    result: TrialResult
    timing: Timing
    label: NDArray[np.integer]
    digit: NDArray[np.integer]
    wrong: NDArray[np.bool_]
    evidence: Evidence | None


def measured(folder: TrialFolder, spec: TrialSpec) -> Measured:
    """Read what a trial wrote. Raises UserError where a file is missing or damaged."""
    result, arrays = folder.load_result(), folder.load_predictions()
    wrong = arrays["predicted"] != arrays["label"]
    if (len(wrong), int(wrong.sum())) != (result.images, result.errors):
        raise UserError(f"{folder.predictions} and {folder.result} do not agree; delete both and run the trial again")
    return Measured(
        key=spec.key,
        model=spec.model.name,
        dataset=spec.dataset.name,
        seed=spec.seed,
        result=result,
        timing=folder.load_timing(),
        label=arrays["label"].astype(np.int64),
        digit=arrays["digit"].astype(np.int64),
        wrong=wrong,
        evidence=folder.load_evidence(),
    )


def _refuse_different_images(trials: list[Measured]) -> None:
    for trial in trials:
        first = trials[0]
        if not (np.array_equal(trial.digit, first.digit) and np.array_equal(trial.label, first.label)):
            raise UserError(
                f"{first.key} and {trial.key} answered for different images, so they cannot be compared: "
                "delete the older of the two and run again"
            )


def _of_model(model: ModelSpec | None, trials: list[Measured]) -> dict[int, Measured]:
    """By seed; none for no model."""
    return {trial.seed: trial for trial in trials if model and trial.model == model.name}


def _wrong(trials: dict[int, Measured], seeds: tuple[int, ...]) -> NDArray[np.bool_]:
    """(S, M): what the networks of these seeds got wrong."""
    return np.stack([trials[seed].wrong for seed in seeds])


def row_of(mine: dict[int, Measured], theirs: dict[int, Measured], baseline: str | None) -> Row:
    """The row of a model's trials by seed, at least one, and those of its baseline, which has this name."""
    trials = list(mine.values())
    first = trials[0]
    result, digit = first.result, first.digit
    seeds = tuple(mine)
    paired = tuple(seed for seed in seeds if seed in theirs)
    evidence = [trial.evidence for trial in trials if trial.evidence]
    confusion = np.sum([trial.result.confusion for trial in trials], axis=0)
    return Row(
        dataset=first.dataset,
        model=first.model,
        seeds=seeds,
        seed_errors=tuple(trial.result.error for trial in trials),
        error=error_over_seeds(_wrong(mine, seeds), digit),
        paper_error=paper_error(result.trial),
        baseline=baseline,
        paired_seeds=paired,
        comparison=compare(_wrong(mine, paired), _wrong(theirs, paired), digit) if paired else None,
        parameters=result.parameters,
        width=result.width,
        multiply_adds=result.multiply_adds,
        training_seconds=_mean([trial.timing.seconds for trial in trials]),
        training_images_per_second=_mean([trial.timing.training_images_per_second for trial in trials]),
        evaluation_images_per_second=_mean([trial.timing.evaluation_images_per_second for trial in trials]),
        split=result.split,
        precision=", ".join(sorted({trial.result.precision for trial in trials})),
        images=result.images,
        digits=result.digits,
        clipped=result.clipped,
        class_errors=tuple(
            float(100 * (row.sum() - row[label]) / row.sum()) if row.sum() else None
            for label, row in enumerate(confusion)
        ),
        transforms=result.trial.model.transformer is not None,
        undoing=undoing(evidence) if len(evidence) == len(trials) else None,
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
