"""Writes the tables of docs/verdict.md and draws its pictures, from the results that are kept: see scripts/results.py.

    python scripts/results.py RUN ...    # keeps what the runs of configs/verdict have finished
    python scripts/verdict.py            # tables between the marks in the page, and its pictures docs/verdict*.png
    python scripts/verdict.py --time     # on an idle machine: how long each training takes, docs/verdict_minutes.csv

Every model is compared with `cnn` on the same images and seeds. Trainings ran on several machines, beside other work,
so what they took does not compare: `--time` times a few steps of each on one core of one machine, side by side.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from results import BEGIN, END, OF_TODAY, ROOT, around, load, plain_numbers

from stn_train.config import load_config
from stn_train.errors import UserError
from stn_train.experiment.estimate import seconds_of_epoch
from stn_train.experiment.runtime import environment as made_on
from stn_train.experiment.runtime import open_runtime
from stn_train.report.page import environment, markdown, records
from stn_train.report.plots import figure_file
from stn_train.report.results import Results, Trial, paired_errors, tabulate
from stn_train.specs import trials_of
from stn_train.statistics import Comparison, compare
from stn_train.storage import write

PAGE = ROOT / "docs/verdict.md"
MINUTES = ROOT / "docs/verdict_minutes.csv"
PUBLISHED = ROOT / "docs/mnist_rot_published.csv"
"""Test errors on the original files of rotated MNIST, by others, without and with test-time augmentation."""
AUGMENTED = ROOT / "docs/mnist_rot_tta.csv"
"""Ours with test-time augmentation: `stn-train eval runs/mnist_rot --tta-angles=... --csv`, see the page."""
TEMPLATE = Path(__file__).with_suffix(".md.j2")
_MIDDLE = {"ha": "center", "va": "center", "fontsize": "small"}
_ROUNDS = 3
MODELS = ("cnn", "cnn_turned", "st_cnn", "st_equivariant", "group_cnn", "ti_pooling")


@dataclass(frozen=True)
class Task:
    """A dataset of an experiment: what it is called, what it has `found`, and in `longer` trainings.

    These had `epochs` of so many `digits`, and `longer_epochs`. `equivariant`: the equivariant transformer
    against the ordinary one.
    """

    title: str
    dataset: str
    found: Results
    longer: Results
    digits: int | None
    epochs: int | None
    longer_epochs: int | None
    equivariant: Comparison | None


def found_by(trials: Sequence[Trial], experiment: str) -> Results:
    """What an experiment has found so far, each model beside `cnn`; the seconds of training are those of MINUTES."""
    minutes: dict[Any, float] = pd.read_csv(MINUTES, index_col=["config", "dataset", "model"])["minutes"].to_dict()
    found = []
    for one in (trial for trial in trials if trial.row["experiment"] == experiment):
        took = minutes.get((OF_TODAY[experiment], one.row["dataset"], one.row["model"]))
        told = {
            "baseline": None if one.row["model"] == "cnn" else "cnn",
            "training_seconds": None if took is None else 60 * took,
        }
        found.append(replace(one, row=one.row | told))
    return tabulate(found)


def tasks_of(trials: Sequence[Trial]) -> list[Task]:
    """All that the page compares models on."""
    everything = [
        ("RTS", "rts", "verdict", "verdict_time"),
        ("TC", "tc", "verdict", "verdict_time"),
        ("rotated MNIST, centred", "mnist_rot_centred", "verdict_mnist_rot", "verdict_time_mnist_rot"),
        ("RTS, 1,000 digits", "rts", "verdict_few", ""),
        ("TC, 1,000 digits", "tc", "verdict_few", ""),
    ]
    return [task_of(trials, *each) for each in everything]


def task_of(trials: Sequence[Trial], title: str, dataset: str, experiment: str, longer: str) -> Task:
    """What has been trained of a task."""
    of_dataset = [one for one in trials if one.row["dataset"] == dataset]
    rows = {one.row["experiment"]: one.row for one in of_dataset}
    epochs = {name: json.loads(row["configuration"])["training"]["epochs"] for name, row in rows.items()}
    st_equivariant, st_cnn = (
        [one for one in of_dataset if (one.row["experiment"], one.row["model"]) == (experiment, model)]
        for model in ("st_equivariant", "st_cnn")
    )
    return Task(
        title,
        dataset,
        found=found_by(trials, experiment),
        longer=found_by(trials, longer),
        digits=rows[experiment]["training_digits"] if experiment in rows else None,
        epochs=epochs.get(experiment),
        longer_epochs=epochs.get(longer),
        equivariant=paired(st_equivariant, st_cnn),
    )


def paired(model: Sequence[Trial], baseline: Sequence[Trial]) -> Comparison | None:
    """Trials against others on the same images and seeds: None where there are no such."""
    errors = paired_errors(model, baseline)
    return None if errors is None else compare(*errors)


def time_trainings() -> None:
    """Write MINUTES: what the first seed of each cell takes on one core, evaluations included, as a few of its steps
    tell. Of so many rounds through all cells the least counts: anything else that runs here slows others."""
    runtime = open_runtime("cpu", 1, None)
    machine = made_on(runtime)["device"]
    configs = {config: trials_of(load_config(config)) for config in dict.fromkeys(OF_TODAY.values())}
    cells = [(config, trial) for config, trials in configs.items() for trial in trials if trial.seed == 0]
    rounds = [[seconds_of_epoch(trial, runtime) for _, trial in cells] for _ in range(_ROUNDS)]
    rows = [
        {
            "config": config,
            "dataset": trial.dataset.name,
            "model": trial.model.name,
            "minutes": round(trial.training.epochs * min(seconds) / 60, 2),
            "machine": machine,
        }
        for (config, trial), *seconds in zip(cells, *rounds, strict=True)
    ]
    write(MINUTES, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))


def rows_of(results: Results, dataset: str) -> pd.DataFrame:
    """The rows of a summary that are of this dataset, in the order of MODELS."""
    if results.summary.empty:
        return pd.DataFrame(columns=["dataset", "model"])
    rows = results.summary[results.summary["dataset"] == dataset]
    known = rows[rows["model"].isin(MODELS)]
    return known.sort_values("model", key=lambda names: names.map(MODELS.index))


def resampling(trials: Sequence[Trial]) -> Comparison | None:
    """Turned digits behind their true pose, against the same digits upright."""
    mine = [one for one in trials if one.row["experiment"] == "verdict_resampling"]
    return paired(*([one for one in mine if one.row["dataset"] == name] for name in ("r", "plain")))


def beside_published(found: Results) -> pd.DataFrame:
    """What is published on rotated MNIST and what we found, the lowest error first."""
    with_tta = pd.read_csv(AUGMENTED, index_col="model", dtype={"seeds": str}).to_dict("index")
    ours = [
        {
            "network": f"`{row['model']}`",
            "error": row["error"],
            "error_low": row["error_low"],
            "error_high": row["error_high"],
            "tta_error": with_tta[row["model"]]["error"] if row["model"] in with_tta else None,
            "tta_seeds": len(with_tta[row["model"]]["seeds"].split()) if row["model"] in with_tta else None,
            "parameters": f"{row['parameters'] / 1000:.0f} k",
            "rotation_augmentation": "yes" if row["model"].endswith("_turned") else "no",
            "source": "this project",
        }
        for row in records(found.summary)
    ]
    published = pd.read_csv(PUBLISHED).assign(error_low=np.nan, error_high=np.nan, tta_seeds=np.nan)
    return pd.DataFrame([*published.to_dict("records"), *ours]).sort_values("error")


# --- pictures ---------------------------------------------------------------------------------------------------------


def errors_of(tasks: Sequence[Task]) -> Figure:
    """A panel for each task that has been trained, a dot with its interval for each model; hollow of one seed."""
    done = [task for task in tasks if not rows_of(task.found, task.dataset).empty]
    figure = Figure(figsize=(1.5 + 1.75 * len(done), 3.4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(done), sharey=True))
    for axes, task in zip(panels, done, strict=True):
        rows = {row["model"]: row for row in records(rows_of(task.found, task.dataset))}
        for place, model in enumerate(MODELS):
            if (row := rows.get(model)) is None:
                axes.text(0.5, place, "not trained yet", transform=axes.get_yaxis_transform(), color="0.5", **_MIDDLE)
                continue
            ends = [[row["error"] - row["error_low"]], [row["error_high"] - row["error"]]]
            axes.errorbar(row["error"], place, xerr=ends, color=f"C{place}", capsize=3, **dot(row))
            axes.annotate(f"{row['error']:.2f}", (row["error"], place), (0, 7), textcoords="offset points", ha="center")
        axes.set(xlabel="error (%), log scale", xscale="log", ylim=(len(MODELS) - 0.5, -0.7))
        axes.set_title(task.title, fontsize="medium")
        axes.margins(x=0.15)
        plain_numbers(axes)
    panels[0].set_yticks(range(len(MODELS)), MODELS)
    return figure


def dot(row: dict[str, Any]) -> dict[str, Any]:
    """How a model's dot is drawn: hollow where it was trained once."""
    return {"fmt": "o", "markerfacecolor": "white"} if len(row["seeds"]) == 1 else {"fmt": "o"}


def errors_by_time(tasks: Sequence[Task]) -> Figure:
    """A panel for each task of all digits: the error against minutes of one core that training takes, a line for each
    model that was also trained for longer; hollow of one seed."""
    timed = [task for task in tasks[:3] if not rows_of(task.found, task.dataset).empty]
    figure = Figure(figsize=(2 + 3.6 * len(timed), 3.6), layout="constrained")
    for axes, task in zip(np.atleast_1d(figure.subplots(1, len(timed), sharex=True)), timed, strict=True):
        both = pd.concat([rows_of(each, task.dataset) for each in (task.found, task.longer)])
        for model, rows in both.groupby("model", sort=False):
            color, minutes = f"C{MODELS.index(model)}", rows["training_seconds"].astype(float) / 60
            axes.plot(minutes, rows["error"], color=color)
            for took, row in zip(minutes, records(rows), strict=True):
                ends = [[row["error"] - row["error_low"]], [row["error_high"] - row["error"]]]
                axes.errorbar(took, row["error"], ends, color=color, capsize=3, **dot(row))
        axes.set(title=task.title, xlabel="minutes of training, log scale", xscale="log", yscale="log")
        plain_numbers(axes)
        axes.set_ylabel("error (%), log scale")
    lines = [Line2D([], [], marker="o", color=f"C{place}") for place in range(len(MODELS))]
    figure.legend(lines, MODELS, loc="outside right center", frameon=False)
    return figure


def published_errors(networks: pd.DataFrame) -> Figure:
    """A dot for each network on rotated MNIST, with the interval of ours; hollow without rotation augmentation."""
    figure = Figure(figsize=(8, 0.9 + 0.24 * len(networks)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(records(networks)):
        color = "C3" if row["source"] == "this project" else "0.45"
        low, high = (row[end] or row["error"] for end in ("error_low", "error_high"))
        filled = color if row["rotation_augmentation"] == "yes" else "white"
        axes.plot([low, high], [place, place], color=color)
        axes.plot(row["error"], place, "o", color=color, markerfacecolor=filled)
        axes.text(1.08 * high, place, f"{row['error']:.2f}", color=color, va="center")
    sources = networks["source"].replace("this project", "ours")
    axes.set_yticks(range(len(networks)), networks["network"].str.strip("`") + ", " + sources)
    axes.set(xlabel="error (%), log scale", xscale="log", ylim=(len(networks) - 0.5, -0.5))
    axes.margins(x=0.15)
    plain_numbers(axes)
    marks = [Line2D([], [], marker="o", ls="", color="0.45", markerfacecolor=each) for each in ("0.45", "white")]
    figure.legend(marks, ["with rotation augmentation", "without"], loc="outside upper right", ncols=2, frameon=False)
    return figure


def write_page() -> None:
    """Write the page's tables and pictures. Raises UserError where nothing is kept, or the page has no place for it."""
    top, _, rest = around(PAGE, BEGIN, END)
    trials = [trial for trial in load() if trial.row["experiment"] in OF_TODAY]
    if not trials:
        raise UserError("nothing of configs/verdict is kept yet: python scripts/results.py RUN ...")
    tasks = tasks_of(trials)
    benchmark = task_of(trials, "Rotated MNIST as everybody turns it", "mnist_rot", "mnist_rot", "")
    networks = beside_published(benchmark.found)
    written = markdown(
        environment().from_string(TEMPLATE.read_text(encoding="utf-8")),
        models=MODELS,
        tasks=tasks,
        macs=[found_by(trials, name) for name in ("verdict_macs", "verdict_macs_ti")],
        resampling=resampling(trials),
        benchmark=benchmark,
        networks=networks,
        machine=pd.read_csv(MINUTES)["machine"][0],
    )
    write(ROOT / "docs/verdict.png", figure_file(errors_of(tasks)))
    write(ROOT / "docs/verdict_time.png", figure_file(errors_by_time(tasks)))
    write(ROOT / "docs/verdict_mnist_rot.png", figure_file(published_errors(networks)))
    write(PAGE, f"{top}{BEGIN}\n\n{written}\n{END}{rest}")


if __name__ == "__main__":
    try:
        time_trainings() if sys.argv[1:] == ["--time"] else write_page()
    except UserError as error:
        sys.exit(str(error))
