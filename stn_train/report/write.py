"""The report of a run's folder: written from its saved files, as often as one likes."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from stn_train import storage
from stn_train.config import dump
from stn_train.report.page import html, markdown, records, render
from stn_train.report.plots import confusions, figure_file, learning_curves, residual_curves, robustness_curves
from stn_train.report.results import Results, finished_trials, results_of
from stn_train.report.snapshots import Drawing, drawings
from stn_train.run_folder import RunFolder
from stn_train.specs import CLASSIFIERS, ExperimentSpec, trials_of
from stn_train.storage import at_home, check_links, clear_leftovers, folder_lock, json_text, write

FORMAT = 6
"""The format version of report.json."""


@dataclass(frozen=True)
class Report:
    """What was written: a run's results, and the files that show them."""

    results: Results
    files: list[Path]


def report_run(folder: RunFolder, experiment: ExperimentSpec | None = None) -> Report:
    """Write a run's report, as `write_report` does, while no other process writes at the top of its folder."""
    experiment = experiment or folder.load_experiment()  # before a folder is made where there is no run
    with folder_lock(folder.path, stop=lambda: False):
        check_links(folder.path)
        clear_leftovers(folder.figures)
        return write_report(folder, experiment)


def write_report(folder: RunFolder, experiment: ExperimentSpec) -> Report:
    """Write report.json, report.csv, report.md, report.html and the figures from what has finished in `folder`.

    The same files give the same report, byte for byte. Raises UserError where no trial has finished, or where a file
    is missing or damaged.
    """
    results = results_of(folder, experiment)
    environment = load_environment(folder.environment)
    pictures = []
    for drawing in _drawings(folder, experiment, results):
        path = f"{folder.figures.name}/{drawing.name}"
        pictures.append({"title": drawing.title, "path": path, "words": drawing.words})
        write(folder.path / path, drawing.content)
    document, table, reading, page = (folder.path / f"report.{ending}" for ending in ("json", "csv", "md", "html"))
    write(document, json_text(json_document(results)) + "\n")
    write(table, csv_document(results))
    paths = {"prebuilt": experiment.prebuilt, "data_root": experiment.data_root}
    said = {
        **{"title": experiment.name, "first_screen": False, "r": results, "pictures": pictures},
        **{"environment": environment, "planned": len(trials_of(experiment))},
        "relative_paths": [f"{key}: {path}" for key, path in paths.items() if path and not at_home(path).is_absolute()],
        "imports": any(model.classifier not in CLASSIFIERS for model in experiment.models),
        "config": dump(experiment),
    }
    text = markdown("report.j2", **said)
    write(reading, text)
    write(page, html(text, folder.path))
    return Report(results, [document, table, reading, page, *(folder.path / picture["path"] for picture in pictures)])


def load_environment(path: Path) -> dict[str, Any] | None:
    """What is known of the machine, by name; None where there is no such file. Raises UserError where it is damaged."""
    if not path.exists():
        return None
    environment: dict[str, Any] = json.loads(
        storage.read_verified(path, storage.JSON, "delete it to report without it")
    )
    return environment


def json_document(results: Results) -> dict[str, Any]:
    """Everything the report knows, as plain values: what `report.json` holds."""
    experiment = results.experiment
    about = {"experiment": experiment.name, "source": experiment.source} if experiment else {}
    return {
        "format": FORMAT,
        **about,
        "finished": len(results.trials),
        "planned": len(trials_of(experiment)) if experiment else len(results.trials),
        "trials": records(results.trials),
        "summary": records(results.summary),
        "comparisons": records(results.comparisons),
        "confusions": [
            {"dataset": dataset, "model": model, "counts": counts.tolist()}
            for (dataset, model), counts in results.confusions.items()
        ],
        "residual_curves": [
            {"dataset": dataset, "model": model, "curves": [curve.model_dump() for curve in curves]}
            for (dataset, model), curves in results.residual_curves.items()
        ],
        "warnings": [
            {**{key: trial.row[key] for key in ("dataset", "model", "seed")}, "kind": warning.fault}
            | {"transformer": warning.number, **warning.diagnostics.model_dump()}
            for trial, warning in results.warnings
        ],
        "robustness": results.robustness and asdict(results.robustness),
    }


def csv_document(results: Results) -> str:
    """The table `summary`, with each model's difference to its baseline; values by seed are separated by spaces."""
    compared = results.comparisons[results.comparisons["part"] == "all"]
    beside = compared.drop(columns=["of", "part", "baseline", "seeds", "shown"])
    table = results.summary.merge(beside, on=["dataset", "model"], how="left")
    for name in ("tta_angles", "seeds", "seed_errors", "paired_seeds", "mcnemar"):
        table[name] = [" ".join(map(str, value)) if isinstance(value, tuple) else value for value in table[name]]
    return str(table.to_csv(index=False, lineterminator="\n"))


def _drawings(folder: RunFolder, experiment: ExperimentSpec, results: Results) -> Iterator[Drawing]:
    """All pictures of the report, dataset by dataset: curves, transformers, confusions, of what is known."""
    finished = finished_trials(folder, experiment)
    split = "validation" if experiment.validation else "test"
    rotated = [curve for curve in results.robustness.curves if curve.factor == "rotation"] if results.robustness else []
    if len({curve.trained for curve in rotated}) > 1:
        names = list(dict.fromkeys(curve.dataset for curve in rotated))
        panels = [[curve for curve in rotated if curve.dataset == name] for name in names]
        models = list(dict.fromkeys(curve.model for curve in rotated))
        yield _drawing("rotation_ranges", "", models, split, robustness_curves, split, panels)
    for dataset in dict.fromkeys(results.summary["dataset"]):
        trials = [trial for trial in finished if trial.dataset.name == dataset]
        models = list(dict.fromkeys(trial.model.name for trial in trials))
        robust = results.robustness.of(dataset) if results.robustness else {}
        if any(robust.values()):
            yield _drawing("robustness", dataset, models, split, robustness_curves, split, list(robust.values()))
        epochs = {
            model: [folder.trial(one).load_metrics() for one in trials if one.model.name == model] for model in models
        }
        known = {model: [of_seed for of_seed in seeds if of_seed] for model, seeds in epochs.items()}
        if any(known.values()):
            yield _drawing("learning_curves", dataset, models, split, learning_curves, split, known)
        left = {model: results.residual_curves.get((dataset, model), ()) for model in models}
        if told := [model for model, curves in left.items() if curves]:
            yield _drawing("courses", dataset, told, split, residual_curves, left)
        for model in models:
            first = min(trial.seed for trial in trials if trial.model.name == model)
            (trial,) = (trial for trial in trials if (trial.model.name, trial.seed) == (model, first))
            yield from drawings(trial, folder.trial(trial).load_gallery())
        matrices = {model: results.confusions[dataset, model] for model in models}
        yield _drawing("confusions", dataset, models, split, confusions, matrices)


def _drawing(
    kind: str, dataset: str, models: list[str], split: str, draw: Callable[..., Figure], *shown: Any
) -> Drawing:
    """A figure of what is `shown`, with its title and what is to be seen."""
    title = render("sentences.j2", "picture_title", kind, dataset)
    words = render("sentences.j2", "picture_words", kind, dataset, ", ".join(models), split)
    name = f"{kind}@{dataset}.png" if dataset else f"{kind}.png"
    return Drawing(title, name, words, figure_file(draw(title, *shown)))
