"""Test-time augmentation: a classifier's mean answer to what it reads, turned a little one way and the other."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stn_train.geometry import FAMILIES, bilinear_sampler

_ROTATION = FAMILIES["rotation"]


class Looks(nn.Module):
    """A classifier that looks several times, in evaluation only; in training it is the `module` itself.

    From images, N x C x H x W, to logits, N x classes: of `count` looks, at the images turned about their middle by
    evenly spaced angles from -`turn` to `turn` degrees, the logarithm of the mean of the probabilities.
    """

    def __init__(self, module: nn.Module, count: int, turn: float) -> None:
        super().__init__()
        self.module = module
        self.angles = tuple(math.radians(turn) * (2 * look / (count - 1) - 1) for look in range(count))

    def forward(self, images: Tensor) -> Tensor:
        """The logits; in evaluation they are log probabilities."""
        if self.training:
            logits: Tensor = self.module(images)
            return logits
        looks = [F.log_softmax(self.module(_turned(images, angle)).float(), dim=1) for angle in self.angles]
        return torch.logsumexp(torch.stack(looks), dim=0) - math.log(len(looks))


def _turned(images: Tensor, angle: float) -> Tensor:
    """Images, N x C x H x W, turned about their middle; as they are at 0."""
    if angle == 0:
        return images
    height, width = images.shape[-2:]
    theta = torch.tensor([[angle]], device=images.device)
    grid = _ROTATION.grid(theta, (height, width), width / height)
    turned = bilinear_sampler(images, grid.expand(len(images), -1, -1, -1))
    return turned.contiguous(memory_format=torch.channels_last)
