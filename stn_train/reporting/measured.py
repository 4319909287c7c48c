"""What a trial measured, read from its files, and how trials of two models compare. Torch-free."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stn_train.errors import UserError
from stn_train.evaluation.evidence import Evidence
from stn_train.reporting.records import EpochRecord, Timing, TrialFolder, TrialResult
from stn_train.specs import TrialSpec
from stn_train.statistics import Comparison, compare

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
    evidence: Evidence | None
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
        evidence=folder.load_evidence(),
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
