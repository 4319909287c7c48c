"""Any checkpoint on any variant, also one that it was not trained on."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stn_train.errors import UserError, did_you_mean
from stn_train.evaluation.classify import classify
from stn_train.evaluation.evidence import Evidence
from stn_train.experiment.evidence import gather
from stn_train.experiment.session import Session, prepare
from stn_train.experiment.trial import build_for
from stn_train.models.precision import precision_on
from stn_train.reporting.records import RunFolder
from stn_train.specs import DATASETS, DatasetSpec, ExperimentSpec, TrialSpec, is_told
from stn_train.training.checkpoint import read_checkpoint, restore
from stn_train.training.loop import TrainingState


@dataclass(frozen=True)
class Evaluation:
    """What a checkpoint makes of a variant of M images.

    `wrong` (M, bool) and the numbers of the images' digits, `digit` (M); `confusion` (classes x classes) has a row for
    each true and a column for each predicted class; `evidence` says what its transformers do, where that can be told.
    """

    checkpoint: Path
    trial: TrialSpec
    epoch: int
    dataset: DatasetSpec
    wrong: NDArray[np.bool_]
    digit: NDArray[np.int64]
    confusion: NDArray[np.int64]
    evidence: Evidence | None


def checkpoints_in(target: Path) -> list[Path]:
    """The checkpoint that `target` is, or those of the run or trial folder that it is. Raises UserError if none."""
    if target.is_file():
        return [target]
    if not target.exists():
        raise UserError(f"{target} does not exist: name a run's folder, a trial's folder or a checkpoint.pt")
    found = sorted(target.rglob("checkpoint.pt"))
    if not found:
        raise UserError(f"{target} holds no checkpoint.pt: nothing has been trained there yet")
    return found


def evaluate(checkpoint: Path, dataset: str | None, session: Session) -> Evaluation:
    """Classify the fixed images of the checkpoint's own dataset, or of another, drawn on the model's canvas.

    Another is one of the run that the checkpoint lies in, or a preset; the run also says where its digits lie, unless
    the session does. Raises UserError where the checkpoint is damaged or the dataset is not known.
    """
    trial, state = _load(checkpoint, session)
    run = _run_of(checkpoint)
    asked = trial.dataset if dataset is None else _dataset(dataset, trial, run)
    data_root = session.data_root or (run.data_root if run else None)
    other = trial.model_copy(update={"dataset": asked, "built": False})
    problem = prepare(other, replace(session, built=None, data_root=data_root))
    variant, precision = problem.variant, precision_on(session.device, trial.training)
    found = classify(state.final, variant.images, session.device, precision, problem.poses)
    return Evaluation(
        checkpoint,
        trial,
        state.epoch,
        asked,
        (found.predicted != variant.labels).numpy(),
        variant.digit.numpy(),
        found.confusion(variant.labels, asked.classes).numpy(),
        gather(asked, variant, state.final, found.thetas),
    )


def load_network(checkpoint: str | Path) -> nn.Sequential:
    """The network of a checkpoint.pt on the CPU, with the weights that are evaluated, ready to be called.

    It maps images (N x C x H x W, float32 from 0 to 1) to logits (N x classes); its parts are `classifier` and, where
    something stands at the input, `transformer`. Raises UserError where the file is missing or damaged.
    """
    _, state = _load(Path(checkpoint), Session(torch.device("cpu")))
    return state.final.eval()


def _load(checkpoint: Path, session: Session) -> tuple[TrialSpec, TrainingState]:
    content = read_checkpoint(checkpoint)
    trial: TrialSpec = content["trial"]
    state = TrainingState.start(build_for(trial, session).network, trial.training)
    restore(state, content, checkpoint)
    return trial, state


def _run_of(checkpoint: Path) -> ExperimentSpec | None:
    """The experiment in whose folder a checkpoint lies, if it lies in one."""
    above = checkpoint.resolve().parents
    if len(above) < 5 or above[3].name != "trials":
        return None
    folder = RunFolder(above[4])
    return folder.load_experiment() if folder.config.exists() else None


def _dataset(name: str, trial: TrialSpec, run: ExperimentSpec | None) -> DatasetSpec:
    """The dataset of this name: the trial's own, one of its run, or a preset; on the canvas that the model knows."""
    of_run = {dataset.name: dataset for dataset in (*(run.datasets if run else ()), trial.dataset)}
    if name not in of_run and name not in DATASETS:
        raise UserError(f"--dataset {name}: there is no such dataset{did_you_mean(name, [*DATASETS, *of_run])}")
    found = of_run[name] if name in of_run else DatasetSpec.model_validate(name)
    if (found.channels, found.classes) != (trial.dataset.channels, trial.dataset.classes):
        raise UserError(
            f"--dataset {name} has {found.channels} channels and {found.classes} classes, and the network was trained "
            f"for {trial.dataset.channels} and {trial.dataset.classes}; name a dataset that has as many"
        )
    if is_told(trial.model) and not found.has_true_pose:
        raise UserError(
            f"--dataset {name}: {trial.model.name} is given the true pose of an image, and {name} has none to give"
        )
    return found.model_copy(update={"canvas": trial.dataset.canvas})
