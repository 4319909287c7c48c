"""What a trained network makes of the fixed images, brought together and written down for the report."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from stn_train import storage
from stn_train.data.datasets import Variant, drawn_again
from stn_train.data.distortion import distortion_family
from stn_train.evaluation.alignment import Map, Undoing, responses, spreads
from stn_train.evaluation.classify import classify
from stn_train.evaluation.metrics import Evidence, WithinClasses
from stn_train.evaluation.regions import regions
from stn_train.evaluation.variance import within_classes
from stn_train.experiment.runtime import Problem, Session, environment, poses_for
from stn_train.experiment.snapshots import Arrays, gallery
from stn_train.models import Model, SpatialTransformer
from stn_train.models.build import at_input
from stn_train.models.precision import Precision, precision_on
from stn_train.run_folder import Timing, TrialFolder, TrialResult, numbered
from stn_train.specs import DatasetSpec, ModelSpec, TrialSpec
from stn_train.training.checkpoint import kept_before


def gather(
    model: ModelSpec,
    dataset: DatasetSpec,
    variant: Variant,
    network: nn.Module,
    thetas: tuple[Tensor, ...],
    device: torch.device,
    precision: Precision,
) -> Evidence | None:
    """What a model's network, with these `thetas` for a variant (each M x p), says about its transformers.

    The thetas are in the order of the forward pass. None where there is no such thing as *the* pose of its input:
    without a transformer at the input, with several side by side, and where an image shows several digits.
    """
    stages = _in_a_row(network)
    if not stages or dataset.channels > 1:
        return None
    undoing = _undoing(dataset, stages, variant.theta, thetas)
    found = regions(undoing, variant.sources, variant.digit)
    of_class = [(variant.labels == label).nonzero()[:, 0] for label in range(dataset.classes)]
    again = drawn_again(dataset, variant)
    read = classify(network, again.images, device, precision, poses_for(model, dataset, again)).thetas
    both = tuple(torch.cat(pair) for pair in zip(thetas, read, strict=True))
    twice = _undoing(dataset, stages, torch.cat([variant.theta, again.theta]), both)
    return Evidence(
        pose=spreads(undoing),
        pose_by_class=tuple(spreads(undoing[index]) for index in of_class),
        pose_of_a_digit=spreads(twice, torch.cat([variant.digit, again.digit])),
        within_classes=_within_classes(dataset, variant, network, device, poses_for(model, dataset, variant)),
        responses=responses(undoing),
        overlap=found.summary(torch.arange(len(undoing))),
        overlap_by_class=tuple(found.summary(index) if len(index) else None for index in of_class),
    )


def _within_classes(
    dataset: DatasetSpec, variant: Variant, network: nn.Module, device: torch.device, poses: Tensor | None
) -> WithinClasses:
    front, classes = at_input(network), dataset.classes
    assert front is not None
    images, output = within_classes(front, variant.images, variant.labels, classes, device, poses)
    digits, _ = within_classes(nn.Identity(), variant.sources[:, None], variant.source_labels, classes, device)
    return WithinClasses(digits=digits, images=images, output=output)


def _undoing(
    dataset: DatasetSpec, stages: Sequence[SpatialTransformer], theta: Tensor, thetas: tuple[Tensor, ...]
) -> Undoing:
    """Of images with this distortion's `theta`, and the transformers' `thetas`."""
    sizes = (dataset.canvas, *(stage.output for stage in stages))
    maps = (Map(stage.family, each.double(), size) for stage, each, size in zip(stages, thetas, sizes, strict=False))
    return Undoing(Map(distortion_family(dataset), theta.double(), dataset.canvas), tuple(maps))


def _in_a_row(network: nn.Module) -> list[SpatialTransformer]:
    """The transformers at a network's input, where each reads what the one before it has put out."""
    front = at_input(network)
    stages = list(front) if isinstance(front, nn.Sequential) else [front]
    transformers = [stage for stage in stages if isinstance(stage, SpatialTransformer)]
    return transformers if len(transformers) == len(stages) else []


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
        storage.write_record(folder.evidence, evidence.model_dump(mode="json"))
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
    storage.write_record(folder.timing, timing.model_dump(mode="json"))
    storage.write_record(folder.environment, environment(session))
    storage.write_record(folder.result, result.model_dump(mode="json"))


def _write_arrays(path: Path, arrays: Arrays) -> None:
    storage.write_arrays(path, {name: values.numpy() for name, values in arrays.items()})
