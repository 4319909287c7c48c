"""What a trained network makes of the fixed images, written down for the report."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from stn_train import sealed
from stn_train.evaluation.classify import classify
from stn_train.experiment.evidence import gather
from stn_train.experiment.gallery import Arrays, gallery
from stn_train.experiment.session import Problem, Session, environment
from stn_train.models import Model
from stn_train.models.precision import precision_on
from stn_train.reporting.records import Timing, TrialFolder, TrialResult, numbered
from stn_train.specs import TrialSpec
from stn_train.training.checkpoint import kept_before


def write_findings(
    trial: TrialSpec,
    folder: TrialFolder,
    session: Session,
    model: Model,
    final: nn.Sequential,
    seconds: float,
    problem: Problem,
    history: Sequence[Arrays],
) -> None:
    """Classify the fixed images with the network's `final` weights and write everything that a report reads.

    `seconds` is the time that training took; `history` is what was seen for the picture of it (see `gallery`).
    """
    variant, precision = problem.variant, precision_on(session.device, trial.training)
    predictions = classify(final, variant.images, session.device, precision, problem.poses, trial.model.turns)
    found = {"predicted": predictions.predicted, "label": variant.labels, "digit": variant.digit}
    _write_arrays(folder.predictions, found | numbered("theta", predictions.thetas))
    for kind, arrays in gallery(trial, session, final, problem, predictions, history).items():
        _write_arrays(folder.gallery(kind), arrays)
    thetas = predictions.thetas
    evidence = gather(trial.model, trial.dataset, variant, final, thetas, session.device, precision)
    if evidence is not None:
        sealed.write_json(folder.evidence, evidence.model_dump(mode="json"))
    timing = Timing(
        device=str(session.device),
        threads=torch.get_num_threads(),
        seconds=round(seconds, 1),
        training_images_per_second=round(trial.training.epochs * len(problem.training) / seconds, 1),
        evaluation_images_per_second=round(len(variant.images) / predictions.seconds, 1),
    )
    result = TrialResult(
        trial=trial,
        parameters=model.parameters,
        width=model.width,
        multiply_adds=model.multiply_adds,
        precision=precision,
        split="validation" if trial.validation else "test",
        training_digits=problem.training_digits,
        digits=len(variant.digit.unique()),
        images=len(variant.images),
        clipped=variant.clipped,
        errors=int((predictions.predicted != variant.labels).sum()),
        confusion=tuple(tuple(row) for row in predictions.confusion(variant.labels, trial.dataset.classes).tolist()),
    )
    folder.robustness.unlink(missing_ok=True)  # of the network before, where this trial was deleted and trained anew
    kept_before(folder.checkpoint).unlink(missing_ok=True)
    sealed.write_json(folder.timing, timing.model_dump(mode="json"))
    sealed.write_json(folder.environment, environment(session))
    sealed.write_json(folder.result, result.model_dump(mode="json"))


def _write_arrays(path: Path, arrays: Arrays) -> None:
    sealed.write_arrays(path, {name: values.numpy() for name, values in arrays.items()})
