"""Checkpoints as networks that are ready to be asked: on any variant, and as pictures."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stn_train.errors import UserError, did_you_mean, first_line
from stn_train.evaluation.classify import classify
from stn_train.evaluation.metrics import AlignmentMetrics
from stn_train.experiment.final_evaluation import alignment_metrics
from stn_train.experiment.plan import check_import
from stn_train.experiment.runtime import Runtime, TrialData, prepare
from stn_train.experiment.trial import build_for, records_of
from stn_train.models.inputs import warn_of_range
from stn_train.models.precision import precision_on
from stn_train.models.user_classifier import line_of
from stn_train.run_folder import EpochRecord, RunFolder
from stn_train.specs import DATASETS, DatasetSpec, ExperimentSpec, TrialSpec, is_given_poses
from stn_train.training.checkpoint import read_checkpoint, restore
from stn_train.training.loop import TrainingState


@dataclass(frozen=True)
class Trained:
    """A checkpoint's `network`, with the weights that are evaluated, and what was seen after each epoch (`looks`)."""

    checkpoint: Path
    trial: TrialSpec
    network: nn.Sequential
    records: list[EpochRecord]
    epoch_logs: list[dict[str, Any]]
    run: ExperimentSpec | None
    """The experiment in whose folder the checkpoint lies, if it lies in one."""

    def problem(self, runtime: Runtime, dataset: DatasetSpec | None = None) -> TrialData:
        """The trial's data, or the same digits distorted as another dataset has it.

        The run says where its digits lie, unless the session does.
        """
        data_root = runtime.data_root or (self.run.data_root if self.run else None)
        asked = self.trial.changed(dataset=dataset or self.trial.dataset, prebuilt=False)
        return prepare(asked, replace(runtime, prebuilt=None, data_root=data_root))


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


def load_trained(checkpoint: Path, runtime: Runtime) -> Trained:
    """Read a checkpoint onto the session's device.

    Raises UserError where it is missing or damaged, or names a classifier that the session does not let it import.
    """
    content = read_checkpoint(checkpoint)
    trial: TrialSpec = content["trial"]
    if not runtime.allow_imports:
        check_import(trial.model, checkpoint)
    state = TrainingState.start(build_for(trial, runtime).network, trial.training)
    epoch_logs = restore(state, content, checkpoint)
    return Trained(
        checkpoint,
        trial,
        state.final.eval(),
        records_of(trial.training, state, epoch_logs),
        epoch_logs,
        _run_of(checkpoint),
    )


def _run_of(checkpoint: Path) -> ExperimentSpec | None:
    above = checkpoint.resolve().parents
    if len(above) < 5 or above[3].name != "trials":
        return None
    folder = RunFolder(above[4])
    return folder.load_experiment() if folder.config.exists() else None


class NoPoseError(UserError):
    """A network that is given the true pose was asked about a dataset that has none to give."""


@dataclass(frozen=True)
class Evaluation:
    """What a checkpoint makes of a variant of M images.

    Each was read as it is, and turned by each of the degrees in `tta_angles`. `wrong` (M, bool) and the numbers of the
    images' digits, `digit` (M; M x C for C channels); `confusion` (classes x classes) has a row for each true and a
    column for each predicted class; `evidence` says what its transformers do, where that can be told.
    """

    checkpoint: Path
    trial: TrialSpec
    epoch: int
    dataset: DatasetSpec
    tta_angles: tuple[float, ...]
    wrong: NDArray[np.bool_]
    digit: NDArray[np.int64]
    confusion: NDArray[np.int64]
    alignment: AlignmentMetrics | None


@contextmanager
def faults_told(trained: Trained) -> Iterator[None]:
    """Where a classifier of the user's raises inside, raise UserError with the checkpoint and the classifier's line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        line = line_of(trained.trial.model.classifier, error)
        if not line:
            raise
        raise UserError(f"{trained.checkpoint}: {type(error).__name__}: {first_line(error)}{line}") from error


def evaluate(
    checkpoint: Path, dataset: str | None, runtime: Runtime, tta_angles: tuple[float, ...] | None = None
) -> Evaluation:
    """Classify the fixed images of the checkpoint's own dataset, or of another, drawn on the model's canvas.

    Another is one of the run that the checkpoint lies in, or a preset; `tta_angles`, in degrees (see `classify`), stand
    in for the model's own. Raises UserError where the checkpoint is damaged or the dataset is not known, NoPoseError
    where it has no pose for a network that is given one.
    """
    trained = load_trained(checkpoint, runtime)
    trial = trained.trial
    asked = trial.dataset if dataset is None else _dataset(dataset, trained)
    problem = trained.problem(runtime, asked)
    variant, precision = problem.variant, precision_on(runtime.device, trial.training)
    tta_angles = trial.model.tta_angles if tta_angles is None else tta_angles
    with faults_told(trained):
        found = classify(trained.network, variant.images, runtime.device, precision, problem.poses, tta_angles)
    return Evaluation(
        checkpoint,
        trial,
        len(trained.records),
        asked,
        tta_angles,
        (found.predicted != variant.labels).numpy(),
        variant.digit.numpy(),
        found.confusion(variant.labels, asked.classes).numpy(),
        alignment_metrics(trial.model, asked, variant, trained.network, found.thetas, runtime.device, precision),
    )


def load_network(checkpoint: str | Path, allow_imports: bool = False) -> nn.Sequential:
    """The network of a checkpoint.pt on the CPU, with the weights that are evaluated, ready to be called.

    It maps images (N x C x H x W, float32 from 0 to 1) to logits (N x classes), each image as it is, without a model's
    `tta_angles`; its parts are `classifier` and, where something stands at the input, `transformer`. It raises
    UserError for images of other channels or, where one of its layers is made for a size, of another size, and warns of
    values that are not from 0 to 1. Raises UserError where the file is missing or damaged, or names a classifier that
    is not ours, whose code is run only where `allow_imports` says so.
    """
    network = load_trained(Path(checkpoint), Runtime(torch.device("cpu"), allow_imports=allow_imports)).network
    network.register_forward_pre_hook(warn_of_range)
    return network


def _dataset(name: str, trained: Trained) -> DatasetSpec:
    """The dataset of this name: the trial's own, one of its run, or a preset; on the canvas that the model knows."""
    trial, run = trained.trial, trained.run
    of_run = {dataset.name: dataset for dataset in (*(run.datasets if run else ()), trial.dataset)}
    if name not in of_run and name not in DATASETS:
        raise UserError(f"--dataset {name}: there is no such dataset{did_you_mean(name, [*DATASETS, *of_run])}")
    found = of_run[name] if name in of_run else DatasetSpec.model_validate(name)
    if (found.channels, found.classes) != (trial.dataset.channels, trial.dataset.classes):
        raise UserError(
            f"--dataset {name} has {found.channels} channels and {found.classes} classes, and the network was trained "
            f"for {trial.dataset.channels} and {trial.dataset.classes}; name a dataset that has as many"
        )
    if is_given_poses(trial.model) and not found.has_true_pose:
        raise NoPoseError(
            f"--dataset {name}: {trial.model.name} is given the true pose of an image, and {name} has none to give"
        )
    return found.changed(canvas=trial.dataset.canvas)
