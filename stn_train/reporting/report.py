"""The report of a run's folder: written from its saved files, as often as one likes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stn_train.errors import UserError
from stn_train.reporting.blocks import Picture
from stn_train.reporting.documents import csv_document, json_document
from stn_train.reporting.figures import learning_curves, save, transformer_samples
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
    figures = {}
    split = "validation" if experiment.validation else "test"
    for dataset in experiment.datasets:
        curves: dict[str, list[list[EpochRecord]]] = {}
        for trial in (trial for trial in finished if trial.dataset.name == dataset.name):
            curves.setdefault(trial.model.name, []).append(folder.trial(trial).load_metrics())
        if curves:
            title = f"Learning curves on {dataset.name}"
            words = (
                f"{split} error and training loss of {', '.join(curves)}, epoch by epoch, in the mean over the seeds"
            )
            figures[title] = folder.picture(f"learning_curves@{dataset.name}.png", words)
            save(learning_curves(title, split, curves), folder.path / figures[title].path)
        for model in experiment.models:
            trials = [trial for trial in finished if (trial.dataset, trial.model) == (dataset, model)]
            if model.transformer and 0 in model.transformer.at and trials:
                trial = min(trials, key=lambda trial: trial.seed)
                title = f"The transformer of {model.name} on {dataset.name}, seed {trial.seed}"
                words = (
                    f"images of {dataset.name} with the sampling grid's outline, and what {model.name} makes of them"
                )
                figures[title] = folder.picture(f"transformer_{model.name}@{dataset.name}.png", words)
                save(transformer_samples(title, folder.trial(trial).load_samples()), folder.path / figures[title].path)
    return figures
