"""Runs side by side: what each model of a run reached, against the same model of the first run. Torch-free."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stn_train.errors import UserError
from stn_train.report.results import BySeed, Measured, Row, corrected_rows, finished_trials, measured, row_of
from stn_train.run_folder import RunFolder


@dataclass(frozen=True)
class _Run:
    """A run by its folder's name: on each dataset, for each model, the finished trials by seed."""

    name: str
    datasets: dict[str, dict[str, BySeed]]


def compare_runs(folders: Sequence[RunFolder]) -> list[Row]:
    """A row for every model that has finished on a dataset of the first run, called `model (folder)`.

    The baseline of a row is the model of the same name in the first run or, where that has a single model on the
    dataset, this one. Raises UserError where a folder holds no run or nothing has finished there, where a dataset is
    not the same everywhere, or where no later run can be compared with the first.
    """
    first, *others = [_read(folder) for folder in folders]
    rows = []
    for dataset, baselines in first.datasets.items():
        rows += [_row(first, model, trials) for model, trials in baselines.items()]
        for run in others:
            for model, trials in run.datasets.get(dataset, {}).items():
                _check_same_dataset(first, next(iter(baselines.values())), run, trials)
                baseline = model if model in baselines else next(iter(baselines)) if len(baselines) == 1 else None
                rows.append(_row(run, model, trials, first, baseline))
    if not any(row.comparison for row in rows):
        raise UserError(
            f"nothing in {', '.join(run.name for run in others)} can be compared with {first.name}: they have no "
            "dataset, model and seed in common"
        )
    return corrected_rows(rows)


def trials_by_digits(folders: Sequence[RunFolder]) -> list[Measured]:
    """What there is to plot of runs that `compare_runs` can compare: their finished trials on the first's datasets.

    Raises UserError where all were trained on as many digits, or where two runs hold the same trial.
    """
    runs = [_read(folder) for folder in folders]
    of_models = [run.datasets.get(dataset, {}).values() for dataset in runs[0].datasets for run in runs]
    trials = [trial for models in of_models for by_seed in models for trial in by_seed.values()]
    counts = Counter((trial.key, trial.result.training_digits) for trial in trials)
    numbers = {digits for _, digits in counts}
    if len(numbers) == 1:
        raise UserError(
            f"all of these runs trained on {numbers.pop():,} digits, and a plot wants runs that differ in that: "
            "`stn-train run --set training.train_size=1000` makes one"
        )
    for (key, digits), count in counts.items():
        if count > 1:
            raise UserError(
                f"{count} of these runs hold {key} from {digits:,} training digits, which a plot shows once: "
                "name one of them"
            )
    return trials


def _read(folder: RunFolder) -> _Run:
    run = _Run(str(folder.path), {})
    for trial in finished_trials(folder, folder.load_experiment()):
        models = run.datasets.setdefault(trial.dataset.name, {})
        models.setdefault(trial.model.name, {})[trial.seed] = measured(folder.trial(trial), trial)
    if not run.datasets:
        raise UserError(f"{run.name} has nothing to compare yet: none of its trials has finished")
    return run


def _row(
    run: _Run,
    model: str,
    trials: BySeed,
    first: _Run | None = None,
    baseline: str | None = None,
) -> Row:
    dataset = next(iter(trials.values())).dataset
    theirs = first.datasets[dataset][baseline] if first and baseline else {}
    row = row_of(trials, theirs, f"{baseline} ({first.name})" if first and baseline else None)
    return replace(row, model=f"{model} ({run.name})")


def _check_same_dataset(first: _Run, theirs: BySeed, run: _Run, mine: BySeed) -> None:
    """Raise UserError where two runs mean different images by a dataset's name."""
    there, here = (next(iter(trials.values())) for trials in (theirs, mine))
    wanted, meant = ((one.trial.source, one.trial.dataset, one.split) for one in (there.result, here.result))
    if not (meant == wanted and np.array_equal(there.digit, here.digit) and np.array_equal(there.label, here.label)):
        raise UserError(
            f"{first.name} and {run.name} mean different images by {there.dataset}: only the same can be compared"
        )
