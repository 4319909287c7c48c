"""Runs side by side: what each model of a run reached, against the same model of the first run. Torch-free."""

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from stn_train.errors import UserError
from stn_train.report.page import records, render
from stn_train.report.results import (
    Cell,
    Results,
    Trial,
    comparisons_of,
    paired_errors,
    read_trials,
    tabulate,
)
from stn_train.report.write import json_document
from stn_train.run_folder import RunFolder
from stn_train.specs import changes
from stn_train.specs.experiments import LEAST_TRAIN_SIZE
from stn_train.statistics import POWER, seeds_needed


@dataclass(frozen=True)
class Difference:
    """A key of the configuration, which is `here` in a `run` and `first` in the first.

    models: those of the run that it concerns; empty where it concerns all that are compared.
    """

    run: str
    key: str
    first: Any
    here: Any
    models: tuple[str, ...]


@dataclass(frozen=True)
class SeedsNeeded:
    """How many seeds of each a model of a `run` and its baseline need to show a difference, by the spread of `seeds`.

    needed: None where one seed cannot tell, or where test images of so many `digits` do not let it.
    """

    dataset: str
    run: str
    model: str
    baseline: str
    seeds: int
    digits: int
    needed: int | None


@dataclass(frozen=True)
class ComparedRuns:
    """Runs on the datasets of the first. Every model is called `model (run)`, where a run is called by its folder.

    across: the models of all runs, and each later run's against one of the first. within: the table `comparisons` of
    each run's models with their own baselines. Tables that have a row for a model say in the column `run` whose it is.
    differences: of each later run from the first. renamed: the later runs' models that are compared with the same
    network by another name, and which.
    """

    runs: list[str]
    across: Results
    within: pd.DataFrame
    differences: list[Difference]
    renamed: dict[str, str]
    needed: list[SeedsNeeded] = field(default_factory=list)


def compare_runs(folders: Sequence[RunFolder], points: float | None = None) -> ComparedRuns:
    """Every model that has finished on a dataset of the first run, beside those of the others; see `_partner`.

    points: a difference, of which it is told how many seeds it needs. Raises UserError where a folder holds no run or
    nothing has finished there, where a dataset is not the same everywhere, or where none of several later runs can be
    compared with the first.
    """
    runs = {str(folder.path): _read(folder) for folder in folders}
    name, *names = runs
    across, within, run_of, pairs = [], [], {}, []
    for dataset in dict.fromkeys(trial.row["dataset"] for trial in runs[name]):
        there = [trial for trial in runs[name] if trial.row["dataset"] == dataset]
        for run, trials in runs.items():
            for trial in (trial for trial in trials if trial.row["dataset"] == dataset):
                _check_same_dataset(name, there[0], run, trial)
                partner = _partner(trial, there) if run != name else None
                across.append(_renamed(trial, run, partner.row["model"] if partner else None, name))
                within.append(_renamed(trial, run, trial.row["baseline"], run))
                run_of[across[-1].row["model"]] = run
                pairs += [(run, partner, trial)] if partner else []
    results, own = tabulate(across), _by_cell(within)
    if names and results.comparisons.empty:
        contents = "; ".join(f"{run} has {_contents(trials)}" for run, trials in runs.items())
        raise UserError(
            f"nothing in {', '.join(names)} can be compared with {name}: they have no dataset, model and seed in "
            f"common ({contents})"
        )

    def of_runs(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(run=table["model"].map(run_of))

    return ComparedRuns(
        runs=[*runs],
        across=replace(results, summary=of_runs(results.summary), comparisons=of_runs(results.comparisons)),
        within=of_runs(comparisons_of(own)),
        differences=_differences(pairs),
        renamed={
            _called(trial, run): _called(partner, name)
            for run, partner, trial in pairs
            if trial.row["model"] != partner.row["model"] and _same_network(trial, partner)
        },
        needed=[] if points is None else _seeds_needed(own, _by_cell(across), run_of, points),
    )


def _partner(trial: Trial, there: Sequence[Trial]) -> Trial | None:
    """Of the first run's trials of a dataset, one of the model that a later run's trial is compared with.

    That is the model of the same name; where there is none, the same network by another name; else the first run's
    only model, where it has no other on the dataset.
    """
    models = {one.row["model"]: one for one in reversed(there)}
    alike = models.get(trial.row["model"]) or next((one for one in there if _same_network(one, trial)), None)
    return alike or (there[0] if len(models) == 1 else None)


def _same_network(one: Trial, other: Trial) -> bool:
    """Whether the models of two trials are the same but for their names."""
    assert one.spec
    assert other.spec
    return one.spec.model == other.spec.model.model_copy(update={"name": one.spec.model.name})


def _differences(pairs: Iterable[tuple[str, Trial, Trial]]) -> list[Difference]:
    """What differs between trials of later runs and their partners, once for all models that it concerns."""
    models: dict[str, dict[str, None]] = {}
    found: dict[tuple[str, str, str], tuple[Any, Any, dict[str, None]]] = {}
    for run, partner, trial in pairs:
        assert partner.spec
        assert trial.spec
        model = trial.row["model"]
        models.setdefault(run, {})[model] = None
        other_network = partner.row["model"] != model and not _same_network(partner, trial)
        for key, (first, here) in changes(partner.spec, trial.spec).items():
            if key in ("seed", "model.name") or (other_network and key.startswith(_OF_A_NETWORK)):
                continue
            found.setdefault((run, key, f"{first} {here}"), (first, here, {}))[2][model] = None
    return [
        Difference(run, key, first, here, () if concerned == models[run] else tuple(concerned))
        for (run, key, _), (first, here, concerned) in found.items()
    ]


_OF_A_NETWORK = ("model.", "training.localisation_lr", "training.classifier_delay")
"""What follows from a network's having a transformer or not."""


def _seeds_needed(
    within: dict[Cell, list[Trial]], across: dict[Cell, list[Trial]], run_of: dict[str, str], points: float
) -> list[SeedsNeeded]:
    """Of each model, first against its own baseline, then against the first run's model."""
    found = []
    for (dataset, model), cells in product(within, (within, across)):
        mine = cells[dataset, model]
        baseline = mine[0].row["baseline"]
        paired = paired_errors(mine, cells.get((dataset, baseline), []))
        if paired is not None:
            seeds, digits = len(paired[0]), len(np.unique(paired[2]))
            needed = seeds_needed(*paired, points) if seeds > 1 else None
            found.append(SeedsNeeded(dataset, run_of[model], model, baseline, seeds, digits, needed))
    return found


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
        digits, run = numbers.pop(), folders[0]
        few, way_out = max(digits // 2, LEAST_TRAIN_SIZE), "name a run that trained on another number, too"
        if few < digits and run.load_experiment().prebuilt is None:
            size, folder = f"training.train_size={few}", f"{run.path}-{few}"
            command = ["stn-train", "run", "--config", str(run.config), "--set", size, "--output-dir", folder]
            way_out = f"this trains on {few:,} of them: `{shlex.join(command)}`"
        raise UserError(
            f"all of these runs trained on {digits:,} digits, and the plot shows the error against that number; "
            f"{way_out}"
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


def _renamed(trial: Trial, run: str, baseline: str | None, baselines_run: str) -> Trial:
    """The trial with its model called `model (run)`, and `baseline (baselines_run)` as that one's baseline."""
    named = {"model": _called(trial, run), "baseline": baseline and f"{baseline} ({baselines_run})"}
    return replace(trial, row=trial.row | named)


def _called(trial: Trial, run: str) -> str:
    return f"{trial.row['model']} ({run})"


def _contents(trials: Sequence[Trial]) -> str:
    """What a run has finished: `rts: cnn, st_cnn; seeds 0, 1`."""
    datasets, models, seeds = (
        ", ".join(dict.fromkeys(str(trial.row[key]) for trial in trials)) for key in ("dataset", "model", "seed")
    )
    return f"{datasets}: {models}, of seeds {seeds}"


def _check_same_dataset(first: str, theirs: Trial, run: str, mine: Trial) -> None:
    """Raise UserError where two runs mean different images by a dataset's name."""
    same = all(np.array_equal(getattr(theirs, name), getattr(mine, name)) for name in ("digit", "label"))
    drawn = [(one.spec.source, one.row["split"], one.spec.dataset) for one in (theirs, mine) if one.spec]
    if drawn[0] != drawn[1] or not same:
        kinds = ("digits of different sources", "test and validation digits", "different distortions")
        what = next((kind for kind, one, other in zip(kinds, *drawn, strict=True) if one != other), "different digits")
        raise UserError(
            f"{first} and {run} cannot be compared on {theirs.row['dataset']}: they were evaluated on different images "
            f"({what})"
        )


def _by_cell(trials: Sequence[Trial]) -> dict[Cell, list[Trial]]:
    """Trials by their dataset and model, in their order."""
    cells: dict[Cell, list[Trial]] = {}
    for trial in trials:
        cells.setdefault((trial.row["dataset"], trial.row["model"]), []).append(trial)
    return cells


def side_by_side(found: ComparedRuns, points: float | None = None) -> str:
    """What differs between runs, a table, the verdicts, each run's own, and the seeds that `points` need."""
    return render("text.j2", "side_by_side", found, points)


def compared_document(found: ComparedRuns, points: float | None) -> dict[str, Any]:
    """Runs side by side, as plain values: what `stn-train compare --json` prints. points: as `compare_runs` has it."""
    return {
        **json_document(found.across),
        "within_runs": records(found.within),
        "runs": found.runs,
        "differences": [asdict(one) for one in found.differences],
        "renamed": found.renamed,
        "power": points and {"points": points, "share": POWER, "seeds": [asdict(one) for one in found.needed]},
    }
