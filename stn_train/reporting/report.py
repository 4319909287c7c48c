"""The report of a run's folder: written from its saved files, as often as one likes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stn_train.errors import UserError
from stn_train.reporting.blocks import Picture
from stn_train.reporting.documents import csv_document, json_document
from stn_train.reporting.figures import class_means, learning_curves, save, transformer_samples
from stn_train.reporting.pages import html, markdown
from stn_train.reporting.records import EpochRecord, RunFolder
from stn_train.reporting.sections import sections
from stn_train.reporting.tables import Row, finished_trials, rows_of
from stn_train.specs import ExperimentSpec, TrialSpec
from stn_train.storage import write_json, write_text


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
    finished = finished_trials(folder, experiment)
    if not finished:
        raise UserError(f"{folder.path} has nothing to report yet: none of its trials has finished")
    rows = rows_of(folder)
    environment = _load_environment(folder)
    figures = _draw(folder, experiment, finished)
    blocks = sections(experiment, rows, figures, environment)
    document, table, reading, page = (folder.path / f"report.{ending}" for ending in ("json", "csv", "md", "html"))
    write_json(document, json_document(experiment, rows))
    write_text(table, csv_document(rows))
    write_text(reading, markdown(experiment.name, blocks))
    write_text(page, html(experiment.name, blocks, folder.path))
    pictures = [folder.path / picture.path for picture in figures.values()]
    return Report(experiment, rows, [document, table, reading, page, *pictures])


def _load_environment(folder: RunFolder) -> dict[str, Any] | None:
    if not folder.environment.exists():
        return None
    try:
        environment = json.loads(folder.environment.read_bytes())
    except ValueError as error:
        raise UserError(f"{folder.environment} is damaged: {error}") from None
    if not isinstance(environment, dict):
        raise UserError(f"{folder.environment} is damaged: it holds no mapping")
    return environment


def _draw(folder: RunFolder, experiment: ExperimentSpec, finished: list[TrialSpec]) -> dict[str, Picture]:
    """Draw all figures; by title. "@" stands in no name, so that no two figures share a file."""
    figures: dict[str, Picture] = {}
    for dataset in experiment.datasets:
        trials = [trial for trial in finished if trial.dataset.name == dataset.name]
        if trials:
            figures |= _draw_curves(folder, dataset.name, trials, "validation" if experiment.validation else "test")
        for model in experiment.models:
            seeds = [trial for trial in trials if trial.model == model]
            if model.transformer and 0 in model.transformer.at and seeds:
                figures |= _draw_transformer(folder, min(seeds, key=lambda trial: trial.seed))
    return figures


def _draw_curves(folder: RunFolder, dataset: str, trials: list[TrialSpec], split: str) -> dict[str, Picture]:
    curves: dict[str, list[list[EpochRecord]]] = {}
    for trial in trials:
        curves.setdefault(trial.model.name, []).append(folder.trial(trial).load_metrics())
    title = f"Learning curves on {dataset}"
    words = f"{split} error and training loss of {', '.join(curves)}, epoch by epoch, in the mean over the seeds"
    picture = folder.picture(f"learning_curves@{dataset}.png", words)
    save(learning_curves(title, split, curves), folder.path / picture.path)
    return {title: picture}


def _draw_transformer(folder: RunFolder, trial: TrialSpec) -> dict[str, Picture]:
    """What the transformer of one seed's network makes of a few images, and of the mean of each class."""
    model, dataset, samples = trial.model.name, trial.dataset.name, folder.trial(trial).load_samples()
    drawn = {
        f"The transformer of {model} on {dataset}, seed {trial.seed}": (
            folder.picture(
                f"transformer_{model}@{dataset}.png",
                f"images of {dataset} with the sampling grid's outline, and what {model} makes of them",
            ),
            lambda title: transformer_samples(title, samples),
        ),
        f"The mean image of each class, {model} on {dataset}, seed {trial.seed}": (
            folder.picture(
                f"means_{model}@{dataset}.png",
                f"the mean image of each class of {dataset}, before and after the transformer of {model}",
            ),
            lambda title: class_means(title, samples["mean_image"], samples["mean_output"]),
        ),
    }
    for title, (picture, draw) in drawn.items():
        save(draw(title), folder.path / picture.path)
    return {title: picture for title, (picture, _) in drawn.items()}
