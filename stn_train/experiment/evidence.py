"""What a transformer makes of the fixed images: what the data did and what the model did, brought together."""

import torch
from torch import Tensor, nn

from stn_train.data.distortion import distortion_family
from stn_train.data.variant import Variant
from stn_train.evaluation.evidence import Evidence
from stn_train.evaluation.pose import Map, Undoing, spreads
from stn_train.evaluation.regions import regions
from stn_train.models import SpatialTransformer
from stn_train.models.build import at_input
from stn_train.specs import DatasetSpec


def gather(dataset: DatasetSpec, variant: Variant, network: nn.Module, thetas: tuple[Tensor, ...]) -> Evidence | None:
    """What a network with these `thetas` (each M x p, in the order of the forward pass) says about its transformers.

    None where there is no such thing as *the* pose of its input: without a transformer at the input, with several side
    by side, and where an image shows several digits.
    """
    stages = _in_a_row(network)
    if not stages or dataset.channels > 1:
        return None
    sizes = (dataset.canvas, *(stage.output for stage in stages))
    maps = tuple(
        Map(stage.family, theta.double(), size) for stage, theta, size in zip(stages, thetas, sizes, strict=False)
    )
    undoing = Undoing(Map(distortion_family(dataset), variant.theta.double(), dataset.canvas), maps)
    found = regions(undoing, variant.sources, variant.digit)
    of_class = [(variant.labels == label).nonzero()[:, 0] for label in range(dataset.classes)]
    return Evidence(
        pose=spreads(undoing),
        pose_by_class=tuple(spreads(undoing[index]) for index in of_class),
        overlap=found.summary(torch.arange(len(undoing))),
        overlap_by_class=tuple(found.summary(index) if len(index) else None for index in of_class),
    )


def _in_a_row(network: nn.Module) -> list[SpatialTransformer]:
    """The transformers at a network's input, where each reads what the one before it has put out."""
    front = at_input(network)
    stages = list(front) if isinstance(front, nn.Sequential) else [front]
    transformers = [stage for stage in stages if isinstance(stage, SpatialTransformer)]
    return transformers if len(transformers) == len(stages) else []
