"""What a network makes of a set of images: classes, thetas, confusion; with test-time augmentation where asked."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stn_train.evaluation.diagnostics import recorded_warps
from stn_train.geometry import HOMOGRAPHY, ROTATION, bilinear_sampler
from stn_train.models.network import Precision, autocast

BATCH = 500


def rotated_images(images: Tensor, degrees: float) -> Tensor:
    """Images, N x C x H x W, turned clockwise, with zeros where they have nothing."""
    height, width = images.shape[-2:]
    theta = torch.tensor([[math.radians(-degrees)]], device=images.device)
    grid = ROTATION.grid(theta, (height, width), width / height)
    return bilinear_sampler(images, grid.expand(len(images), -1, -1, -1))


def rotated_poses(poses: Tensor, degrees: float, aspect: float) -> Tensor:
    """True poses, theta N x 9 of all homographies, of images that have been turned clockwise.

    `aspect` is width over height of the images. See `rotated_images`: what was to be read at a point of the image is
    now where turning has put that point.
    """
    turn = ROTATION.matrix(torch.tensor([[math.radians(degrees)]], dtype=torch.float64), aspect)
    return HOMOGRAPHY.theta_of(turn @ HOMOGRAPHY.matrix(poses.double())).to(poses.dtype)


@dataclass(frozen=True)
class Predictions:
    """`logits` (M x classes, float32) and the classes `predicted` (M, int64); `thetas` (each M x p) of every
    transformer, in the order of the forward pass, for the images as they are; `seconds` it took."""

    logits: Tensor
    predicted: Tensor
    thetas: tuple[Tensor, ...]
    seconds: float

    def confusion(self, labels: Tensor, classes: int) -> Tensor:
        """How often each true class (row) was predicted as each class (column): classes x classes."""
        return torch.bincount(labels * classes + self.predicted, minlength=classes**2).view(classes, classes)


@torch.no_grad()
def classify(
    network: nn.Module,
    images: Tensor,
    device: torch.device,
    precision: Precision,
    poses: Tensor | None = None,
    tta_angles: Sequence[float] = (),
) -> Predictions:
    """Classify uint8 `images` (M x C x H x W) with a network on `device`, to which true `poses` (M x 9) are passed.

    With `tta_angles`, it reads them also turned clockwise by each of so many degrees, and the logits are the logarithm
    of the mean of its probabilities (test-time augmentation).
    """
    began = time.perf_counter()
    network.eval()
    logits: list[Tensor] = []
    thetas: list[list[Tensor]] = []
    with autocast(device, precision):
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH].to(device).float() / 255
            given = () if poses is None else (poses[start : start + BATCH],)
            with recorded_warps(network) as warps:
                answers = [network(batch.to(memory_format=torch.channels_last), *given)]
            thetas.append([warp.theta.cpu() for warp in warps])
            for degrees in tta_angles:
                turned = rotated_images(batch, degrees).to(memory_format=torch.channels_last)
                given_turned = (rotated_poses(each, degrees, batch.shape[-1] / batch.shape[-2]) for each in given)
                answers.append(network(turned, *given_turned))
            answers = [answer.float().cpu() for answer in answers]
            if tta_angles:
                answers = [answer.log_softmax(dim=1) for answer in answers]
                logits.append(torch.stack(answers).logsumexp(dim=0) - math.log(len(answers)))
            else:
                logits += answers
    seconds = time.perf_counter() - began
    of_all = torch.cat(logits)
    of_each = tuple(torch.cat(batches) for batches in zip(*thetas, strict=True))
    return Predictions(of_all, of_all.argmax(1), of_each, seconds)
