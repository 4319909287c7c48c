"""What a network makes of a set of images: classes, poses, confusion."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stn_train.models.build import transformer_of
from stn_train.models.precision import Precision, autocast

BATCH = 500


@dataclass(frozen=True)
class Predictions:
    """`predicted` (M, int64) and, with a transformer at the input, its `theta` (M x p); `seconds` it took."""

    predicted: Tensor
    theta: Tensor | None
    seconds: float

    def confusion(self, labels: Tensor, classes: int = 10) -> Tensor:
        """How often each true class (row) was taken for each class (column): classes x classes."""
        return torch.bincount(labels * classes + self.predicted, minlength=classes**2).view(classes, classes)


@torch.no_grad()
def classify(network: nn.Sequential, images: Tensor, device: torch.device, precision: Precision) -> Predictions:
    """Classify uint8 `images` (M x 1 x H x W) with a network on `device`, its transformer, if any, in front."""
    began = time.perf_counter()
    network.eval()
    transformer = transformer_of(network)
    predicted, thetas = [], []
    with autocast(device, precision):
        for batch in images.split(BATCH):
            batch = (batch.to(device).float() / 255).to(memory_format=torch.channels_last)
            if transformer is None:
                logits = network(batch)
            else:
                warped, theta = transformer.warp(batch)
                logits = network[1:](warped)
                thetas.append(theta.cpu())
            predicted.append(logits.argmax(1).cpu())
    seconds = time.perf_counter() - began
    return Predictions(torch.cat(predicted), torch.cat(thetas) if thetas else None, seconds)


@torch.no_grad()
def warp(network: nn.Sequential, images: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """What the transformer at a network's input makes of uint8 `images` (M x 1 x H x W): M x 1 x h x w, float32, and
    its theta, M x p. Raises ValueError for a network without one."""
    transformer = transformer_of(network)
    if transformer is None:
        raise ValueError("this network has no transformer at its input")
    output, theta = transformer.eval().warp(images.to(device).float() / 255)
    return output.cpu(), theta.cpu()
