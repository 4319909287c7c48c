"""One trial: trains a model on a dataset, keeps its checkpoint, and writes what it found."""

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stn_train import storage
from stn_train.data.datasets import FixedDataset
from stn_train.errors import Stopped, TrialError, UserError, first_line
from stn_train.evaluation.classify import Predictions, classify
from stn_train.evaluation.diagnostics import diagnose
from stn_train.evaluation.metrics import Diagnostics
from stn_train.experiment.final_evaluation import write_final_evaluation
from stn_train.experiment.runtime import Runtime, TrialData, prepare
from stn_train.experiment.snapshots import Arrays, has_gallery, snapshot
from stn_train.models import Model, build_model
from stn_train.models.precision import precision_on
from stn_train.models.user_classifier import line_of
from stn_train.run_folder import EpochRecord, TrialFolder
from stn_train.specs import TrainingSpec, TrialSpec
from stn_train.training.checkpoint import read_checkpoint, restore, save_checkpoint, tensors_like, way_out
from stn_train.training.loop import TrainingState, steps_per_epoch, train
from stn_train.training.recipe import scheduled_lr

_EXAMINED = 128


@dataclass(frozen=True)
class Failure:
    """Why a trial could not go on; with a traceback where that is a mistake of ours."""

    why: str
    traceback: str | None

    @staticmethod
    def of(error: BaseException, classifier: str) -> "Failure":
        """From what was raised while a network with this classifier was trained."""
        if isinstance(error, TrialError):
            return Failure(str(error), None)
        line = line_of(classifier, error)
        trace = None if line else "".join(traceback.format_exception(error))
        return Failure(f"{type(error).__name__}: {first_line(error)}{line}", trace)


def model_of(trial: TrialSpec) -> Model:
    """The trial's model, freshly initialised from torch's generator. Raises UserError where it cannot be built."""
    dataset = trial.dataset
    return build_model(trial.model, dataset.canvas, trial.parameters, dataset.channels, dataset.classes)


def build_for(trial: TrialSpec, runtime: Runtime) -> Model:
    """The trial's model as it is before training, on the session's device: the same for the same seed."""
    torch.manual_seed(trial.seed)
    model = model_of(trial)
    model.network.to(runtime.device).to(memory_format=torch.channels_last)
    return model


def run_trial(
    trial: TrialSpec, folder: TrialFolder, runtime: Runtime, after_step: Callable[[float], bool]
) -> Iterator[EpochRecord]:
    """Train a trial from its checkpoint, or from the start, and write its files; yields a record after each epoch.

    `after_step` is told the epochs done, a fraction, and says whether to stop: then the checkpoint is
    written and Stopped is raised. `result.json` is written last. Raises UserError where the checkpoint is another's.
    """
    model = build_for(trial, runtime)
    problem = prepare(trial, runtime)
    recipe, steps = trial.training, steps_per_epoch(problem.training, trial.training)
    state = TrainingState.start(model.network, recipe)
    epoch_logs: list[dict[str, Any]] = []
    before = _snapshot(trial, runtime, state, problem)
    if folder.checkpoint.exists():
        epoch_logs = restore(state, read_checkpoint(folder.checkpoint), folder.checkpoint)
        check_snapshots(before, epoch_logs, folder.checkpoint)
        _write_metrics(folder, recipe, state, epoch_logs)

    variant, precision, tta_angles = problem.variant, precision_on(runtime.device, recipe), trial.model.tta_angles

    def classified() -> Predictions:
        return classify(state.final, variant.images, runtime.device, precision, problem.poses, tta_angles)

    predictions: Predictions | None = None
    epochs = train(
        state,
        problem.training,
        recipe,
        trial.seed,
        runtime.device,
        lambda: after_step(state.epoch + len(state.step_losses) / steps),
    )
    try:
        for _ in epochs:
            predictions = classified()
            look = {
                "error": _percent_wrong(predictions, variant),
                "transformers": _diagnose(trial, state, problem),
                "seen": _snapshot(trial, runtime, state, problem),
            }
            epoch_logs.append(look)
            save_checkpoint(folder.checkpoint, trial, state, epoch_logs)
            yield _write_metrics(folder, recipe, state, epoch_logs)[-1]
    except Stopped:
        save_checkpoint(folder.checkpoint, trial, state, epoch_logs)
        raise
    history = [before, *(look["seen"] for look in epoch_logs)]
    predictions = predictions or classified()
    write_final_evaluation(trial, folder, runtime, model, state, problem, predictions, history)


def _snapshot(trial: TrialSpec, runtime: Runtime, state: TrainingState, problem: TrialData) -> Arrays:
    return snapshot(trial, runtime, state.final, problem) if has_gallery(trial) else {}


def check_snapshots(before: Arrays, epoch_logs: list[dict[str, Any]], checkpoint: Path) -> None:
    """Raise UserError where looks at a training hold other arrays than the one `before` it (see `snapshot`)."""
    try:
        for look in epoch_logs:
            tensors_like(look["seen"], before)
    except ValueError as error:
        raise UserError(
            f"{checkpoint} is damaged: of what its training is drawn from, {error}; {way_out(checkpoint)}"
        ) from None


def _diagnose(trial: TrialSpec, state: TrainingState, problem: TrialData) -> list[dict[str, float]]:
    """The health of the transformers, as plain values, on a few images of the epoch just trained."""
    if trial.model.transformer is None or trial.model.transformer.pose != "predicted":
        return []
    batch = next(iter(problem.training.batches(trial.seed, state.epoch - 1, trial.training.batch_size)))
    return [
        diagnostics.model_dump()
        for diagnostics in diagnose(state.final, batch.images[:_EXAMINED], batch.labels[:_EXAMINED])
    ]


def _percent_wrong(predictions: Predictions, variant: FixedDataset) -> float:
    return 100 * int((predictions.predicted != variant.labels).sum()) / len(variant.labels)


def _write_metrics(
    folder: TrialFolder, recipe: TrainingSpec, state: TrainingState, epoch_logs: list[dict[str, Any]]
) -> list[EpochRecord]:
    records = records_of(recipe, state, epoch_logs)
    storage.write_records(folder.metrics, [record.model_dump_json() for record in records])
    return records


def records_of(recipe: TrainingSpec, state: TrainingState, epoch_logs: list[dict[str, Any]]) -> list[EpochRecord]:
    """The whole epochs of a training, with what was seen after each."""
    return [
        EpochRecord(
            epoch=epoch,
            loss=loss,
            error=look["error"],
            lr=scheduled_lr(recipe, epoch / recipe.epochs),
            transformers=tuple(Diagnostics(**diagnostics) for diagnostics in look["transformers"]),
        )
        for epoch, (loss, look) in enumerate(zip(state.losses, epoch_logs, strict=True), start=1)
    ]
