"""What a trained network makes of the fixed images, written down for the report."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stn_train import storage
from stn_train.data.variant import Variant
from stn_train.evaluation.classify import Predictions, classify
from stn_train.evaluation.means import class_means
from stn_train.evaluation.warps import sights
from stn_train.experiment.evidence import gather
from stn_train.experiment.session import Problem, Session
from stn_train.models import Model
from stn_train.models.build import at_input
from stn_train.models.precision import precision_on
from stn_train.reporting.records import Timing, TrialFolder, TrialResult, numbered
from stn_train.specs import TrialSpec

_SAMPLES = 24


def write_findings(
    trial: TrialSpec,
    folder: TrialFolder,
    session: Session,
    model: Model,
    final: nn.Sequential,
    seconds: float,
    problem: Problem,
) -> None:
    """Classify the fixed images with the network's `final` weights and write everything that a report reads.

    `seconds` is the time that training took.
    """
    variant, precision = problem.variant, precision_on(session.device, trial.training)
    predictions = classify(final, variant.images, session.device, precision, problem.poses)
    found = {"predicted": predictions.predicted, "label": variant.labels, "digit": variant.digit}
    _write_arrays(folder.predictions, found | numbered("theta", predictions.thetas))
    front = at_input(final)
    if front is not None:
        _write_arrays(folder.samples, _samples(front, predictions, problem, session))
    evidence = gather(trial.dataset, variant, final, predictions.thetas)
    if evidence is not None:
        storage.write_json(folder.evidence, evidence.model_dump(mode="json"))
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
    storage.write_json(folder.timing, timing.model_dump(mode="json"))
    storage.write_json(folder.result, result.model_dump(mode="json"))


def _chosen(predictions: Predictions, variant: Variant) -> Tensor:
    """The numbers of the images to show: the first that were classified wrongly, then the first that were not."""
    wrong = predictions.predicted != variant.labels
    return torch.cat([wrong.nonzero()[: _SAMPLES // 3, 0], (~wrong).nonzero()[:_SAMPLES, 0]])[:_SAMPLES]


def _samples(front: nn.Module, predictions: Predictions, problem: Problem, session: Session) -> dict[str, Tensor]:
    """A few images and what stands at the input makes of them, and the means of each class."""
    variant = problem.variant
    index = _chosen(predictions, variant)
    poses = None if problem.poses is None else problem.poses[index]
    seen = sights(front, variant.images[index], session.device, poses)
    classes = int(variant.labels.max()) + 1
    means = class_means(front, variant.images, variant.labels, classes, session.device, problem.poses)
    return {
        "image": variant.images[index],
        **numbered("output", [_bytes(sight.output) for sight in seen]),
        **numbered("outline", [sight.outline for sight in seen if sight.outline is not None]),
        "label": variant.labels[index],
        "predicted": predictions.predicted[index],
        **dict(zip(("mean_image", "mean_output"), map(_bytes, means), strict=True)),
    }


def _bytes(images: Tensor) -> Tensor:
    return (images.clamp(0, 1) * 255).round().byte()


def _write_arrays(path: Path, arrays: dict[str, Tensor]) -> None:
    with storage.atomic(path) as file:
        np.savez(file, allow_pickle=False, **{name: values.numpy() for name, values in arrays.items()})
