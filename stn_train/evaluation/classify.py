"""What a network makes of a set of images: classes, poses, confusion."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stn_train.evaluation.warps import recorded_warps
from stn_train.models.control import tell
from stn_train.models.precision import Precision, autocast

BATCH = 500


@dataclass(frozen=True)
class Predictions:
    """`logits` (M x classes, float32); `thetas` (each M x p) of every transformer, in the order of the forward pass;
    `seconds` it took."""

    logits: Tensor
    thetas: tuple[Tensor, ...]
    seconds: float

    @property
    def predicted(self) -> Tensor:
        """The classes: M, int64."""
        return self.logits.argmax(1)

    def confusion(self, labels: Tensor, classes: int) -> Tensor:
        """How often each true class (row) was taken for each class (column): classes x classes."""
        return torch.bincount(labels * classes + self.predicted, minlength=classes**2).view(classes, classes)


@torch.no_grad()
def classify(
    network: nn.Module, images: Tensor, device: torch.device, precision: Precision, poses: Tensor | None = None
) -> Predictions:
    """Classify uint8 `images` (M x C x H x W), of which it is told the `poses` (M x 8), with a network on `device`."""
    began = time.perf_counter()
    network.eval()
    logits: list[Tensor] = []
    thetas: list[list[Tensor]] = []
    with autocast(device, precision), recorded_warps(network) as warps:
        for start, batch in enumerate(images.split(BATCH)):
            tell(network, None if poses is None else poses[start * BATCH : (start + 1) * BATCH])
            answer = network((batch.to(device).float() / 255).to(memory_format=torch.channels_last))
            logits.append(answer.float().cpu())
            thetas.append([warp.theta.cpu() for warp in warps])
            warps.clear()
    seconds = time.perf_counter() - began
    of_each = tuple(torch.cat(batches) for batches in zip(*thetas, strict=True))
    return Predictions(torch.cat(logits), of_each, seconds)
