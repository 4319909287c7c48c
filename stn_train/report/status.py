"""How far the trials of a run's folder have come."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stn_train.report.text import aligned
from stn_train.run_folder import RunFolder
from stn_train.specs import TrialSpec, trials_of
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
    return [_status(folder, trial) for trial in trials_of(folder.load_experiment())]


def status_text(statuses: Sequence[TrialStatus]) -> str:
    """A line for each trial, and one that counts them."""
    lines = [[one.key, one.state, _progress(one)] for one in statuses]
    counts = Counter(one.state for one in statuses)
    return f"{aligned(lines, names=3)}\n\n" + ", ".join(f"{count} {state}" for state, count in counts.items())


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


def _progress(one: TrialStatus) -> str:
    if one.error is not None:
        return f"error {one.error:.2f} %"
    if one.why is not None:
        return one.why
    return f"epoch {one.epoch} of {one.epochs}" if one.state in ("running", "interrupted") else ""
