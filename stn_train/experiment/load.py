"""Checkpoints as networks that are ready to be asked about the fixed images of any dataset."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stn_train.config import validated
from stn_train.data.datasets import FixedDataset
from stn_train.data.images import source_size
from stn_train.errors import UserError, did_you_mean, first_line
from stn_train.evaluation.classify import Predictions
from stn_train.evaluation.metrics import AlignmentMetrics
from stn_train.experiment.run import check_import
from stn_train.experiment.runtime import Runtime, load_fixed
from stn_train.experiment.trial import alignment_of, classified, network_of, result_of
from stn_train.models.blocks import warn_of_others
from stn_train.models.network import Network, precision_on
from stn_train.models.own import line_of
from stn_train.run_folder import RunFolder, TrialResult
from stn_train.specs import (
    DATASETS,
    DatasetSpec,
    ExperimentSpec,
    TrialSpec,
    check_source,
    has_true_pose,
)
from stn_train.training.checkpoint import read_checkpoint, restore_weights, way_out

SHIPPED = Path(__file__).parent.parent / "shipped"
"""The folder of a run that ships with the package: a CNN and an ST-CNN, trained on MNIST's digits as `rts` has them.

Its checkpoints hold the weights to evaluate, and nothing to train on with: see scripts/shipped.py.
"""


@dataclass(frozen=True)
class Trained:
    """A checkpoint's `network`, with the weights that are evaluated, after `epoch` whole epochs."""

    checkpoint: Path
    trial: TrialSpec
    network: Network
    epoch: int


def checkpoints_in(target: Path) -> list[Path]:
    """The checkpoint that `target` is, or those of the run or trial folder that it is. Raises UserError if none."""
    if target.is_file():
        return [target]
    if not target.exists():
        raise UserError(f"{target} does not exist: name a run's folder, a trial's folder or a checkpoint.pt")
    found = sorted(target.rglob("checkpoint.pt"))
    if not found and (left := [*target.rglob("result.json"), *target.rglob("checkpoint-before.pt")]):
        missing = left[0].with_name("checkpoint.pt")
        raise UserError(f"{missing} is missing; {way_out(missing)}")
    if not found:
        raise UserError(f"{target} holds no checkpoint.pt: nothing has been trained there yet")
    return found


def load_trained(checkpoint: Path, runtime: Runtime) -> Trained:
    """Read a checkpoint onto the runtime's device.

    Raises UserError where it is missing or damaged, or names a part of the user's that may not be imported.
    """
    content = read_checkpoint(checkpoint)
    trial: TrialSpec = content["trial"]
    if not runtime.allow_imports:
        check_import(trial.model, checkpoint)
    network = network_of(trial, runtime)
    restore_weights(network, content, checkpoint)
    return Trained(checkpoint, trial, network.eval(), content["epoch"])


def run_of(checkpoint: Path, runtime: Runtime) -> tuple[Runtime, ExperimentSpec | None]:
    """The experiment in whose folder a checkpoint lies, if it lies in one; the runtime then finds its digits."""
    above = checkpoint.resolve().parents
    if len(above) < 5 or above[3].name != "trials" or not RunFolder(above[4]).config.exists():
        return runtime, None
    if above[4] not in runtime.loaded:
        runtime.loaded[above[4]] = RunFolder(above[4]).load_experiment()
    run: ExperimentSpec = runtime.loaded[above[4]]
    return replace(runtime, data_root=runtime.data_root or run.data_root), run


class NoPoseError(UserError):
    """A network that is given the true pose was asked about a dataset that has none to give."""


@dataclass(frozen=True)
class Evaluation:
    """What a checkpoint makes of M fixed images, after `epoch` epochs on the dataset `trained_on`.

    `result` is of the dataset that it was asked about, at the test-time augmentation that was asked for. label,
    predicted (M), classes from 0 on; the numbers of the images' digits, `digit` (M; M x C for C channels); `alignment`
    says what its transformers do, where that can be told.
    """

    checkpoint: Path
    epoch: int
    trained_on: str
    result: TrialResult
    label: NDArray[np.int64]
    predicted: NDArray[np.int64]
    digit: NDArray[np.int64]
    alignment: AlignmentMetrics | None


def evaluate(
    checkpoint: Path, dataset: str | None, runtime: Runtime, tta_angles: tuple[float, ...] | None = None
) -> Evaluation:
    """Classify the fixed images of the checkpoint's own dataset, or of another, drawn on the model's canvas.

    Another is one of the run that the checkpoint lies in, or a preset; `tta_angles`, in degrees (see `classify`), stand
    in for the model's own. Raises UserError where the checkpoint is damaged or the dataset is not known, NoPoseError
    where it has no pose for a network that is given one.
    """
    trained = load_trained(checkpoint, runtime)
    runtime, run = run_of(checkpoint, runtime)
    trial, network = trained.trial, trained.network
    asked = trial.dataset if dataset is None else _dataset(dataset, trial, run)
    fixed, precision = load_fixed(trial, asked, runtime), precision_on(runtime.device, trial.training)
    tta_angles = trial.model.tta_angles if tta_angles is None else tta_angles
    found = predict(trained, runtime, asked, fixed, tta_angles)
    as_asked = trial.changed(dataset=asked, model=trial.model.changed(tta_angles=tta_angles))
    training_digits = trial.training.train_size or source_size(trial.source, trial.validation)[0]
    return Evaluation(
        checkpoint,
        trained.epoch,
        trial.dataset.name,
        result_of(as_asked, precision, training_digits, fixed, found),
        fixed.labels.numpy(),
        found.predicted.numpy(),
        fixed.digit.numpy(),
        alignment_of(trial, network, runtime, asked, fixed, found.thetas),
    )


def predict(
    trained: Trained,
    runtime: Runtime,
    dataset: DatasetSpec,
    fixed: FixedDataset,
    tta_angles: tuple[float, ...] | None = None,
) -> Predictions:
    """What a network makes of fixed images of this dataset, at the model's own `tta_angles` if none are given.

    Raises UserError, with the checkpoint and the classifier's line, where a classifier of the user's raises inside.
    """
    with told_by_its_line(trained):
        return classified(trained.trial, trained.network, runtime, dataset, fixed, tta_angles)


@contextmanager
def told_by_its_line(trained: Trained) -> Iterator[None]:
    """Inside, what a part of the user's raises is told by the checkpoint and the part's line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        line = line_of(trained.trial.model, error)
        if not line:
            raise
        raise UserError(f"{trained.checkpoint}: {type(error).__name__}: {first_line(error)}{line}") from error


def load_network(checkpoint: str | Path, allow_imports: bool = False) -> Network:
    """The network of a checkpoint.pt on the CPU, with the weights that are evaluated, ready to be called.

    It maps images (N x C x H x W, float32 from 0 to 1) to logits (N x classes), each image as it is, without a model's
    `tta_angles`; its parts are `classifier` and, where something stands at the input, `transformer`. It raises
    UserError for images of other channels or, where one of its layers is made for a size, of another size; else it
    warns of another size, and of values that are not from 0 to 1. Raises UserError where the file is missing or
    damaged, or names a part that is not ours, whose code is run only where `allow_imports` says so.
    """
    with torch.random.fork_rng(devices=[]):
        trained = load_trained(Path(checkpoint), Runtime(torch.device("cpu"), allow_imports=allow_imports))
    trained.network.register_forward_pre_hook(partial(warn_of_others, trained.trial.dataset.canvas))
    return trained.network


def _dataset(name: str, trial: TrialSpec, run: ExperimentSpec | None) -> DatasetSpec:
    """The dataset of this name: the trial's own, one of its run, or a preset; on the canvas that the model knows."""
    of_run = {dataset.name: dataset for dataset in (*(run.datasets if run else ()), trial.dataset)}
    if name not in of_run and name not in DATASETS:
        raise UserError(f"--dataset {name}: there is no such dataset{did_you_mean(name, [*DATASETS, *of_run])}")
    found = of_run[name] if name in of_run else validated(DatasetSpec, name, trial.source.size)
    asked = trial.changed(dataset=found)
    if asked.channels != trial.channels:
        raise UserError(
            f"--dataset {name} has {asked.channels} channels and {asked.classes} classes, and the network was trained "
            f"for {trial.channels} and {trial.classes}; name a dataset that has as many"
        )
    try:
        check_source(found, trial.source)
    except ValueError as error:
        raise UserError(f"--dataset {error}") from None
    if trial.model.pose == "oracle" and not has_true_pose(found, trial.source):
        raise NoPoseError(
            f"--dataset {name}: {trial.model.name} is given the true pose of an image, and {name} has none to give"
        )
    return found.changed(canvas=trial.dataset.canvas)
