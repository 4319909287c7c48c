"""What a network makes of a set of images: classes, what its transformers do to them, and the means of classes."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stn_train.geometry import HOMOGRAPHY, ROTATION, bilinear_sampler
from stn_train.models.network import Precision
from stn_train.models.transformer import SpatialTransformer

BATCH = 500
_STEPS = 16
"""Into so many pieces each side of an outline is cut, so that a bent one is seen."""
_BLANK = 1e-6
"""The least norm of an image that is not blank."""
_ALIKE = 1e-6
"""The least variance among images that differ."""
_NEIGHBOURS = 15
_MOST_THETAS = 5000
"""So many thetas are compared with as many others."""


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
    theta: Tensor | None = None,
) -> Predictions:
    """Classify uint8 `images` (M x C x H x W) with a network on `device`, to which true `poses` (M x 9) are passed.

    `theta` (M x p), where it is given, stands in for what its one transformer, at the input, would predict.
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
            read = batch.to(memory_format=torch.channels_last)
            with recorded_warps(network) as warps:
                if theta is None:
                    answers = [network(read, *given)]
                else:
                    answers = [network.with_theta(read, theta[start : start + BATCH].to(device))]  # type: ignore[operator]
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


# --- what transformers do while a network runs ------------------------------------------------------------------------


@dataclass(frozen=True)
class Warp:
    """One transformer at work: what it read, N x C x H x W, the theta, N x p, and what it put out, N x C x h x w."""

    transformer: SpatialTransformer
    images: Tensor
    theta: Tensor
    output: Tensor


@contextmanager
def recorded_warps(network: nn.Module) -> Iterator[list[Warp]]:
    """Inside, what each transformer of `network` does is added to the list, in the order of the forward pass."""
    warps: list[Warp] = []
    thetas: list[Tensor] = []

    def record(module: nn.Module, read: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, SpatialTransformer):
            images, *given = read  # theta, where it does not come from the localisation network
            warps.append(Warp(module, images, given[0] if given else thetas.pop(), output))
        else:
            thetas.append(
                output.to(torch.promote_types(output.dtype, torch.float32))
            )  # a user's last layer under autocast

    transformers = [module for module in network.modules() if isinstance(module, SpatialTransformer)]
    hooks = [module.register_forward_hook(record) for each in transformers for module in (each.localisation, each)]
    try:
        yield warps
    finally:
        for hook in hooks:
            hook.remove()


def edge(like: Tensor, steps: int) -> Tensor:
    """Points on the edge of the normalised square, 4 `steps` x 2, clockwise from the top left corner."""
    along = torch.arange(steps, dtype=like.dtype, device=like.device) * 2 / steps - 1
    top = torch.stack([along, torch.full_like(along, -1.0)], dim=1)
    right = torch.stack([-top[:, 1], top[:, 0]], dim=1)  # a quarter turn clockwise
    return torch.cat([top, right, -top, -right])


@torch.no_grad()
def outputs_and_outlines(front: nn.Module, images: Tensor, device: torch.device) -> list[tuple[Tensor, Tensor | None]]:
    """What each transformer of what stands at a network's input makes of uint8 `images`, S x C x H x W.

    Its output, S x C x h x w, and where the output's edge lies on the images: S x V x 2, (x, y) in pixels, clockwise on
    the output from its top left corner, to be closed to a polygon; the centre of the first pixel is (0, 0). None for
    one that reads what another has warped. In the order of the forward pass, in float32 and on the CPU.
    """
    batch = images.to(device).float() / 255
    with recorded_warps(front.eval()) as warps:
        front(batch)
    height, width = images.shape[-2:]
    found: list[tuple[Tensor, Tensor | None]] = []
    for warp in warps:
        outline = None
        if warp.images is batch:
            theta = warp.theta.float()
            points = warp.transformer.family.points(theta, edge(theta, _STEPS), width / height)
            outline = (((points + 1) * points.new_tensor([width, height]) - 1) / 2).cpu()
        found.append((warp.output.cpu(), outline))
    return found


# --- how much images of a class look alike, before and after a transformer --------------------------------------------


@torch.no_grad()
def class_means(
    front: Callable[..., Tensor],
    images: Tensor,
    labels: Tensor,
    classes: int,
    device: torch.device,
    poses: Tensor | None = None,
    unit: bool = False,
) -> tuple[Tensor, Tensor]:
    """The mean of each class, of uint8 `images` (M x C x H x W, read from 0 to 1) and of what `front` makes of them.

    classes x C x H x W and classes x C' x h x w, on the CPU; zeros for a class without images. Sharp where all images
    have one pose. `poses` (M x 9), where given, are passed on; with `unit`, every image is first brought to the norm 1.
    """
    shares = F.one_hot(labels, classes).float()
    shares = (shares / shares.sum(dim=0).clamp(min=1)).T.to(device)
    totals: list[Tensor] = []
    for numbers in torch.arange(len(images)).split(BATCH):
        batch = images[numbers].to(device).float() / 255
        both = [batch, front(batch) if poses is None else front(batch, poses[numbers])]
        if unit:
            both = [each / each.flatten(1).norm(dim=1).clamp(min=_BLANK)[:, None, None, None] for each in both]
        parts = [torch.einsum("kn,nchw->kchw", shares[:, numbers.to(device)], each) for each in both]
        totals = [total + part for total, part in zip(totals, parts, strict=True)] if totals else parts
    before, after = (total.cpu() for total in totals)
    return before, after


def within_classes(
    front: Callable[..., Tensor],
    images: Tensor,
    labels: Tensor,
    classes: int,
    device: torch.device,
    poses: Tensor | None = None,
) -> tuple[float | None, float | None]:
    """Of what varies among uint8 `images` (M x C x H x W), the share within classes; and among what `front` makes.

    From 0, where all images of a class are one, to 1, where no class has anything of its own: the variance about the
    mean of each class, over that about the mean of all. Images are brought to the norm 1 before, so that neither their
    brightness nor their size counts; a blank one counts as having nothing in common with any. None where all images
    are one.
    """
    share = (torch.bincount(labels, minlength=classes) / len(labels)).double()
    found: list[float | None] = []
    for means in class_means(front, images, labels, classes, device, poses, unit=True):
        vectors = means.flatten(1).double()
        total = 1 - (share @ vectors).square().sum()
        found.append(float((1 - share @ vectors.square().sum(dim=1)) / total) if total > _ALIKE else None)
    before, after = found
    return before, after


# --- what theta tells of the class -----------------------------------------------------------------------------------


def class_from_theta(theta: Tensor, labels: Tensor, digit: Tensor) -> float | None:
    """How often the class `labels` (M) of an image is that of most of the 15 images whose `theta`, M x p, is nearest.

    Every number of theta counts in units of its spread. The neighbours show other digits (`digit`, M): theta of every
    second digit is told by those of the others. None where there are not as many.
    """
    _, number = digit.unique(return_inverse=True)
    asked, others = ((number % 2 == part).nonzero()[:, 0][:_MOST_THETAS] for part in (0, 1))
    if len(others) < _NEIGHBOURS:
        return None
    units = (theta.double() - theta.double().mean(dim=0)) / theta.double().std(dim=0).clamp(min=1e-9)
    nearest = torch.cdist(units[asked], units[others]).topk(_NEIGHBOURS, largest=False).indices
    votes = F.one_hot(labels[others], int(labels.max()) + 1)[nearest].sum(dim=1)
    return float((votes.argmax(dim=1) == labels[asked]).double().mean())
