"""Writes the tables of docs/verdict.md and draws its pictures, from the results that are kept: see scripts/results.py.

    python scripts/results.py RUN ...    # keeps what the runs of configs/verdict have finished
    python scripts/verdict.py            # tables between the marks in the page, docs/verdict.png, docs/verdict_time.png

Every model is compared with `cnn` on the same images and seeds.
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from results import BEGIN, END, OF_TODAY, ROOT, around, load

from stn_train.errors import UserError
from stn_train.report.page import environment, markdown
from stn_train.report.plots import figure_file
from stn_train.report.results import Results, Trial, paired_errors, tabulate
from stn_train.statistics import Comparison, compare
from stn_train.storage import write

PAGE = ROOT / "docs/verdict.md"
TEMPLATE = Path(__file__).with_suffix(".md.j2")
_TICKS = (0.2, 0.5, 1, 2, 3, 5, 10, 20, 50)
MODELS = ("cnn", "cnn_turned", "st_cnn", "st_equivariant", "group_cnn", "ti_pooling")


@dataclass(frozen=True)
class Task:
    """A dataset of an experiment: what it is called, what it has `found`, and in `longer` trainings.

    These had `epochs` and `longer_epochs`. Of trainings on other machines than `machine` there are no seconds.
    """

    title: str
    dataset: str
    found: Results
    longer: Results
    machine: str | None
    epochs: int | None
    longer_epochs: int | None


def found_by(trials: Sequence[Trial], experiment: str, machine: str | None = None) -> Results:
    """What an experiment has found so far, each model beside `cnn`.

    A training's seconds are those of a core that its model took on a dataset with the seed that took least: what else
    the machine does slows the others. Where a machine is named, they are of trainings there.
    """
    mine = [trial for trial in trials if trial.row["experiment"] == experiment]
    least: dict[tuple[str, str], float] = {}
    for row in (one.row for one in mine if machine in (None, one.row["device_name"])):
        share = 100.0 if pd.isna(row["cpu_share"]) else row["cpu_share"]
        cell, seconds = (row["dataset"], row["model"]), row["training_seconds"] * share / 100
        least[cell] = min(seconds, least.get(cell, seconds))
    found = []
    for one in mine:
        seconds = least.get((one.row["dataset"], one.row["model"]))
        baseline = None if one.row["model"] == "cnn" else "cnn"
        told = {"baseline": baseline, "training_seconds": seconds}
        found.append(replace(one, row=one.row | told))
    return tabulate(found)


def tasks_of(trials: Sequence[Trial]) -> list[Task]:
    """All that the page compares models on."""
    everything = [
        ("RTS", "rts", "verdict", "verdict_time"),
        ("TC", "tc", "verdict", "verdict_time"),
        ("rotated MNIST", "mnist_rot_centred", "verdict_mnist_rot", "verdict_time_mnist_rot"),
        ("RTS, 1,000 digits", "rts", "verdict_few", ""),
        ("TC, 1,000 digits", "tc", "verdict_few", ""),
    ]
    return [task_of(trials, *each) for each in everything]


def task_of(trials: Sequence[Trial], title: str, dataset: str, experiment: str, longer: str) -> Task:
    """Its seconds are those of the machine that has trained most of its models."""
    rows = [
        one.row for one in trials if one.row["dataset"] == dataset and one.row["experiment"] in (experiment, longer)
    ]
    cells = {(row["device_name"], row["experiment"], row["model"]) for row in rows}
    machine, _ = max(Counter(name for name, *_ in cells).items(), key=lambda one: one[::-1], default=(None, 0))
    epochs = {row["experiment"]: json.loads(row["configuration"])["training"]["epochs"] for row in rows}
    found, trained = (found_by(trials, each, machine) for each in (experiment, longer))
    return Task(title, dataset, found, trained, machine, epochs.get(experiment), epochs.get(longer))


def rows_of(results: Results, dataset: str) -> pd.DataFrame:
    """The rows of a summary that are of this dataset, in the order of MODELS."""
    if results.summary.empty:
        return pd.DataFrame(columns=["dataset", "model"])
    rows = results.summary[results.summary["dataset"] == dataset]
    known = rows[rows["model"].isin(MODELS)]
    return known.sort_values("model", key=lambda names: names.map(MODELS.index))


def resampling(trials: Sequence[Trial]) -> Comparison | None:
    """Turned digits behind their true pose, against the same digits upright."""
    of_dataset = {
        name: [one for one in trials if (one.row["experiment"], one.row["dataset"]) == ("verdict_resampling", name)]
        for name in ("r", "plain")
    }
    paired = paired_errors(of_dataset["r"], of_dataset["plain"])
    return None if paired is None else compare(*paired)


# --- pictures ---------------------------------------------------------------------------------------------------------


def errors_of(tasks: Sequence[Task]) -> Figure:
    """A panel for each task that has been trained, a dot with its interval for each model."""
    done = [task for task in tasks if not rows_of(task.found, task.dataset).empty]
    figure = Figure(figsize=(2 + 2.4 * len(done), 3.2), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(done), sharey=True))
    for axes, task in zip(panels, done, strict=True):
        for row in rows_of(task.found, task.dataset).to_dict("records"):
            ends = [[row["error"] - row["error_low"]], [row["error_high"] - row["error"]]]
            place = MODELS.index(row["model"])
            axes.errorbar(row["error"], place, xerr=ends, fmt="o", color=f"C{place}", capsize=3)
            axes.annotate(f"{row['error']:.2f}", (row["error"], place), (0, 7), textcoords="offset points", ha="center")
        axes.set(title=task.title, xlabel="error (%)", xscale="log", ylim=(len(MODELS) - 0.5, -0.7))
        axes.margins(x=0.15)
        plain_numbers(axes)
    panels[0].set_yticks(range(len(MODELS)), MODELS)
    return figure


def errors_by_time(tasks: Sequence[Task]) -> Figure:
    """A panel for each task of all digits: the error against minutes of a processor's core that training took, a line
    for each model that was also trained for longer."""
    timed = [task for task in tasks[:3] if not rows_of(task.found, task.dataset).empty]
    figure = Figure(figsize=(2 + 3.6 * len(timed), 3.6), layout="constrained")
    for axes, task in zip(np.atleast_1d(figure.subplots(1, len(timed), sharex=True)), timed, strict=True):
        both = pd.concat([rows_of(each, task.dataset) for each in (task.found, task.longer)])
        for model, rows in both.groupby("model", sort=False):
            minutes, number = rows["training_seconds"] / 60, MODELS.index(model)
            ends = [rows["error"] - rows["error_low"], rows["error_high"] - rows["error"]]
            axes.errorbar(minutes, rows["error"], ends, fmt="o-", color=f"C{number}", capsize=3, label=model)
        axes.set(title=task.title, xlabel="minutes of training, of one core", xscale="log", yscale="log")
        plain_numbers(axes)
        axes.set_ylabel("error (%)")
    shown = {label: dot for axes in figure.axes for dot, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown.keys(), loc="outside right center", frameon=False)
    return figure


def plain_numbers(axes: Axes) -> None:
    """A few numbers on log axes, as 0.5 and 2, and not as powers of ten."""
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_locator(FixedLocator(_TICKS))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter("{x:g}")


def main() -> None:
    """Write the page's tables and pictures. Raises UserError where nothing is kept, or the page has no place for it."""
    top, _, rest = around(PAGE, BEGIN, END)
    trials = [trial for trial in load() if trial.row["experiment"] in OF_TODAY]
    if not trials:
        raise UserError("nothing of configs/verdict is kept yet: python scripts/results.py RUN ...")
    tasks = tasks_of(trials)
    written = markdown(
        environment().from_string(TEMPLATE.read_text(encoding="utf-8")),
        models=MODELS,
        tasks=tasks,
        macs=[found_by(trials, name) for name in ("verdict_macs", "verdict_macs_ti")],
        resampling=resampling(trials),
        benchmark=task_of(trials, "Rotated MNIST as everybody turns it", "mnist_rot", "mnist_rot", ""),
        trainings=len(trials),
    )
    write(ROOT / "docs/verdict.png", figure_file(errors_of(tasks)))
    write(ROOT / "docs/verdict_time.png", figure_file(errors_by_time(tasks)))
    write(PAGE, f"{top}{BEGIN}\n\n{written}\n{END}{rest}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
