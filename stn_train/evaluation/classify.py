"""What a network makes of a set of images: classes, thetas, confusion; with test-time augmentation where asked."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stn_train.geometry import HOMOGRAPHY, ROTATION, bilinear_sampler
from stn_train.models.network import Precision
from stn_train.models.transformer import SpatialTransformer

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
    return (turn @ HOMOGRAPHY.matrix(poses.double())).flatten(1).to(poses.dtype)


@dataclass(frozen=True)
class Predictions:
    """`logits` (M x classes, float32); `thetas` (each M x p) of every transformer, in the order of the forward pass,
    for the images as they are; `seconds` it took."""

    logits: Tensor
    thetas: tuple[Tensor, ...]
    seconds: float

    @property
    def predicted(self) -> Tensor:
        """The classes: M, int64."""
        return self.logits.argmax(1)

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
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH].to(device).float() / 255
            given = () if poses is None else (poses[start : start + BATCH],)
            with recorded_warps(network) as warps:
                answers = [_logits(network, batch, *given)]
            thetas.append([warp.theta.cpu() for warp in warps])
            answers += [_logits(network, *_rotated(degrees, batch, *given)) for degrees in tta_angles]
            logits.append(_mean(answers))
    seconds = time.perf_counter() - began
    of_each = tuple(torch.cat(batches) for batches in zip(*thetas, strict=True))
    return Predictions(torch.cat(logits), of_each, seconds)


def _logits(network: nn.Module, batch: Tensor, *poses: Tensor) -> Tensor:
    logits: Tensor = network(batch.to(memory_format=torch.channels_last), *poses)
    return logits.float().cpu()


def _rotated(degrees: float, batch: Tensor, *poses: Tensor) -> list[Tensor]:
    aspect = batch.shape[-1] / batch.shape[-2]
    return [rotated_images(batch, degrees), *(rotated_poses(each, degrees, aspect) for each in poses)]


def _mean(answers: list[Tensor]) -> Tensor:
    """The logarithm of the mean of the probabilities; a single answer as it is."""
    if len(answers) == 1:
        return answers[0]
    return torch.stack([answer.log_softmax(dim=1) for answer in answers]).logsumexp(dim=0) - math.log(len(answers))


# --- what transformers do while a network runs ----------------------------------------------------------------------

_STEPS = 16


@dataclass(frozen=True)
class Warp:
    """One transformer at work: what it read, N x C x H x W, the theta, N x p, and what it put out, N x C x h x w."""

    transformer: SpatialTransformer
    images: Tensor
    theta: Tensor
    output: Tensor

    def outline(self) -> Tensor:
        """Where the edge of the output lies on what was read: N x V x 2, (x, y) in pixels, to be closed to a polygon.

        Clockwise on the output, from its top left corner, with as many points on each side as a bent side needs to be
        seen. The centre of the first pixel that was read is (0, 0).
        """
        height, width = self.images.shape[-2:]
        points = self.transformer.family.points(self.theta.float(), edge(self.theta.float(), _STEPS), width / height)
        return ((points + 1) * points.new_tensor([width, height]) - 1) / 2


def edge(like: Tensor, steps: int) -> Tensor:
    """Points on the edge of the normalised square, 4 `steps` x 2, clockwise from the top left corner."""
    along = torch.arange(steps, dtype=like.dtype, device=like.device) * 2 / steps - 1
    top = torch.stack([along, torch.full_like(along, -1.0)], dim=1)
    right = torch.stack([-top[:, 1], top[:, 0]], dim=1)  # a quarter turn clockwise
    return torch.cat([top, right, -top, -right])


@contextmanager
def recorded_warps(network: nn.Module) -> Iterator[list[Warp]]:
    """Inside, what each transformer of `network` does is added to the list, in the order of the forward pass."""
    warps: list[Warp] = []
    thetas: list[Tensor] = []

    def localised(localisation: nn.Module, read: tuple[Tensor, ...], theta: Tensor) -> None:
        thetas.append(theta)

    def warped(transformer: SpatialTransformer, read: tuple[Tensor, ...], output: Tensor) -> None:
        images, *given = read  # theta, where it does not come from the localisation network
        warps.append(Warp(transformer, images, given[0] if given else thetas.pop(), output))

    transformers = [module for module in network.modules() if isinstance(module, SpatialTransformer)]
    hooks = [each.localisation.register_forward_hook(localised) for each in transformers]
    hooks += [each.register_forward_hook(warped) for each in transformers]
    try:
        yield warps
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def outputs_and_outlines(front: nn.Module, images: Tensor, device: torch.device) -> list[tuple[Tensor, Tensor | None]]:
    """What each transformer of what stands at a network's input makes of uint8 `images`, S x C x H x W.

    Its output, S x C x h x w, and the output's outline on the images, S x V x 2; None for one that reads what another
    has warped. In the order of the forward pass, in float32 and on the CPU.
    """
    batch = images.to(device).float() / 255
    with recorded_warps(front.eval()) as warps:
        front(batch)
    return [(warp.output.cpu(), warp.outline().cpu() if warp.images is batch else None) for warp in warps]
