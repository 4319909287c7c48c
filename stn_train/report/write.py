"""The report of a run's folder: written from its saved files, as often as one likes."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from stn_train import storage
from stn_train.config import dump
from stn_train.report.page import html, markdown, records, render
from stn_train.report.plots import confusions, costs, figure_file, learning_curves, residual_curves, robustness_curves
from stn_train.report.results import Results, results_of
from stn_train.report.snapshots import Drawing, drawings
from stn_train.run_folder import RunFolder
from stn_train.specs import ExperimentSpec, trials_of
from stn_train.storage import at_home, clear_leftovers, folder_lock, json_text, write

FORMAT = 6
"""The format version of report.json."""


def report_run(folder: RunFolder, experiment: ExperimentSpec | None = None) -> Results:
    """Write report.json, report.csv, trials.csv, report.md, report.html and the figures of what has finished there.

    Meanwhile no other process writes at the top of the folder. The same files give the same report, byte for byte.
    `experiment` is the folder's, where it has been read already. Raises UserError where no trial has finished, or where
    a file is missing or damaged.
    """
    experiment = experiment or folder.load_experiment()  # before a folder is made where there is no run
    with folder_lock(folder.path, stop=lambda: False):
        clear_leftovers(folder.figures)
        results = results_of(folder, experiment)
        environment = load_environment(folder.environment)
        pictures = list(_drawings(folder, experiment, results))
        for picture in pictures:
            write(folder.figures / picture.name, picture.content)
        names = ("report.json", "report.csv", "report.md", "report.html", "trials.csv")
        document, table, reading, page, rows = files = [folder.path / name for name in names]
        write(document, json_text(json_document(results)) + "\n")
        for path, text in zip((table, rows), csv_documents(results), strict=True):
            write(path, text)
        paths = {"source": experiment.source.path, "prebuilt": experiment.prebuilt, "data_root": experiment.data_root}
        values = {
            "title": experiment.name,
            "r": results,
            "pictures": pictures,
            "environment": environment,
            "planned": len(trials_of(experiment)),
            "relative_paths": [
                f"{key}: {path}" for key, path in paths.items() if path and not at_home(path).is_absolute()
            ],
            "imports": any(model.own_parts for model in experiment.models),
            "config": dump(experiment),
            "demo": folder.demo.exists(),
        }
        write(reading, markdown("report.j2", part="whole", **values))
        parts = {part: markdown("report.j2", part=part, **values) for part in ("tables", "details")}
        figures = {f"{folder.figures.name}/{picture.name}": picture.content for picture in pictures}
        write(page, html(parts, figures, **values))
    return replace(results, files=[*files, *(folder.figures / picture.name for picture in pictures)])


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
    experiment, robust = results.experiment, results.robustness
    about = {"experiment": experiment.name, "source": experiment.source.label} if experiment else {}
    return {
        "format": FORMAT,
        **about,
        "finished": len(results.trials),
        "planned": len(trials_of(experiment)) if experiment else len(results.trials),
        "trials": records(results.trials),
        "summary": records(results.summary),
        "comparisons": records(results.comparisons),
        "class_names": {dataset: list(names) for dataset, names in results.class_names.items()},
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
        "robustness": robust
        and {
            "images": robust.images,
            "curves": records(robust.curves),
            "crossed": records(robust.crossed),
        },
    }


def csv_documents(results: Results) -> tuple[str, str]:
    """The table `summary`, with each model's difference to its baseline, and the table `trials`.

    Values that stand in one cell, as those of several seeds, are separated by spaces.
    """
    compared = results.comparisons[results.comparisons["part"] == "all"]
    beside = compared.drop(columns=["of", "part", "baseline", "seeds", "shown"])
    written = []
    for table in (results.summary.merge(beside, on=["dataset", "model"], how="left"), results.trials):
        for name in set(_SEVERAL) & set(table):
            values = [" ".join(map(str, value)) if isinstance(value, tuple) else value for value in table[name]]
            table = table.assign(**{name: values})
        written.append(str(table.to_csv(index=False, lineterminator="\n")))
    return written[0], written[1]


_SEVERAL = ("tta_angles", "seeds", "seed_errors", "paired_seeds", "mcnemar")
"""Columns whose cells hold several values."""


def _drawings(folder: RunFolder, experiment: ExperimentSpec, results: Results) -> Iterator[Drawing]:
    """All pictures of the report, dataset by dataset: curves, transformers, confusions, of what is known."""
    finished = folder.finished(experiment)
    split = "validation" if experiment.validation else "test"
    curves = results.robustness.curves if results.robustness else pd.DataFrame(columns=["dataset", "factor", "trained"])
    rotated = curves[curves["factor"] == "rotation"]
    figures: list[tuple[str, str, list[str], Callable[..., Figure], tuple[Any, ...]]] = []
    if rotated.groupby("dataset")["trained"].first().nunique() > 1:
        panels = [panel for _, panel in rotated.groupby("dataset", sort=False)]
        figures.append(("rotation_ranges", "", list(rotated["model"].unique()), robustness_curves, (split, panels)))
    for dataset in dict.fromkeys(results.summary["dataset"]):
        models = [model for of, model in results.confusions if of == dataset]
        trials = {
            model: [one for one in finished if (one.dataset.name, one.model.name) == (dataset, model)]
            for model in models
        }
        accuracy = results.summary[results.summary["dataset"] == dataset].set_index("model")["accuracy"]
        firsts = {model: min(seeds, key=attrgetter("seed")) for model, seeds in trials.items()}
        galleries = {model: folder.trial(first).load_gallery() for model, first in firsts.items()}
        best = max((model for model in models if "examples" in galleries[model]), key=accuracy.get, default=None)
        for model in models:
            yield from drawings(firsts[model], galleries[model], with_strip=model == best)
        if panels := [panel for _, panel in curves[curves["dataset"] == dataset].groupby("factor", sort=False)]:
            figures.append(("robustness", dataset, models, robustness_curves, (split, panels)))
        epochs = {
            model: [records for one in seeds if (records := folder.trial(one).load_metrics())]
            for model, seeds in trials.items()
        }
        if any(epochs.values()):
            figures.append(("learning_curves", dataset, models, learning_curves, (split, epochs)))
        if len(models) > 1:
            rows = results.summary[results.summary["dataset"] == dataset]
            figures.append(("costs", dataset, models, costs, (split, rows, epochs)))
        left = {model: results.residual_curves.get((dataset, model), ()) for model in models}
        if told := [model for model, parts in left.items() if parts]:
            figures.append(("courses", dataset, told, residual_curves, (left,)))
        matrices = {model: results.confusions[dataset, model] for model in models}
        figures.append(("confusions", dataset, models, confusions, (matrices, results.class_names[dataset])))
    for kind, dataset, models, draw, of in figures:
        title = render("sentences.j2", "picture_title", kind, dataset)
        words = render("sentences.j2", "picture_words", kind, dataset, ", ".join(models), split)
        name = f"{kind}@{dataset}.png" if dataset else f"{kind}.png"
        yield Drawing(kind, dataset, title, name, words, figure_file(draw(title, *of)))
