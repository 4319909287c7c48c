"""Parts of some localisation networks: places of keypoints, a bound on theta, and what does not learn."""

from typing import Self

import torch
from torch import Tensor, nn

from stn_train.geometry import Family, pixel_centres, precise


class SpatialSoftArgmax(nn.Module):
    """Where each feature map is highest: from N x C x H x W to N x 2C, all x before all y, normalised to [-1, 1].

    The mean position under the softmax of a map (soft-argmax; Levine et al., arXiv:1504.00702), in float32 or wider
    also under autocast. Adding a constant to a map changes nothing; what stands out most in it outweighs the rest.
    """

    @precise
    def forward(self, maps: Tensor) -> Tensor:
        """The positions of the maps' peaks."""
        share = maps.flatten(2).softmax(dim=2).view(maps.shape)
        x = share.sum(dim=2) @ pixel_centres(maps.shape[3], share)
        y = share.sum(dim=3) @ pixel_centres(maps.shape[2], share)
        return torch.cat([x, y], dim=1)


class BoundedTheta(nn.Module):
    """Keeps theta, N x p, near the identity: each number differs from it by less than `bound`.

    By tanh, whose slope at the identity is 1: small changes pass as they are.
    """

    def __init__(self, family: Family, bound: float) -> None:
        super().__init__()
        self.family = family
        self.bound = bound

    @precise
    def forward(self, theta: Tensor) -> Tensor:
        """Theta, N x p, within the bound."""
        identity = theta.new_tensor(self.family.identity)
        return identity + self.bound * torch.tanh((theta - identity) / self.bound)


class Frozen(nn.Module):
    """A module that does not learn: no gradients, and in evaluation mode whatever it stands in is in."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """In evaluation mode, whatever `mode` says."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """What the module makes of images."""
        theta: Tensor = self.module(images)
        return theta
