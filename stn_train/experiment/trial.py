"""One trial: trains a model on a dataset, keeps its checkpoint, and writes what it found."""

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stn_train import storage
from stn_train.data.datasets import Variant
from stn_train.errors import Stopped, TrialError, UserError, first_line
from stn_train.evaluation.classify import Predictions, classify
from stn_train.evaluation.diagnostics import examine
from stn_train.evaluation.metrics import Health
from stn_train.experiment.final_evaluation import write_findings
from stn_train.experiment.runtime import Problem, Session, prepare
from stn_train.experiment.snapshots import Arrays, has_gallery, watch
from stn_train.models import Model, build_model
from stn_train.models.precision import precision_on
from stn_train.models.user_classifier import line_of
from stn_train.run_folder import EpochRecord, TrialFolder
from stn_train.specs import TrainingSpec, TrialSpec
from stn_train.training.checkpoint import read_checkpoint, restore, save_checkpoint, tensors_like, way_out
from stn_train.training.loop import TrainingState, steps_per_epoch, train
from stn_train.training.recipe import scheduled_rate

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


def build_for(trial: TrialSpec, session: Session) -> Model:
    """The trial's model as it is before training, on the session's device: the same for the same seed."""
    torch.manual_seed(trial.seed)
    model = model_of(trial)
    model.network.to(session.device).to(memory_format=torch.channels_last)
    return model


def run_trial(
    trial: TrialSpec, folder: TrialFolder, session: Session, after_step: Callable[[float], bool]
) -> Iterator[EpochRecord]:
    """Train a trial from its checkpoint, or from the start, and write its files; yields a record after each epoch.

    `after_step` is told the epochs done, a fraction, and says whether to stop: then the checkpoint is
    written and Stopped is raised. `result.json` is written last. Raises UserError where the checkpoint is another's.
    """
    model = build_for(trial, session)
    problem = prepare(trial, session)
    recipe, steps = trial.training, steps_per_epoch(problem.training, trial.training)
    state = TrainingState.start(model.network, recipe)
    looks: list[dict[str, Any]] = []
    before = _watch(trial, session, state, problem)
    if folder.checkpoint.exists():
        looks = restore(state, read_checkpoint(folder.checkpoint), folder.checkpoint)
        refuse_other_pictures(before, looks, folder.checkpoint)
        _write_metrics(folder, recipe, state, looks)

    variant, precision, turns = problem.variant, precision_on(session.device, recipe), trial.model.turns
    epochs = train(
        state,
        problem.training,
        recipe,
        trial.seed,
        session.device,
        lambda: after_step(state.epoch + len(state.step_losses) / steps),
    )
    try:
        for _ in epochs:
            predictions = classify(state.final, variant.images, session.device, precision, problem.poses, turns)
            state.seconds += predictions.seconds
            look = {
                "error": _percent_wrong(predictions, variant),
                "transformers": _examine(trial, state, problem),
                "seen": _watch(trial, session, state, problem),
            }
            looks.append(look)
            save_checkpoint(folder.checkpoint, trial, state, looks)
            yield _write_metrics(folder, recipe, state, looks)[-1]
    except Stopped:
        save_checkpoint(folder.checkpoint, trial, state, looks)
        raise
    history = [before, *(look["seen"] for look in looks)]
    write_findings(trial, folder, session, model, state.final, state.seconds, problem, history)


def _watch(trial: TrialSpec, session: Session, state: TrainingState, problem: Problem) -> Arrays:
    return watch(trial, session, state.final, problem) if has_gallery(trial) else {}


def refuse_other_pictures(before: Arrays, looks: list[dict[str, Any]], checkpoint: Path) -> None:
    """Raise UserError where looks at a training hold other arrays than the one `before` it (see `watch`)."""
    try:
        for look in looks:
            tensors_like(look["seen"], before)
    except ValueError as error:
        raise UserError(
            f"{checkpoint} is damaged: of what its training is drawn from, {error}; {way_out(checkpoint)}"
        ) from None


def _examine(trial: TrialSpec, state: TrainingState, problem: Problem) -> list[dict[str, float]]:
    """The health of the transformers, as plain values, on a few images of the epoch just trained."""
    if trial.model.transformer is None or trial.model.transformer.pose != "predicted":
        return []
    batch = next(iter(problem.training.batches(trial.seed, state.epoch - 1, trial.training.batch_size)))
    return [health.model_dump() for health in examine(state.final, batch.images[:_EXAMINED], batch.labels[:_EXAMINED])]


def _percent_wrong(predictions: Predictions, variant: Variant) -> float:
    return 100 * int((predictions.predicted != variant.labels).sum()) / len(variant.labels)


def _write_metrics(
    folder: TrialFolder, recipe: TrainingSpec, state: TrainingState, looks: list[dict[str, Any]]
) -> list[EpochRecord]:
    records = records_of(recipe, state, looks)
    storage.write_records(folder.metrics, [record.model_dump_json() for record in records])
    return records


def records_of(recipe: TrainingSpec, state: TrainingState, looks: list[dict[str, Any]]) -> list[EpochRecord]:
    """The whole epochs of a training, with what was seen after each."""
    return [
        EpochRecord(
            epoch=epoch,
            loss=loss,
            error=look["error"],
            rate=scheduled_rate(recipe, epoch / recipe.epochs),
            transformers=tuple(Health(**health) for health in look["transformers"]),
        )
        for epoch, (loss, look) in enumerate(zip(state.losses, looks, strict=True), start=1)
    ]
