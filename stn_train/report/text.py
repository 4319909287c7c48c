"""Results as plain text, for the terminal (see templates/text.j2), and how far a run has come."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stn_train.evaluation.metrics import AlignmentMetrics
from stn_train.report.page import WIDTH, render
from stn_train.report.results import Results, Robust
from stn_train.run_folder import RunFolder
from stn_train.specs import TrialSpec, trials_of
from stn_train.storage import is_locked

_COLUMNS = (
    *("dataset", "model", "seeds", "training_digits", "tta", "parameters", "macs", "error", "paper_error"),
    *("difference", "training_images_per_second"),
)


def summary(results: Results) -> str:
    """One dataset: a line of figures for each model, and the verdicts. Several: the paper's layout, and a line each.

    What makes the lines longer than WIDTH is left to report.html: first the speed, then the MACs.
    """
    planned = len(trials_of(results.experiment)) if results.experiment else len(results.trials)
    columns = list(_COLUMNS)
    for left_out in ("training_images_per_second", "macs"):
        text = render("text.j2", "summary", results, planned, columns)
        if max(map(len, text.split("\n\n")[0].splitlines())) <= WIDTH:
            return text
        columns.remove(left_out)
    return render("text.j2", "summary", results, planned, columns)


def side_by_side(results: Results) -> str:
    """Models of several runs: a line of figures for each, and the verdicts."""
    return render("text.j2", "side_by_side", results)


def robustness(robust: Robust) -> str:
    """The errors at each level of what is held, and of networks trained on one dataset and tested on others."""
    return render("text.j2", "robustness", robust)


def evaluation(values: dict[str, Any], alignment: AlignmentMetrics | None) -> str:
    """A checkpoint on a dataset: `values` are what `stn-train eval --json` has of it."""
    of_a_digit = bool(alignment and alignment.pose_of_a_digit)
    pose = (alignment.pose_of_a_digit or alignment.pose) if alignment else ()
    return render("text.j2", "evaluation", values, {one.component: one.score for one in pose}, of_a_digit)


@dataclass(frozen=True)
class TrialStatus:
    """How far one trial has come."""

    key: str
    """Its place below `trials/`."""
    state: Literal["done", "running", "failed", "interrupted", "pending"]
    epoch: int
    """Whole epochs trained."""
    epochs: int
    """Epochs in all."""
    error: float | None = None
    """Percent, of a trial that is done."""
    why: str | None = None
    """Of a trial that has failed."""


def status(folder: RunFolder) -> list[TrialStatus]:
    """How far each trial of the experiment has come, in the experiment's order.

    Raises UserError where the folder holds no run, or a file is damaged.
    """
    return [_status(folder, trial) for trial in trials_of(folder.load_experiment())]


def status_text(statuses: Sequence[TrialStatus]) -> str:
    """A line for each trial, and one that counts them."""
    return render("text.j2", "status", statuses)


def _status(folder: RunFolder, trial: TrialSpec) -> TrialStatus:
    files, epochs = folder.trial(trial), trial.training.epochs
    if files.result.exists():
        return TrialStatus(trial.key, "done", epochs, epochs, files.load_result().error)
    epoch = len(files.load_metrics())
    if is_locked(files.path):
        return TrialStatus(trial.key, "running", epoch, epochs)
    if failure := files.load_failure():
        return TrialStatus(trial.key, "failed", epoch, epochs, why=failure.why)
    begun = epoch > 0 or files.checkpoint.exists()
    return TrialStatus(trial.key, "interrupted" if begun else "pending", epoch, epochs)
