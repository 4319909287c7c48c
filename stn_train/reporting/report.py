"""The report of a run's folder: written from its saved files, as often as one likes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stn_train.errors import UserError
from stn_train.reporting.documents import csv_document, json_document, markdown
from stn_train.reporting.figures import learning_curves, save, transformer_samples
from stn_train.reporting.records import EpochRecord, RunFolder
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
    """Write report.json, report.csv, report.md and the figures from what has finished in `folder`.

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
    document, table, reading = (folder.path / f"report.{ending}" for ending in ("json", "csv", "md"))
    links = {title: path.relative_to(folder.path).as_posix() for title, path in figures.items()}
    write_json(document, json_document(experiment, rows))
    write_text(table, csv_document(rows))
    write_text(reading, markdown(experiment, rows, links, environment))
    return Report(experiment, rows, [document, table, reading, *figures.values()])


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


def _draw(folder: RunFolder, experiment: ExperimentSpec, finished: list[TrialSpec]) -> dict[str, Path]:
    """Draw all figures; their paths by title. "@" stands in no name, so that no two figures share a file."""
    figures = {}
    split = "validation" if experiment.validation else "test"
    for dataset in experiment.datasets:
        curves: dict[str, list[list[EpochRecord]]] = {}
        for trial in (trial for trial in finished if trial.dataset.name == dataset.name):
            curves.setdefault(trial.model.name, []).append(folder.trial(trial).load_metrics())
        if curves:
            title = f"Learning curves on {dataset.name}"
            figures[title] = folder.figures / f"learning_curves@{dataset.name}.png"
            save(learning_curves(title, split, curves), figures[title])
        for model in experiment.models:
            trials = [trial for trial in finished if (trial.dataset, trial.model) == (dataset, model)]
            if model.transformer and 0 in model.transformer.at and trials:
                trial = min(trials, key=lambda trial: trial.seed)
                title = f"The transformer of {model.name} on {dataset.name}, seed {trial.seed}"
                figures[title] = folder.figures / f"transformer_{model.name}@{dataset.name}.png"
                save(transformer_samples(title, folder.trial(trial).load_samples()), figures[title])
    return figures
