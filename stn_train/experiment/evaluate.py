"""Any checkpoint on any variant, also one that it was not trained on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stn_train.errors import UserError, did_you_mean
from stn_train.evaluation.classify import classify
from stn_train.evaluation.evidence import Evidence
from stn_train.experiment.evidence import gather
from stn_train.experiment.session import Session
from stn_train.experiment.trained import Trained, load_trained
from stn_train.models.inputs import warn_of_range
from stn_train.models.precision import precision_on
from stn_train.specs import DATASETS, DatasetSpec, TrialSpec, is_given_poses


class NoPoseError(UserError):
    """A network that is given the true pose was asked about a dataset that has none to give."""


@dataclass(frozen=True)
class Evaluation:
    """What a checkpoint makes of a variant of M images.

    Each was read as it is, and turned by each of the degrees in `turns`. `wrong` (M, bool) and the numbers of the
    images' digits, `digit` (M; M x C for C channels); `confusion` (classes x classes) has a row for each true and a
    column for each predicted class; `evidence` says what its transformers do, where that can be told.
    """

    checkpoint: Path
    trial: TrialSpec
    epoch: int
    dataset: DatasetSpec
    turns: tuple[float, ...]
    wrong: NDArray[np.bool_]
    digit: NDArray[np.int64]
    confusion: NDArray[np.int64]
    evidence: Evidence | None


def evaluate(
    checkpoint: Path, dataset: str | None, session: Session, turns: tuple[float, ...] | None = None
) -> Evaluation:
    """Classify the fixed images of the checkpoint's own dataset, or of another, drawn on the model's canvas.

    Another is one of the run that the checkpoint lies in, or a preset; `turns`, in degrees (see `classify`), stand in
    for the model's own. Raises UserError where the checkpoint is damaged or the dataset is not known, NoPoseError where
    it has no pose for a network that is given one.
    """
    trained = load_trained(checkpoint, session)
    trial = trained.trial
    asked = trial.dataset if dataset is None else _dataset(dataset, trained)
    problem = trained.problem(session, asked)
    variant, precision = problem.variant, precision_on(session.device, trial.training)
    turns = trial.model.turns if turns is None else turns
    found = classify(trained.network, variant.images, session.device, precision, problem.poses, turns)
    return Evaluation(
        checkpoint,
        trial,
        len(trained.records),
        asked,
        turns,
        (found.predicted != variant.labels).numpy(),
        variant.digit.numpy(),
        found.confusion(variant.labels, asked.classes).numpy(),
        gather(trial.model, asked, variant, trained.network, found.thetas, session.device, precision),
    )


def load_network(checkpoint: str | Path, allow_imports: bool = False) -> nn.Sequential:
    """The network of a checkpoint.pt on the CPU, with the weights that are evaluated, ready to be called.

    It maps images (N x C x H x W, float32 from 0 to 1) to logits (N x classes), each image as it is, without a model's
    `turns`; its parts are `classifier` and, where something stands at the input, `transformer`. It raises UserError for
    images of other channels or, where one of its layers is made for a size, of another size, and warns of values that
    are not from 0 to 1. Raises UserError where the file is missing or damaged, or names a classifier that is not ours,
    whose code is run only where `allow_imports` says so.
    """
    network = load_trained(Path(checkpoint), Session(torch.device("cpu"), allow_imports=allow_imports)).network
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
