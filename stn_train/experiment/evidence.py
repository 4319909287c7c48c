"""What a transformer makes of the fixed images: what the data did and what the model did, brought together."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stn_train.data.distortion import distortion_family
from stn_train.data.variant import Variant, drawn_again
from stn_train.evaluation.classify import classify
from stn_train.evaluation.evidence import Evidence, WithinClasses
from stn_train.evaluation.means import within_classes
from stn_train.evaluation.pose import Map, Undoing, responses, spreads
from stn_train.evaluation.regions import regions
from stn_train.experiment.session import poses_for
from stn_train.models import SpatialTransformer
from stn_train.models.build import at_input
from stn_train.models.precision import Precision
from stn_train.specs import DatasetSpec, ModelSpec


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
