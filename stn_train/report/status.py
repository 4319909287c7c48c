"""How far each trial of a run has come. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stn_train.report.page import render
from stn_train.run_folder import RunFolder, TrialFailure, TrialResult
from stn_train.specs import trials_of
from stn_train.storage import is_locked


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
    found = []
    for trial in trials_of(folder.load_experiment()):
        files, epochs = folder.trial(trial), trial.training.epochs
        if files.result.exists():
            found.append(TrialStatus(trial.key, "done", epochs, epochs, files.load(TrialResult, files.result).error))
            continue
        records = files.load_metrics()
        epoch = records[-1].epoch if records else 0
        if is_locked(files.path):
            found.append(TrialStatus(trial.key, "running", epoch, epochs))
        elif files.failure.exists():
            why = files.load(TrialFailure, files.failure).why
            found.append(TrialStatus(trial.key, "failed", epoch, epochs, why=why))
        else:
            begun = epoch > 0 or files.checkpoint.exists()
            found.append(TrialStatus(trial.key, "interrupted" if begun else "pending", epoch, epochs))
    return found


def status_text(statuses: Sequence[TrialStatus]) -> str:
    """A line for each trial, and one that counts them."""
    return render("text.j2", "status", statuses)
