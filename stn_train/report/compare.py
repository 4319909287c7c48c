"""Runs side by side: what each model of a run reached, against the same model of the first run. Torch-free."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from stn_train.errors import UserError
from stn_train.report.results import Results, Trial, read_trials, tabulate
from stn_train.run_folder import RunFolder


def compare_runs(folders: Sequence[RunFolder]) -> Results:
    """The results of every model that has finished on a dataset of the first run, called `model (folder)`.

    Its baseline is the model of the same name in the first run or, where that has a single model on the dataset, this
    one. Raises UserError where a folder holds no run or nothing has finished there, where a dataset is not the same
    everywhere, or where no later run can be compared with the first.
    """
    first, *others = [_read(folder) for folder in folders]
    name, *names = [str(folder.path) for folder in folders]
    trials = []
    for dataset in dict.fromkeys(trial.row["dataset"] for trial in first):
        mine = [trial for trial in first if trial.row["dataset"] == dataset]
        models = list(dict.fromkeys(trial.row["model"] for trial in mine))
        trials += [_renamed(trial, name, None) for trial in mine]
        for run, theirs in zip(names, others, strict=True):
            for trial in (trial for trial in theirs if trial.row["dataset"] == dataset):
                _check_same_dataset(name, mine[0], run, trial)
                model = trial.row["model"]
                baseline = model if model in models else models[0] if len(models) == 1 else None
                trials.append(_renamed(trial, run, baseline and f"{baseline} ({name})"))
    results = tabulate(trials)
    if results.comparisons.empty:
        raise UserError(
            f"nothing in {', '.join(names)} can be compared with {name}: they have no dataset, model and seed in common"
        )
    return results


def trials_by_digits(folders: Sequence[RunFolder]) -> pd.DataFrame:
    """What there is to plot of runs that `compare_runs` can compare: the table `trials`, on the first run's datasets.

    Raises UserError where all were trained on as many digits, or where two runs hold the same trial.
    """
    runs = [_read(folder) for folder in folders]
    datasets = list(dict.fromkeys(trial.row["dataset"] for trial in runs[0]))
    trials = [trial for each in datasets for run in runs for trial in run if trial.row["dataset"] == each]
    counts = Counter((trial.key, trial.row["training_digits"]) for trial in trials)
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
    return pd.DataFrame([trial.row for trial in trials])


def _read(folder: RunFolder) -> list[Trial]:
    trials = read_trials(folder, folder.load_experiment())
    if not trials:
        raise UserError(f"{folder.path} has nothing to compare yet: none of its trials has finished")
    return trials


def _renamed(trial: Trial, run: str, baseline: str | None) -> Trial:
    return replace(trial, row=trial.row | {"model": f"{trial.row['model']} ({run})", "baseline": baseline})


def _check_same_dataset(first: str, theirs: Trial, run: str, mine: Trial) -> None:
    """Raise UserError where two runs mean different images by a dataset's name."""
    same = all(np.array_equal(getattr(theirs, name), getattr(mine, name)) for name in ("digit", "label"))
    drawn = [(one.spec.source, one.spec.dataset, one.row["split"]) for one in (theirs, mine) if one.spec]
    if drawn[0] != drawn[1] or not same:
        raise UserError(
            f"{first} and {run} mean different images by {theirs.row['dataset']}: only the same can be compared"
        )
