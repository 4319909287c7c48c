"""Controls: transformers that predict nothing, to tell where a gain comes from.

Frozen at the identity, a transformer changes the resolution and nothing else; told the true pose, it does all that
there is to do.
"""

import torch
from torch import Tensor, nn

from stn_train.geometry import PROJECTIVE
from stn_train.models.transformer import SpatialTransformer


class TruePose(nn.Module):
    """Stands where a localisation network stands, and gives theta, N x 8 of the projective family, as it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = torch.tensor([PROJECTIVE.identity])

    def forward(self, images: Tensor) -> Tensor:
        """What was told of these images; the identity where nothing was."""
        return self.theta.to(images.device).expand(len(images), -1)


def tell(network: nn.Module, poses: Tensor | None) -> None:
    """Tell a network the poses, N x 8, of the N images that it reads next, where a part of it wants to know."""
    if poses is not None:
        for module in network.modules():
            if isinstance(module, TruePose):
                module.theta = poses


def freeze(transformer: SpatialTransformer) -> None:
    """Keep a transformer where it starts, at the identity."""
    transformer.localisation.requires_grad_(False)


def give_pose(transformer: SpatialTransformer) -> None:
    """Give a transformer true poses in place of its localisation network's."""
    transformer.localisation, transformer.family = TruePose(), PROJECTIVE
