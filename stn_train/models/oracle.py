"""Controls: transformers that learn nothing from what follows them, to tell where a gain comes from.

Frozen at the identity, a transformer changes the resolution and nothing else; given the true pose, it does all that
there is to do; taught the true pose, it does what a localisation network can learn of that.
"""

import torch
from torch import Tensor, nn

from stn_train.geometry import HOMOGRAPHY, Family, pixel_grid
from stn_train.models.transformer import SpatialTransformer

_PLACES = (4, 4)


class OraclePose(nn.Module):
    """Stands where a localisation network stands, and gives theta, N x 9 of all homographies, as it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.poses = torch.tensor([HOMOGRAPHY.identity])

    def forward(self, images: Tensor) -> Tensor:
        """What was told of these images; the identity where nothing was."""
        return self.poses.to(images.device).expand(images.shape[0], -1)


class SupervisedPose(nn.Module):
    """A localisation network that learns from the poses that it is told in training, and from nothing else.

    What follows sends it no gradient. After each forward pass of training, `lesson` is what its thetas miss: how far
    4 x 4 points of the output lie from where the true pose puts them, normalised; the root of the mean square of an
    image's, and the mean of the images'. Where several poses are likely, this asks for one of them. The mean square
    would ask for their mean, which is no pose: of a digit that may lie this way or that, it is a point.
    """

    def __init__(self, localisation: nn.Module, family: Family) -> None:
        super().__init__()
        self.localisation = localisation
        self.family = family
        self.poses: Tensor | None = None
        self.lesson: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Theta, N x p of the family, as the localisation network predicts it."""
        theta: Tensor = self.localisation(images)
        if self.training and self.poses is not None:
            aspect, poses = images.shape[-1] / images.shape[-2], self.poses.to(theta.device)
            places = pixel_grid(_PLACES, poses).flatten(0, 1)
            missed = self.family.points(theta, places, aspect) - HOMOGRAPHY.points(poses, places, aspect)
            self.lesson = missed.flatten(1).norm(dim=1).mean() / len(places) ** 0.5
        return theta.detach()


def tell(network: nn.Module, poses: Tensor | None) -> None:
    """Tell a network the poses, N x 9, of the N images that it reads next, where a part of it wants to know."""
    if poses is not None:
        for module in network.modules():
            if isinstance(module, OraclePose | SupervisedPose):
                module.poses = poses


def lessons(network: nn.Module) -> list[Tensor]:
    """What those parts that are taught poses have missed in the forward pass just made; each is handed out once."""
    taught = [module for module in network.modules() if isinstance(module, SupervisedPose)]
    missed = [module.lesson for module in taught if module.lesson is not None]
    for module in taught:
        module.lesson = None
    return missed


def freeze(transformer: SpatialTransformer) -> None:
    """Keep a transformer where it starts, at the identity."""
    transformer.localisation.requires_grad_(False)


def supervise_pose(transformer: SpatialTransformer) -> None:
    """Let a transformer's localisation network learn true poses, and nothing else."""
    transformer.localisation = SupervisedPose(transformer.localisation, transformer.family)


def supply_pose(transformer: SpatialTransformer) -> None:
    """Give a transformer true poses in place of its localisation network's."""
    transformer.localisation, transformer.family = OraclePose(), HOMOGRAPHY
