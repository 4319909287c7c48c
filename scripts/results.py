"""Writes the tables of docs/results.md and of README.md, the paper's and ours, from the results kept in docs/results.

    python scripts/results.py runs/table1 runs/tc_paper    # keeps what these runs have finished, then writes the tables
    python scripts/results.py                              # writes the tables from what is kept

What stands above MARK in the page stays, and in README.md all that does not stand between BEGIN and END. Of a run,
config.yaml is kept, and of each of its finished trials what the numbers of a report are made of: result.json,
timing.json, environment.json, alignment.json, metrics.jsonl, and predictions.npz without theta. They join what is kept
already, and report.json is that of all. Checkpoints, and what pictures are drawn from, are not kept.

So what is kept is a run's folder, and a copy of it can be gone on from, on any machine:

    mkdir -p runs && cp -r docs/results/table1 runs/
    stn-train run --config paper/table1                    # skips the kept trials; its report has them and the others
"""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from stn_train import storage
from stn_train.config import dump
from stn_train.errors import UserError
from stn_train.evaluation.metrics import LEAST, Component, label
from stn_train.experiment.plan import differences, joined
from stn_train.report.alignment import AlignmentSummary, VarianceSummary
from stn_train.report.cells import EACH_SEED, comparisons, each_seed, estimate, percent, residual_cell, residual_curves
from stn_train.report.documents import json_document
from stn_train.report.page import Block, Bullets, Heading, Table, Text, paragraphs
from stn_train.report.results import Row, finished_trials, measured, rows_of
from stn_train.report.text import gains
from stn_train.report.write import load_environment
from stn_train.run_folder import RunFolder, TrialFolder
from stn_train.specs import ExperimentSpec, TrialSpec, trials_of
from stn_train.storage import write_json, write_text

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGE = DOCS / "results.md"
README = ROOT / "README.md"
KEPT = DOCS / "results"
MARK = "<!-- From here on written by scripts/results.py -->"
BEGIN, END = "<!-- Written by scripts/results.py -->", "<!-- By hand again -->"
CONFIGS = {
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


def keep(run: RunFolder) -> None:
    """Add a run's finished trials to those that are kept of its experiment, and write the report of all of them.

    Raises UserError, and leaves what is kept as it was, where the two do not fit together or a file is damaged.
    """
    experiment = run.load_experiment()
    if experiment.name not in CONFIGS:
        raise UserError(f"{run.path} is a run of {experiment.name}, and the page shows those of {', '.join(CONFIGS)}")
    finished = finished_trials(run, experiment)
    if not finished:
        raise UserError(f"{run.path} has nothing to keep yet: none of its trials has finished")
    kept = RunFolder(KEPT / experiment.name)
    if kept.path.exists():
        experiment = joined(kept.load_experiment(), experiment)
        refuse_other_recipe(kept, experiment, run)
    KEPT.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=KEPT, prefix=".") as scratch:
        merged = RunFolder(Path(scratch) / experiment.name)
        if kept.path.exists():
            shutil.copytree(kept.path, merged.path)
        for trial in finished:
            measured(run.trial(trial), trial)  # refuses what is damaged
            if not run.trial(trial).environment.exists():
                raise UserError(
                    f"{run.trial(trial).environment} is missing, which tells where the trial was trained: delete "
                    f"{run.trial(trial).path}, and train it again"
                )
            keep_trial(run.trial(trial), merged.trial(trial))
        write_text(merged.config, dump(experiment))
        write_json(merged.path / "report.json", json_document(experiment, rows_of(merged), None))
        if kept.path.exists():
            kept.path.rename(Path(scratch) / "before")
        merged.path.rename(kept.path)


def refuse_other_recipe(kept: RunFolder, experiment: ExperimentSpec, run: RunFolder) -> None:
    """Raise UserError where a kept trial is not what `experiment`, which a run has joined, says it is."""
    for trial in finished_trials(kept, experiment):
        before = measured(kept.trial(trial), trial).result.trial
        if before != trial:
            raise UserError(
                f"{kept.trial(trial).path} keeps another trial: {', '.join(differences(before, trial))}; "
                f"delete this folder, or all of {kept.path}, to keep what {run.path} holds"
            )


def keep_trial(trial: TrialFolder, kept: TrialFolder) -> None:
    """Copy what the numbers of a report need of a finished trial; one with the same result stays as it was kept."""
    if kept.result.exists() and kept.result.read_bytes() == trial.result.read_bytes():
        return
    shutil.rmtree(kept.path, ignore_errors=True)
    kept.path.mkdir(parents=True)
    for each in (trial.result, trial.timing, trial.environment, trial.alignment, trial.metrics):
        if each.exists():
            shutil.copyfile(each, kept.path / each.name)
    found = trial.load_predictions(trial.load_result().trial.dataset.channels)
    storage.write_arrays(kept.predictions, {name: smallest(found[name]) for name in ("predicted", "label", "digit")})


def smallest(numbers: np.ndarray) -> np.ndarray:
    """The same numbers, none of them negative, in the smallest type with a sign."""
    return numbers.astype(np.min_scalar_type(-1 - int(numbers.max())))


@dataclass(frozen=True)
class Kept:
    """What is kept of an experiment, and a row for each of its cells."""

    folder: RunFolder
    experiment: ExperimentSpec
    rows: list[Row]

    @property
    def config(self) -> str:
        """The configuration that it is run by."""
        return CONFIGS[self.experiment.name]


def kept_of(name: str) -> Kept:
    """What is kept of the experiment of this name."""
    folder = RunFolder(KEPT / name)
    return Kept(folder, folder.load_experiment(), rows_of(folder))


def tables(runs: Sequence[Kept]) -> str:
    """What stands below MARK, in Markdown."""
    return paragraphs([block for run in runs for block in section(run)] or [Text("Nothing has been kept yet.")])


def section(run: Kept) -> list[Block]:
    """What the page says of one experiment."""
    finished = sum(len(row.seeds) for row in run.rows)
    gained = [f"{sentence}." for sentence in gains(run.rows)]
    every_cell, machines = cells(run)
    return [
        Heading(f"{run.config}: {finished} of {len(trials_of(run.experiment))} trials"),
        Text(
            f"`stn-train run --config {run.config}`; one cell and seed: the same with `--only DATASET/NETWORK --seeds "
            "SEED`."
        ),
        errors(run, with_intervals=True),
        *below("Does a transformer help? Differences in percentage points.", comparisons(run.rows), names=4),
        *([Bullets(gained)] if gained else []),
        *below(
            "Does it remove the distortion? How much of the variation in each component is removed, with the variation "
            "before and after; behind it, where that was measured, how much between two random distortions of the same "
            "digit. The other columns are explained above.",
            what_is_removed(run.rows),
        ),
        *below(
            "Of small distortions as of large ones? How much of either half is gone, on average.",
            residual_curves(run.rows),
        ),
        Text("Every cell: the error of each seed, and what it cost."),
        every_cell,
        machines,
        *above_the_paper(run.rows),
    ]


def below(question: str, lines: Sequence[Sequence[str]], names: int = 2) -> list[Block]:
    """A table below its question; nothing where it has no line but its header."""
    return [Text(question), Table(lines, names)] if len(lines) > 1 else []


def errors(run: Kept, with_intervals: bool) -> Table:
    """A line for each network, a column for each dataset: our error, with its interval or without, and the paper's."""
    found = {(row.dataset, row.model): beside_paper(row, with_intervals) for row in run.rows}
    datasets, models = (
        [entry.name for entry in entries] for entries in (run.experiment.datasets, run.experiment.models)
    )
    datasets = [dataset for dataset in datasets if any((dataset, model) in found for model in models)]
    lines = [[model, *(found.get((dataset, model), "") for dataset in datasets)] for model in models]
    beside = " (the paper's)" if any(row.paper_error is not None for row in run.rows) else ""
    header = f"{run.config}: test error %{' [95 %]' if with_intervals else ''}{beside}"
    return Table([[header, *datasets], *(line for line in lines if any(line[1:]))], names=1)


def beside_paper(row: Row, with_interval: bool) -> str:
    """`**0.87** [0.73, 1.05] (1.2)`: bold where ours is not above the paper's."""
    value, interval = estimate(row.error).split(" ", 1)
    ours = value if row.paper_error is None or is_above_paper(row) else f"**{value}**"
    parts = [ours, interval if with_interval else "", "" if row.paper_error is None else f"({row.paper_error})"]
    return " ".join(filter(None, parts))


def is_above_paper(row: Row) -> bool:
    """Whether our mean error is above the paper's where both are rounded to one decimal, as the paper's is."""
    return row.paper_error is not None and round(row.error.value, 1) > row.paper_error


def what_is_removed(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each network whose transformer's pose can be told, without the columns in which none has anything."""
    told = [(row, row.alignment) for row in rows if row.alignment and row.alignment.pose]
    lines = [
        [
            *(row.dataset, row.model),
            *(spread(alignment, component) for component in LEAST),
            *(f"{share.value:.0f} %" for share in (alignment.overlap.iou, alignment.overlap.ink)),
            ", ".join(f"{100 * one.folded:.0f} %" for one in row.diagnostics),
            within_classes(alignment.within_classes),
        ]
        for row, alignment in told
    ]
    header = ["dataset", "model", *map(label, LEAST), "IoU", "ink in view", "folded", "within-class share"]
    shown = [index for index in range(len(header)) if any(line[index] for line in lines)]
    return [[line[index] for index in shown] for line in (header, *lines)]


def spread(alignment: AlignmentSummary, component: Component) -> str:
    """How much of the variation in a component is removed, and behind it of a digit's: `41 % (51.9 to 30.5 °); 43 %`.

    Empty where there was next to nothing to remove.
    """
    pose, draws = (
        [one for one in poses if one.component == component and one.score]
        for poses in (alignment.pose, alignment.pose_of_a_digit)
    )
    return "; ".join([*map(residual_cell, pose), *(percent(one.score) for one in draws if pose and one.score)])


def within_classes(shares: VarianceSummary | None) -> str:
    """Of images, of what the classifier reads, and of undistorted digits: `89 to 70 % (79)`."""
    if shares is None:
        return ""
    return f"{shares.images.value:.0f} to {shares.output.value:.0f} % ({shares.digits.value:.0f})"


def cells(run: Kept) -> tuple[Table, Bullets]:
    """A line for each cell, and what the numbers in the last column stand for."""
    machines: dict[str, int] = {}
    lines = []
    for row in run.rows:
        folders = [run.folder.trial(trial) for trial in trials_of(run.experiment) if is_of(row, trial)]
        threads = {folder.load_timing().threads for folder in folders}
        made_on = {machines.setdefault(machine(folder), len(machines) + 1) for folder in folders}
        lines.append(
            [
                f"{row.dataset}/{row.model}",
                each_seed(row),
                f"{row.parameters:,}",
                f"{row.macs / 1e6:.1f} M",
                f"{row.training_seconds / 60:.0f} min",
                ", ".join(map(str, sorted(threads))),
                ", ".join(map(str, sorted(made_on))),
            ]
        )
    header = ["cell", EACH_SEED, "parameters", "MACs", "training", "threads", "made on"]
    return Table([header, *lines], names=1), Bullets([f"{number}: {words}" for words, number in machines.items()])


def is_of(row: Row, trial: TrialSpec) -> bool:
    """Whether a row holds what this trial found."""
    return (trial.dataset.name, trial.model.name) == (row.dataset, row.model) and trial.seed in row.seeds


def machine(trial: TrialFolder) -> str:
    """Where a kept trial was trained, and by what."""
    environment = load_environment(trial.environment)
    assert environment is not None  # see `keep`
    commit, *dirty = (environment["commit"] or "").split("-")
    version = "-".join([commit[:7], *dirty])
    where = f"{environment['device']}, torch {environment['versions']['torch']}"
    return f"{where}, commit `{version}`" if commit else where


def above_the_paper(rows: Sequence[Row]) -> list[Text]:
    """Names the cells that are above the paper's figure; nothing if the paper has none."""
    above = [
        f"{row.dataset}/{row.model} ({row.error.value:.2f} against {row.paper_error})"
        for row in rows
        if is_above_paper(row)
    ]
    if above:
        return [Text(f"Above the paper's figure: {', '.join(above)}.")]
    return [Text("No cell is above the paper's figure.")] if any(row.paper_error is not None for row in rows) else []


def around(path: Path, *marks: str) -> list[str]:
    """What stands in a page before, between and after the marks. Raises UserError where they are not there in order."""
    text, parts = path.read_text(encoding="utf-8"), []
    for mark in marks:
        part, found, text = text.partition(mark)
        if not found:
            raise UserError(f"{path} has no line {mark}, or not in its place; add it where the tables belong")
        parts.append(part)
    return [*parts, text]


if __name__ == "__main__":
    try:
        page, _ = around(PAGE, MARK)
        before, _, after = around(README, BEGIN, END)
        for argument in sys.argv[1:]:
            keep(RunFolder(Path(argument)))
    except UserError as error:
        sys.exit(str(error))
    runs = [kept_of(name) for name in CONFIGS if (KEPT / name).exists()]
    PAGE.write_text(f"{page}{MARK}\n\n{tables(runs)}\n", encoding="utf-8")
    short = paragraphs([errors(run, with_intervals=False) for run in runs])
    README.write_text(f"{before}{BEGIN}\n\n{short}\n\n{END}{after}", encoding="utf-8")
