"""The report of a run's folder: written from its saved files, as often as one likes."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stn_train import storage
from stn_train.config import dump
from stn_train.report.page import html, markdown, records, render
from stn_train.report.plots import confusions, figure_file, learning_curves, residual_curves, robustness_curves
from stn_train.report.results import Results, finished_trials, results_of
from stn_train.report.snapshots import Drawing, drawings
from stn_train.run_folder import RunFolder
from stn_train.specs import CLASSIFIERS, ExperimentSpec, TrialSpec, trials_of
from stn_train.storage import at_home, check_links, clear_leftovers, folder_lock, write_bytes, write_json, write_text

FORMAT = 6
"""The format version of report.json."""


@dataclass(frozen=True)
class Report:
    """What was written: a run's results, and the files that show them."""

    results: Results
    files: list[Path]


@dataclass(frozen=True)
class Picture:
    """A picture of a report: what stands above it, its path relative to the report, and what is to be seen."""

    title: str
    path: str
    words: str


def report_run(folder: RunFolder, experiment: ExperimentSpec | None = None) -> Report:
    """Write a run's report, as `write_report` does, while no other process writes at the top of its folder."""
    experiment = experiment or folder.load_experiment()  # before a folder is made where there is no run
    with folder_lock(folder.path, stop=lambda: False):
        check_links(folder.path)
        clear_leftovers(folder.path, "report.*")
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
        pictures.append(Picture(drawing.title, f"{folder.figures.name}/{drawing.name}", drawing.words))
        write_bytes(folder.figures / drawing.name, drawing.content)
    document, table, reading, page = (folder.path / f"report.{ending}" for ending in ("json", "csv", "md", "html"))
    write_json(document, json_document(results))
    write_text(table, csv_document(results))
    said = {"r": results, "pictures": pictures, "environment": environment, **_again(experiment)}
    write_text(reading, markdown(experiment.name, "report.j2", **said))
    write_text(page, html(experiment.name, "report.j2", folder.path, **said))
    return Report(results, [document, table, reading, page, *(folder.path / picture.path for picture in pictures)])


def load_environment(path: Path) -> dict[str, Any] | None:
    """What is known of the machine, by name; None where there is no such file. Raises UserError where it is damaged."""
    if not path.exists():
        return None
    environment: dict[str, Any] = json.loads(storage.read_checked(path, "delete it to report without it"))
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
        "confusions": _by_cell(results.confusions, lambda counts: {"counts": counts.tolist()}),
        "residual_curves": _by_cell(
            results.residual_curves, lambda curves: {"curves": [curve.model_dump() for curve in curves]}
        ),
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
    listed = table.map(lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else value)
    return str(listed.to_csv(index=False, lineterminator="\n"))


def _by_cell(found: Mapping[tuple[str, str], Any], plain: Any) -> list[dict[str, Any]]:
    return [{"dataset": dataset, "model": model, **plain(one)} for (dataset, model), one in found.items()]


def _again(experiment: ExperimentSpec) -> dict[str, Any]:
    """What is needed to run it again."""
    paths = {"prebuilt": experiment.prebuilt, "data_root": experiment.data_root}
    return {
        "planned": len(trials_of(experiment)),
        "relative_paths": [f"{key}: {path}" for key, path in paths.items() if path and not at_home(path).is_absolute()],
        "imports": any(model.classifier not in CLASSIFIERS for model in experiment.models),
        "config": dump(experiment),
    }


def _drawings(folder: RunFolder, experiment: ExperimentSpec, results: Results) -> Iterator[Drawing]:
    """All pictures of the report, dataset by dataset."""
    for dataset in dict.fromkeys(results.summary["dataset"]):
        trials = [trial for trial in finished_trials(folder, experiment) if trial.dataset.name == dataset]
        models = list(dict.fromkeys(trial.model.name for trial in trials))
        yield from _curves(folder, dataset, models, trials, results)
        for model in models:
            trial = min((trial for trial in trials if trial.model.name == model), key=lambda trial: trial.seed)
            yield from drawings(trial, folder.trial(trial).load_gallery())
        matrices = {model: results.confusions[dataset, model] for model in models}
        yield _drawing("confusions", dataset, models, lambda title, found=matrices: confusions(title, found))


def _curves(
    folder: RunFolder, dataset: str, models: list[str], trials: list[TrialSpec], results: Results
) -> Iterator[Drawing]:
    """The curves of one dataset, of what is known: robustness, learning curves, what is left of the distortion."""
    split = "validation" if trials[0].validation else "test"
    robust = results.robustness.of(dataset) if results.robustness else {}
    if any(robust.values()):
        yield _drawing("robustness", dataset, models, lambda title: robustness_curves(title, split, robust), split)
    epochs = {
        model: [folder.trial(one).load_metrics() for one in trials if one.model.name == model] for model in models
    }
    known = {model: [of_seed for of_seed in seeds if of_seed] for model, seeds in epochs.items()}
    if any(known.values()):
        yield _drawing("learning_curves", dataset, models, lambda title: learning_curves(title, split, known), split)
    left = {model: results.residual_curves.get((dataset, model), ()) for model in models}
    if told := [model for model, curves in left.items() if curves]:
        yield _drawing("courses", dataset, told, lambda title: residual_curves(title, left))


def _drawing(kind: str, dataset: str, models: list[str], draw: Any, split: str = "") -> Drawing:
    """A figure, with its title and what is to be seen."""
    title = render("sentences.j2", "picture_title", kind, dataset)
    words = render("sentences.j2", "picture_words", kind, dataset, ", ".join(models), split)
    return Drawing(title, f"{kind}@{dataset}.png", words, figure_file(draw(title)))
