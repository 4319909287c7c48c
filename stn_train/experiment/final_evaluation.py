"""What a trained network makes of the fixed images, brought together and written down for the report."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from stn_train import storage
from stn_train.data.datasets import FixedDataset, distorted_again
from stn_train.data.distortion import distortion_family
from stn_train.evaluation.alignment import Map, PoseResidual, residual_curves, spreads
from stn_train.evaluation.classify import Predictions, classify
from stn_train.evaluation.metrics import AlignmentMetrics, WithinClasses
from stn_train.evaluation.regions import regions
from stn_train.evaluation.variance import within_classes
from stn_train.experiment.runtime import Runtime, TrialData, environment, poses_for
from stn_train.experiment.snapshots import Arrays, gallery
from stn_train.models import Model, SpatialTransformer
from stn_train.models.build import at_input
from stn_train.models.precision import Precision, precision_on
from stn_train.run_folder import Timing, TrialFolder, TrialResult, numbered
from stn_train.specs import DatasetSpec, ModelSpec, TrialSpec
from stn_train.training.checkpoint import previous_checkpoint
from stn_train.training.loop import TrainingState


def alignment_metrics(
    model: ModelSpec,
    dataset: DatasetSpec,
    variant: FixedDataset,
    network: nn.Module,
    thetas: tuple[Tensor, ...],
    device: torch.device,
    precision: Precision,
) -> AlignmentMetrics | None:
    """What a model's network, with these `thetas` for a variant (each M x p), says about its transformers.

    The thetas are in the order of the forward pass. None where there is no such thing as *the* pose of its input:
    without a transformer at the input, with several side by side, and where an image shows several digits.
    """
    stages = _in_a_row(network)
    if not stages or dataset.channels > 1:
        return None
    residual = _pose_residual(dataset, stages, variant.theta, thetas)
    found = regions(residual, variant.sources, variant.digit)
    of_class = [(variant.labels == label).nonzero()[:, 0] for label in range(dataset.classes)]
    again = distorted_again(dataset, variant)
    read = classify(network, again.images, device, precision, poses_for(model, dataset, again)).thetas
    both = tuple(torch.cat(pair) for pair in zip(thetas, read, strict=True))
    twice = _pose_residual(dataset, stages, torch.cat([variant.theta, again.theta]), both)
    return AlignmentMetrics(
        pose=spreads(residual),
        pose_by_class=tuple(spreads(residual[index]) for index in of_class),
        pose_of_a_digit=spreads(twice, torch.cat([variant.digit, again.digit])),
        within_classes=_within_classes(dataset, variant, network, device, poses_for(model, dataset, variant)),
        residual_curves=residual_curves(residual),
        overlap=found.summary(torch.arange(len(residual))),
        overlap_by_class=tuple(found.summary(index) if len(index) else None for index in of_class),
    )


def _within_classes(
    dataset: DatasetSpec, variant: FixedDataset, network: nn.Module, device: torch.device, poses: Tensor | None
) -> WithinClasses:
    front, classes = at_input(network), dataset.classes
    assert front is not None
    images, output = within_classes(front, variant.images, variant.labels, classes, device, poses)
    digits, _ = within_classes(nn.Identity(), variant.sources[:, None], variant.source_labels, classes, device)
    return WithinClasses(digits=digits, images=images, output=output)


def _pose_residual(
    dataset: DatasetSpec, stages: Sequence[SpatialTransformer], theta: Tensor, thetas: tuple[Tensor, ...]
) -> PoseResidual:
    """Of images with this distortion's `theta`, and the transformers' `thetas`."""
    sizes = (dataset.canvas, *(stage.output_size for stage in stages))
    maps = (Map(stage.family, each.double(), size) for stage, each, size in zip(stages, thetas, sizes, strict=False))
    return PoseResidual(Map(distortion_family(dataset), theta.double(), dataset.canvas), tuple(maps))


def _in_a_row(network: nn.Module) -> list[SpatialTransformer]:
    """The transformers at a network's input, where each reads what the one before it has put out."""
    front = at_input(network)
    stages = list(front) if isinstance(front, nn.Sequential) else [front]
    transformers = [stage for stage in stages if isinstance(stage, SpatialTransformer)]
    return transformers if len(transformers) == len(stages) else []


def write_final_evaluation(
    trial: TrialSpec,
    folder: TrialFolder,
    runtime: Runtime,
    model: Model,
    state: TrainingState,
    problem: TrialData,
    predictions: Predictions,
    history: Sequence[Arrays],
) -> None:
    """Write everything that a report reads of a training that has ended in `state`.

    `predictions` are the final network's of the fixed images; `history` is what was seen for the picture of the
    training (see `gallery`).
    """
    variant, precision, final = problem.variant, precision_on(runtime.device, trial.training), state.final
    found = {"predicted": predictions.predicted, "label": variant.labels, "digit": variant.digit}
    _write_arrays(folder.predictions, found | numbered("theta", predictions.thetas))
    for kind, arrays in gallery(trial, runtime, final, problem, predictions, history).items():
        _write_arrays(folder.gallery(kind), arrays)
    thetas = predictions.thetas
    alignment = alignment_metrics(trial.model, trial.dataset, variant, final, thetas, runtime.device, precision)
    if alignment is not None:
        storage.write_record(folder.alignment, alignment.model_dump(mode="json"))
    timing = Timing(
        device=str(runtime.device),
        threads=torch.get_num_threads(),
        seconds=round(state.seconds, 1),
        training_images_per_second=round(trial.training.epochs * len(problem.training) / state.seconds, 1),
        evaluation_images_per_second=round(len(variant.images) / predictions.seconds, 1),
    )
    result = TrialResult(
        trial=trial,
        parameters=model.parameters,
        width=model.width,
        macs=model.macs,
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
    previous_checkpoint(folder.checkpoint).unlink(missing_ok=True)
    storage.write_record(folder.timing, timing.model_dump(mode="json"))
    storage.write_record(folder.environment, environment(runtime))
    storage.write_record(folder.result, result.model_dump(mode="json"))


def _write_arrays(path: Path, arrays: Arrays) -> None:
    storage.write_arrays(path, {name: values.numpy() for name, values in arrays.items()})
