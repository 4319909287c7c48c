"""Checkpoints as networks that are ready to be asked."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from stn_train.errors import UserError
from stn_train.experiment.session import Problem, Session, prepare
from stn_train.experiment.trial import build_for, records_of
from stn_train.imports import refuse_import
from stn_train.reporting.records import EpochRecord, RunFolder
from stn_train.specs import DatasetSpec, ExperimentSpec, TrialSpec
from stn_train.training.checkpoint import read_checkpoint, restore
from stn_train.training.loop import TrainingState


@dataclass(frozen=True)
class Trained:
    """A checkpoint's `network`, with the weights that are evaluated, and what was seen after each epoch (`looks`)."""

    checkpoint: Path
    trial: TrialSpec
    network: nn.Sequential
    records: list[EpochRecord]
    looks: list[dict[str, Any]]
    run: ExperimentSpec | None
    """The experiment in whose folder the checkpoint lies, if it lies in one."""

    def problem(self, session: Session, dataset: DatasetSpec | None = None) -> Problem:
        """The trial's data, or the same digits distorted as another dataset has it.

        The run says where its digits lie, unless the session does.
        """
        data_root = session.data_root or (self.run.data_root if self.run else None)
        asked = self.trial.changed(dataset=dataset or self.trial.dataset, built=False)
        return prepare(asked, replace(session, built=None, data_root=data_root))


def checkpoints_in(target: Path) -> list[Path]:
    """The checkpoint that `target` is, or those of the run or trial folder that it is. Raises UserError if none."""
    if target.is_file():
        return [target]
    if not target.exists():
        raise UserError(f"{target} does not exist: name a run's folder, a trial's folder or a checkpoint.pt")
    found = sorted(target.rglob("checkpoint.pt"))
    if not found and any(target.rglob("checkpoint-before.pt")):
        raise UserError(f"{target} holds no checkpoint.pt, but one before it: give the run's command again to go on")
    if not found:
        raise UserError(f"{target} holds no checkpoint.pt: nothing has been trained there yet")
    return found


def load_trained(checkpoint: Path, session: Session) -> Trained:
    """Read a checkpoint onto the session's device.

    Raises UserError where it is missing or damaged, or names a classifier that the session does not let it import.
    """
    content = read_checkpoint(checkpoint)
    trial: TrialSpec = content["trial"]
    if not session.allow_imports:
        refuse_import(trial.model, checkpoint)
    state = TrainingState.start(build_for(trial, session).network, trial.training)
    looks = restore(state, content, checkpoint)
    return Trained(
        checkpoint, trial, state.final.eval(), records_of(trial.training, state, looks), looks, _run_of(checkpoint)
    )


def _run_of(checkpoint: Path) -> ExperimentSpec | None:
    above = checkpoint.resolve().parents
    if len(above) < 5 or above[3].name != "trials":
        return None
    folder = RunFolder(above[4])
    return folder.load_experiment() if folder.config.exists() else None
