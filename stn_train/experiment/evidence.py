"""What a transformer makes of the fixed images: what the data did and what the model did, brought together."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from stn_train.data.distortion import distortion_family
from stn_train.data.variant import Variant, drawn_again
from stn_train.evaluation.evidence import Evidence
from stn_train.evaluation.pose import Map, Undoing, spreads
from stn_train.evaluation.regions import regions
from stn_train.models import SpatialTransformer
from stn_train.models.build import at_input
from stn_train.specs import DatasetSpec

_AGAIN = 2000
"""So many digits are drawn once more, to see what a transformer makes of two draws of one digit."""


def gather(
    dataset: DatasetSpec,
    variant: Variant,
    network: nn.Module,
    thetas: tuple[Tensor, ...],
    read: Callable[[Variant], tuple[Tensor, ...]],
) -> Evidence | None:
    """What a network with these `thetas` (each M x p, in the order of the forward pass) says about its transformers.

    `read` gives the thetas of other images. None where there is no such thing as *the* pose of its input: without a
    transformer at the input, with several side by side, and where an image shows several digits.
    """
    stages = _in_a_row(network)
    if not stages or dataset.channels > 1:
        return None
    undoing = _undoing(dataset, stages, variant.theta, thetas)
    again = drawn_again(dataset, variant, _AGAIN)
    once = variant.digit < _AGAIN
    twice = _undoing(
        dataset,
        stages,
        torch.cat([variant.theta[once], again.theta]),
        tuple(torch.cat([theta[once], other]) for theta, other in zip(thetas, read(again), strict=True)),
    )
    found = regions(undoing, variant.sources, variant.digit)
    of_class = [(variant.labels == label).nonzero()[:, 0] for label in range(dataset.classes)]
    return Evidence(
        pose=spreads(undoing),
        pose_by_class=tuple(spreads(undoing[index]) for index in of_class),
        pose_of_a_digit=spreads(twice, torch.cat([variant.digit[once], again.digit])),
        overlap=found.summary(torch.arange(len(undoing))),
        overlap_by_class=tuple(found.summary(index) if len(index) else None for index in of_class),
    )


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
