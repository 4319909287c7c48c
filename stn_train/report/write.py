"""The report of a run's folder: written from its saved files, as often as one likes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stn_train import storage
from stn_train.errors import UserError
from stn_train.report.documents import csv_document, json_document
from stn_train.report.page import Picture, html, markdown, picture_in
from stn_train.report.plots import confusions, learning_curves, png, residual_curves, robustness_curves
from stn_train.report.results import Row, finished_trials, rows_of
from stn_train.report.robustness import Robust, robust
from stn_train.report.sections import sections
from stn_train.report.snapshots import Drawing, drawings
from stn_train.run_folder import EpochRecord, RunFolder
from stn_train.specs import ExperimentSpec, TrialSpec
from stn_train.storage import check_links, clear_leftovers, folder_lock, write_bytes, write_json, write_text


@dataclass(frozen=True)
class Report:
    """What was written: an experiment's rows, and the files that show them."""

    experiment: ExperimentSpec
    rows: list[Row]
    files: list[Path]


def write_report(folder: RunFolder) -> Report:
    """Write report.json, report.csv, report.md, report.html and the figures from what has finished in `folder`.

    The same files give the same report, byte for byte. Raises UserError where no trial has finished, or where a file
    is missing or damaged.
    """
    experiment = folder.load_experiment()
    if not finished_trials(folder, experiment):
        raise UserError(f"{folder.path} has nothing to report yet: none of its trials has finished")
    rows = rows_of(folder)
    environment = load_environment(folder.environment)
    found = robust(folder, experiment)
    figures = _draw(folder, experiment, rows, found)
    blocks = sections(experiment, rows, found, figures, environment)
    document, table, reading, page = (folder.path / f"report.{ending}" for ending in ("json", "csv", "md", "html"))
    write_json(document, json_document(experiment, rows, found))
    write_text(table, csv_document(rows))
    write_text(reading, markdown(experiment.name, blocks))
    write_text(page, html(experiment.name, blocks, folder.path))
    pictures = [folder.path / picture.path for picture in figures.values()]
    return Report(experiment, rows, [document, table, reading, page, *pictures])


def load_environment(path: Path) -> dict[str, Any] | None:
    """What is known of the machine, by name; None where there is no such file. Raises UserError where it is damaged."""
    if not path.exists():
        return None
    environment: dict[str, Any] = json.loads(storage.read_checked(path, "delete it to report without it"))
    return environment


def _draw(folder: RunFolder, experiment: ExperimentSpec, rows: list[Row], found: Robust | None) -> dict[str, Picture]:
    """Draw all figures; by title."""
    figures: dict[str, Picture] = {}
    for dataset in (dataset.name for dataset in experiment.datasets):
        of_dataset = [row for row in rows if row.dataset == dataset]
        trials = [trial for trial in finished_trials(folder, experiment) if trial.dataset.name == dataset]
        if trials:
            drawn: list[Drawing] = [
                *_robustness(of_dataset, found),
                *_curves(folder, of_dataset, trials),
                *_residual_curves(of_dataset),
                *_transformers(folder, trials),
                _confusions(of_dataset),
            ]
            for drawing in drawn:
                figures[drawing.title] = picture_in(folder.figures, drawing.name, drawing.words)
                write_bytes(folder.path / figures[drawing.title].path, drawing.content)
    return figures


def _robustness(rows: list[Row], found: Robust | None) -> Iterator[Drawing]:
    """The error against each quantity of the distortion on one dataset, where it has been measured."""
    dataset, split = rows[0].dataset, rows[0].split
    curves = found.of(dataset) if found else {}
    if found and any(curves.values()):
        title = f"Error against rotation, scale, translation and clutter, trained on {dataset}"
        words = (
            f"{split} error of networks trained on {dataset} against rotation, scale, translation and number of "
            "patches; grey is the range seen in training, and a band reaches from the lowest to the highest seed"
        )
        figure = robustness_curves(title, split, curves)
        yield Drawing(title, f"robustness@{dataset}.png", words, png(figure))


def _curves(folder: RunFolder, rows: list[Row], trials: list[TrialSpec]) -> Iterator[Drawing]:
    """The learning curves of those of one dataset's trials whose epochs are known."""
    dataset, split, models = rows[0].dataset, rows[0].split, ", ".join(row.model for row in rows)
    curves: dict[str, list[list[EpochRecord]]] = {row.model: [] for row in rows}
    for trial in trials:
        if epochs := folder.trial(trial).load_metrics():
            curves[trial.model.name].append(epochs)
    title = f"Learning curves on {dataset}"
    words = (
        f"{split} error and training loss of {models}, epoch by epoch, in the mean over the seeds; a band reaches from "
        "the lowest to the highest seed"
    )
    if any(curves.values()):
        yield Drawing(title, f"learning_curves@{dataset}.png", words, png(learning_curves(title, split, curves)))


def _residual_curves(rows: list[Row]) -> Iterator[Drawing]:
    """What transformers leave of the distortion against what there was of it, where that is known."""
    models = {row.model: row.alignment.residual_curves if row.alignment else () for row in rows}
    if told := ", ".join(model for model, of_model in models.items() if of_model):
        title = f"What is left of the distortion on {rows[0].dataset}"
        words = (
            f"what is left of each component of {rows[0].dataset}'s distortion behind {told}, against what there was "
            "of it; a band holds a standard deviation of the images to either side"
        )
        yield Drawing(title, f"courses@{rows[0].dataset}.png", words, png(residual_curves(title, models)))


def _transformers(folder: RunFolder, trials: list[TrialSpec]) -> Iterator[Drawing]:
    """The gallery of each model on one dataset, from its lowest seed."""
    for model in dict.fromkeys(trial.model.name for trial in trials):
        trial = min((trial for trial in trials if trial.model.name == model), key=lambda trial: trial.seed)
        yield from drawings(trial, folder.trial(trial).load_gallery())


def _confusions(rows: list[Row]) -> Drawing:
    """What each model takes for what on one dataset."""
    dataset, models = rows[0].dataset, ", ".join(row.model for row in rows)
    title = f"Confusion on {dataset}"
    words = f"of each true class of {dataset}, the share of images that {models} take for each other class"
    matrices = {row.model: np.array(row.confusion) for row in rows}
    return Drawing(title, f"confusions@{dataset}.png", words, png(confusions(title, matrices)))


def report_run(folder: RunFolder) -> Report:
    """Write a run's report, as `write_report` does, while no other process writes at the top of its folder."""
    folder.load_experiment()  # before a folder is made where there is no run
    with folder_lock(folder.path, stop=lambda: False):
        check_links(folder.path)
        clear_leftovers(folder.path, "report.*")
        clear_leftovers(folder.figures)
        return write_report(folder)
