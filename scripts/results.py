"""Writes the tables of docs/results.md, the paper's and ours, and draws its picture, from the results that are kept.

    python scripts/results.py runs/table1 runs/tc_paper    # keeps what these runs have finished, then writes the tables
    python scripts/results.py                              # writes the tables from what is kept

What stands above MARK in the page and not between BEGIN and END stays. Two files are kept: docs/results.csv has a row
for each trial, with its measures (see stn_train.report.measures), where it was trained and, as JSON without what is a
default, its configuration; docs/results.npz.xz, a compressed results.npz, has the images' `label/DATASET` (M) and
`digit/DATASET` (M, or M x 2), and `missed/EXPERIMENT/DATASET/MODEL/seed-K` (M), from which comparisons are made: by how
many classes a prediction lies beyond the label, counted on from 0 after the last, which is next to nothing to keep. A
measure that a trial does not have, as when it is older than the measure, is empty.
"""

import csv
import io
import json
import lzma
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray

from stn_train.config import load_config
from stn_train.errors import UserError
from stn_train.report.measures import MEASURES, paper_error
from stn_train.report.page import environment, markdown, records
from stn_train.report.plots import figure_file
from stn_train.report.results import Results, Trial, read_trials, tabulate
from stn_train.report.write import load_environment
from stn_train.run_folder import RunFolder
from stn_train.specs import trials_of
from stn_train.storage import write

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/results.md"
PICTURE = PAGE.with_suffix(".png")
TABLE, ARCHIVE = ROOT / "docs/results.csv", ROOT / "docs/results.npz.xz"
TEMPLATE = Path(__file__).with_suffix(".md.j2")
MARK = "<!-- From here on written by scripts/results.py -->"
BEGIN, END = "<!-- Written by scripts/results.py -->", "<!-- By hand again -->"
ON_THE_PAGE = {
    "table1": "paper/table1",
    "tc_paper": "paper/tc",
    "addition": "paper/addition",
    "fixed": "paper/fixed",
    "longer": "paper/longer",
    "controls": "paper/controls",
    "best": "best",
    "best_longer": "best_longer",
}
"""The configuration of each experiment that the page shows, by its name, in this order."""

OF_TODAY = {
    "verdict": "verdict/all_digits",
    "verdict_few": "verdict/few_digits",
    "verdict_mnist_rot": "verdict/mnist_rot",
    "verdict_time": "verdict/equal_time",
    "verdict_time_mnist_rot": "verdict/equal_time_mnist_rot",
    "verdict_macs": "verdict/equal_macs",
    "verdict_macs_ti": "verdict/equal_macs",
    "verdict_resampling": "verdict/resampling",
    "mnist_rot": "mnist_rot",
}
"""Those that docs/verdict.md shows, which scripts/verdict.py writes; they are kept with the others."""
CONFIGS = ON_THE_PAGE | OF_TODAY

PAPERS = ("paper/table1", "paper/tc", "paper/addition")
"""The configurations of the paper's own tables; paper/longer trains the same cells for longer."""

_TICKS = (0.5, 0.7, 1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50)
_FEW = (0.5, 1, 2, 5, 10, 20, 50)
_WIDE = 8
_SHORT = 3
_THEIRS: dict[str, Any] = {"marker": "|", "ls": "", "ms": 11, "mew": 2}
_OURS = {False: "C0", True: "C1"}
_DOT: dict[bool, dict[str, Any]] = {False: {"marker": "o", "ls": ""}, True: {"marker": "D", "ls": "", "ms": 5}}
"""How ours are drawn, by whether they are above the paper's."""

MADE_ON = ("device_name", "torch", "commit")
"""The columns that tell where a trial was trained, and by what."""

NAMES = ("experiment", "dataset", "model", "seed", "baseline", "transforms", "tta_angles", "classes", "source", "split")
COLUMNS = (*NAMES, "precision", "device", "threads", *MADE_ON, *(one.key for one in MEASURES), "configuration")


@dataclass(frozen=True)
class Machine:
    """Where a trial was trained, and by what."""

    device: str
    torch: str
    commit: str | None


@dataclass(frozen=True)
class Kept:
    """What is kept of an experiment; by dataset and model, for how many epochs and where it was trained."""

    config: str
    results: Results
    models: list[str]
    epochs: dict[tuple[str, str], int]
    made_on: dict[tuple[str, str], list[Machine]]

    @property
    def machines(self) -> list[Machine]:
        """All of them, in the order of the cells."""
        return list(dict.fromkeys(machine for of_cell in self.made_on.values() for machine in of_cell))


def load() -> list[Trial]:
    """The trials that are kept."""
    if not TABLE.exists():
        return []
    numbers = {"seed", "classes", "threads", *(measure.key for measure in MEASURES)}
    trials = []
    packed = io.BytesIO(lzma.decompress(ARCHIVE.read_bytes()))
    with TABLE.open(encoding="utf-8", newline="") as table, np.load(packed, allow_pickle=False) as arrays:
        for line in csv.DictReader(table):
            row = dict.fromkeys(COLUMNS) | {key: text for key, text in line.items() if text}
            row |= {key: number_in(line[key]) for key in numbers & line.keys() if line[key]}
            row["tta_angles"] = tuple(map(float, line["tta_angles"].split()))
            names = (f"label/{line['dataset']}", f"missed/{key_of(row)}", f"digit/{line['dataset']}")
            label, missed, digit = (arrays[name].astype(np.int64) for name in names)
            trials.append(Trial(row, label, (label + missed) % row["classes"], digit))
    return trials


def number_in(text: str) -> float:
    """The number that is written there: the same as was written."""
    return int(text) if text.lstrip("-").isdigit() else float(text)


def save(trials: Sequence[Trial]) -> None:
    """Write what is kept."""
    rows = [
        {key: trial.row.get(key) for key in COLUMNS} | {"tta_angles": " ".join(map(str, trial.row["tta_angles"]))}
        for trial in trials
    ]
    arrays: dict[str, NDArray[np.integer]] = {}
    for trial in trials:
        dataset = trial.row["dataset"]
        arrays |= {f"label/{dataset}": trial.label, f"digit/{dataset}": trial.digit}
        arrays[f"missed/{key_of(trial.row)}"] = (trial.predicted - trial.label) % trial.row["classes"]
    file = io.BytesIO()
    smallest = {name: each.astype(np.min_scalar_type(int(each.max()))) for name, each in arrays.items()}
    np.savez(file, **smallest)  # type: ignore[arg-type]
    table = pd.DataFrame(rows, columns=COLUMNS).dropna(axis="columns", how="all")
    write(ARCHIVE, lzma.compress(file.getvalue()))  # all at once: datasets share their digits
    write(TABLE, table.to_csv(index=False, lineterminator="\n"))


def key_of(row: dict[str, Any]) -> str:
    """A trial's name among all that are kept."""
    return f"{row['experiment']}/{row['dataset']}/{row['model']}/seed-{row['seed']}"


def finished_in(run: RunFolder) -> list[Trial]:
    """A run's finished trials, as they are kept. Raises UserError where a file is missing or damaged."""
    experiment = run.load_experiment()
    if experiment.name not in CONFIGS:
        raise UserError(f"{run.path} is a run of {experiment.name}, and the pages show those of {', '.join(CONFIGS)}")
    trials = read_trials(run, run.load_experiment())
    if not trials:
        raise UserError(f"{run.path} has nothing to keep yet: none of its trials has finished")
    return [as_kept(run, trial) for trial in trials]


def as_kept(run: RunFolder, trial: Trial) -> Trial:
    """The trial with its configuration and its machine."""
    assert trial.spec is not None  # it was read from a run
    folder = run.trial(trial.spec)
    machine = load_environment(folder.environment)
    if machine is None:
        raise UserError(
            f"{folder.environment} is missing, which tells where the trial was trained: delete {folder.path}, and "
            "train it again"
        )
    commit, *dirty = (machine["commit"] or "").split("-")
    made_on = (machine["device"], machine["versions"]["torch"], "-".join([commit[:7], *dirty]) or None)
    configuration = trial.spec.model_dump(mode="json", exclude_defaults=True)
    row = {
        **trial.row,
        **dict(zip(MADE_ON, made_on, strict=True)),
        "experiment": run.load_experiment().name,
        "configuration": json.dumps(configuration, separators=(",", ":")),
    }
    return Trial(row, trial.label, trial.predicted, trial.digit)


def joined(kept: Sequence[Trial], new: Sequence[Trial], run: RunFolder) -> list[Trial]:
    """What is kept, with what a run adds. A trial with the same predictions stays as it was kept, with its machine, but
    for what has been measured since.

    Raises UserError where the same cell keeps trials of another configuration, or a dataset of this name other images.
    """
    trials = {key_of(trial.row): trial for trial in kept}
    images = {trial.row["dataset"]: trial for trial in kept}
    for trial in new:
        of_dataset = images.setdefault(trial.row["dataset"], trial)
        if not all(np.array_equal(getattr(of_dataset, name), getattr(trial, name)) for name in ("label", "digit")):
            raise UserError(f"{run.path} means other images by {trial.row['dataset']} than {ARCHIVE} keeps")
        for other in kept:
            if cell_of(other) == cell_of(trial) and (changed := differences(other, trial)):
                raise UserError(
                    f"{TABLE} keeps another trial than {run.path} as {key_of(other.row)}: {', '.join(changed)}; delete "
                    "its row to keep what the run holds"
                )
        before = trials.get(key_of(trial.row))
        if before is not None and np.array_equal(before.predicted, trial.predicted):
            told = {key: value for key, value in before.row.items() if value is not None}
            trial = replace(before, row=trial.row | told)
        trials[key_of(trial.row)] = trial
    return sorted(trials.values(), key=place_of)


def cell_of(trial: Trial) -> tuple[str, str, str]:
    """Its experiment, dataset and model."""
    return trial.row["experiment"], trial.row["dataset"], trial.row["model"]


def differences(kept: Trial, new: Trial) -> list[str]:
    """What differs between the configurations of two trials, but for their seeds: `training.epochs was 1 and is 2`."""
    before, now = (flat(json.loads(trial.row["configuration"]) | {"seed": None}) for trial in (kept, new))
    keys = [key for key in dict.fromkeys((*before, *now)) if before.get(key) != now.get(key)]
    return [f"{key} was {before.get(key, 'the default')} and is {now.get(key, 'the default')}" for key in keys]


def flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as one, with dots."""
    found: dict[str, Any] = {}
    for key, below in value.items():
        found |= flat(below, f"{prefix}{key}.") if isinstance(below, dict) else {f"{prefix}{key}": below}
    return found


def place_of(trial: Trial) -> tuple[int, int, bool, int, int]:
    """Where it stands: as its configuration has experiments, datasets and models; what that lacks comes last."""
    experiment, dataset, model = cell_of(trial)
    datasets, models = (list(dict.fromkeys(names)) for names in zip(*cells_in(CONFIGS[experiment]), strict=True))
    known = dataset if dataset in datasets else dataset.split("_")[0]  # another reading of it, as rts_wide
    places = ([*CONFIGS].index(experiment), [*datasets, known].index(known), dataset != known)
    return *places, [*models, model].index(model), trial.row["seed"]


@cache
def cells_in(config: str) -> list[tuple[str, str]]:
    """The datasets and models of a configuration that is shipped, as far as it trains them together."""
    return list(dict.fromkeys((trial.dataset.name, trial.model.name) for trial in trials_of(load_config(config))))


def kept_of(name: str, trials: Sequence[Trial]) -> Kept:
    """What is kept of an experiment."""
    mine = [trial for trial in trials if trial.row["experiment"] == name]
    made_on: dict[tuple[str, str], list[Machine]] = {}
    for trial in mine:
        made_on.setdefault(cell_of(trial)[1:], []).append(Machine(*(trial.row[key] for key in MADE_ON)))
    models = list(dict.fromkeys(trial.row["model"] for trial in sorted(mine, key=lambda one: place_of(one)[3])))
    epochs = {cell_of(one)[1:]: json.loads(one.row["configuration"])["training"]["epochs"] for one in mine}
    return Kept(CONFIGS[name], tabulate(mine), models, epochs, made_on)


@dataclass(frozen=True)
class PaperCell:
    """A cell of the paper: its `error` and, where there is one, `ours`, a row of a summary, after so many `epochs`."""

    dataset: str
    model: str
    error: float
    ours: dict[str, Any] | None = None
    epochs: int | None = None

    @property
    def above(self) -> bool:
        """Whether ours is above the paper's figure, both rounded to one decimal, as the paper's is."""
        return self.ours is not None and round(self.ours["error"], 1) > self.error


def papers_cells(kept: Sequence[Kept]) -> list[PaperCell]:
    """Every cell of the paper; ours is of the dataset of the paper's own name where that is kept, else of another
    reading of it, as rts_wide of rts; and of all kept trainings of that the longest, however it ended. Of other digits
    than the paper's there is none."""
    trained: dict[tuple[str, str], list[tuple[int, dict[str, Any]]]] = {}
    for run in kept:
        if run.config in (*PAPERS, "paper/longer"):
            for row in (row for row in records(run.results.summary) if row["paper_error"] is not None):
                key = row["dataset"], row["model"]
                trained.setdefault(key, []).append((run.epochs[key], row))
    cells = []
    for config in PAPERS:
        for trial in (trial for trial in trials_of(load_config(config)) if trial.seed == 0):
            if (error := paper_error(trial)) is not None:
                dataset, model = trial.dataset.name, trial.model.name
                readings = [name for name, of in trained if of == model and name.split("_")[0] == dataset]
                if readings:
                    epochs, ours = max(trained[min(readings, key=len), model], key=lambda one: one[0])
                    cells.append(PaperCell(dataset, model, error, ours, epochs))
                else:
                    cells.append(PaperCell(dataset, model, error))
    return cells


def drawn(cells: Sequence[PaperCell]) -> Figure:
    """A panel for each of the paper's datasets: the paper's figure and ours, with its interval, of each network."""
    datasets = list(dict.fromkeys(cell.dataset for cell in cells))
    rows = math.ceil(len(datasets) / 3)
    figure = Figure(figsize=(11, 3.1 * rows), layout="constrained")
    for number, dataset in enumerate(datasets, start=1):
        axes = figure.add_subplot(rows, 3, number)
        of_dataset = [cell for cell in cells if cell.dataset == dataset]
        for place, cell in enumerate(of_dataset):
            axes.plot(cell.error, place, color="black", **_THEIRS)
            if cell.ours is not None:
                axes.plot([cell.ours["error_low"], cell.ours["error_high"]], [place, place], color=_OURS[cell.above])
                axes.plot(cell.ours["error"], place, color=_OURS[cell.above], **_DOT[cell.above])
        axes.set(xlabel="error (%), log scale", xscale="log", ylim=(len(of_dataset) - 0.5, -0.5))
        axes.set_title(dataset.upper() if len(dataset) <= _SHORT else dataset, fontsize="medium")
        axes.set_yticks(range(len(of_dataset)), [cell.model for cell in of_dataset])
        axes.margins(x=0.1)
        plain_numbers(axes)
    marks = [Line2D([], [], color="black", **_THEIRS)]
    marks += [Line2D([], [], color=_OURS[above], **_DOT[above]) for above in (False, True)]
    said = ["the paper's", "ours, at or below it", "ours, above it"]
    figure.legend(marks, said, loc="outside upper center", ncols=3, frameon=False)
    return figure


def plain_numbers(axes: Axes) -> None:
    """A few numbers on log axes, as 0.5 and 2, and not as powers of ten; fewer where there is more to span."""
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            low, high = axis.get_view_interval()
            axis.set_major_locator(FixedLocator(_FEW if high / low > _WIDE else _TICKS))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter("{x:g}")


def around(path: Path, *marks: str) -> list[str]:
    """What stands in a page before, between and after the marks. Raises UserError where they are not there in order."""
    text, parts = path.read_text(encoding="utf-8"), []
    for mark in marks:
        part, found, text = text.partition(mark)
        if not found:
            raise UserError(f"{path} has no line {mark}, or not in its place; add it where the tables belong")
        parts.append(part)
    return [*parts, text]


def main(runs: Sequence[str]) -> None:
    """Keep what these runs have finished, and write the tables of all that is kept. Raises UserError, and writes
    nothing, where a run does not fit or a page has no place for them."""
    top, _, page, _ = around(PAGE, BEGIN, END, MARK)
    trials = load()
    for run in map(RunFolder, map(Path, runs)):
        trials = joined(trials, finished_in(run), run)
    if runs:
        save(trials)
    kept = [kept_of(name, trials) for name in ON_THE_PAGE if any(trial.row["experiment"] == name for trial in trials)]
    template = environment().from_string(TEMPLATE.read_text(encoding="utf-8"))
    whole = markdown(template, runs=kept)
    cells = papers_cells(kept)
    counted = markdown(template, cells=cells)
    write(PICTURE, figure_file(drawn(cells)))
    write(PAGE, f"{top}{BEGIN}\n\n{counted}\n{END}{page}{MARK}\n\n{whole}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
