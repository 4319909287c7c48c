"""Data sets of images: distorted afresh for every epoch, or distorted once for good; rendered on any device."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from stn_train.data.distortion import (
    Clutter,
    Distortion,
    InkExtent,
    Outline,
    distortion_family,
    outline,
    sample_distortion,
    true_poses,
)
from stn_train.data.randomness import Split, order
from stn_train.data.sources import Digits
from stn_train.geometry import bilinear_sampler, thin_plate_spline
from stn_train.specs import DIGIT, ClutterSpec, DatasetSpec


class Batch(NamedTuple):
    """Images (B x C x H x W, float32 from 0 to 1), labels (B) and, where they are asked for, true poses (B x 9)."""

    images: Tensor
    labels: Tensor
    poses: Tensor | None


class TrainingData(Protocol):
    """Training images, in an order of their own for every epoch."""

    def __len__(self) -> int:
        """Images in an epoch."""

    def batches(self, seed: int, epoch: int, size: int) -> Iterator[Batch]:
        """An epoch's whole batches; one that is smaller where there are too few images for that."""


@dataclass(frozen=True)
class OnlineDataset:
    """Digits that are distorted afresh for every epoch, on the device where they lie.

    `posed` asks for true poses; `elastic_augmentation` is a standard deviation in pixels (see
    `sample_distortion`). The distortions grow from none in epoch 0 to all of them in epoch `grown`.
    """

    spec: DatasetSpec
    digits: Digits
    ink: InkExtent
    posed: bool
    elastic_augmentation: float
    grown: float

    @staticmethod
    def of(
        spec: DatasetSpec,
        digits: Digits,
        device: torch.device,
        posed: bool = False,
        elastic_augmentation: float = 0.0,
        grown: float = 0.0,
    ) -> "OnlineDataset":
        """From digits on the CPU."""
        return OnlineDataset(spec, to_device(digits, device), InkExtent.of(digits), posed, elastic_augmentation, grown)

    def __len__(self) -> int:
        return len(self.digits) * self.digits.repeats

    def batches(self, seed: int, epoch: int, size: int) -> Iterator[Batch]:
        """See TrainingData. The distortions depend on seed and epoch alone."""
        spec = self.spec if epoch >= self.grown else self.spec.eased(epoch / self.grown)
        draws = sample_distortion(spec, self.digits, seed, "train", epoch, self.elastic_augmentation, self.ink)
        labels = labels_of(self.digits, draws)
        for index in whole_batches(len(self), seed, epoch, size):
            images = render(spec, self.digits, draws, index)
            poses = true_poses(spec, draws[0].theta[index]) if self.posed else None
            yield Batch(images, labels[index.to(labels.device)], poses)


def whole_batches(count: int, seed: int, epoch: int, size: int) -> Iterator[Tensor]:
    """The numbers of each batch's images; what is left over sits this epoch out. At least one batch, if a small one."""
    shuffled = order(count, seed, epoch)
    yield from shuffled[: max(count // size, 1) * size].split(size)


TEST_SEED = 20_150_605
"""The seed of every test and validation variant, apart from all seeds of trainings."""
_BATCH = 1000


@dataclass(frozen=True)
class FixedDataset(Dataset[tuple[Tensor, int]]):
    """A split of the digits, distorted once: M images of N digits. Its items are (image, label), as torch wants them.

    An item's image is C x H x W, float32 from 0 to 1. Of all of them:

    - images: M x C x H x W, uint8; labels: M, int64.
    - digit: which of the digits each shows, M, int64, counted from 0 (M x C for several channels).
    - theta: of the dataset's family, from the canvas to the digit's frame: M x p, float32 (M x C x p).
    - sources: the digits themselves, N x 28 x 28, uint8.
    - clipped: how many images lost ink at the canvas's edge.
    """

    images: Tensor
    labels: Tensor
    digit: Tensor
    theta: Tensor
    sources: Tensor
    clipped: int

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index].float() / 255, int(self.labels[index])

    @property
    def source_labels(self) -> Tensor:
        """The labels of the digits themselves (N), where an image shows one."""
        return self.labels.new_zeros(len(self.sources)).index_put((self.digit,), self.labels)


def make_fixed_dataset(
    spec: DatasetSpec, digits: Digits, split: Split, seed: int = TEST_SEED
) -> tuple[FixedDataset, tuple[Distortion, ...], list[Outline]]:
    """Distort a whole split, on the CPU and quantised, so that it is the same wherever it is needed.

    With it a Distortion and an Outline for each channel.
    """
    ink = InkExtent.of(digits)
    draws = sample_distortion(spec, digits, seed, split, ink=ink)
    count = len(draws[0])
    images = torch.empty(count, spec.channels, *spec.canvas, dtype=torch.uint8)
    for index in torch.arange(count).split(_BATCH):
        images[index[0] : index[-1] + 1] = (render(spec, digits, draws, index) * 255).round().byte()
    family = distortion_family(spec)
    outlines = [outline(family, drawn.theta, spec.canvas, ink.points(drawn.digit)) for drawn in draws]
    clipped = np.any([one.clipped(spec.canvas) for one in outlines], axis=0)
    variant = FixedDataset(
        images,
        labels_of(digits, draws),
        torch.from_numpy(joined([drawn.digit for drawn in draws])),
        torch.from_numpy(joined([drawn.theta.numpy() for drawn in draws])),
        digits.images,
        int(clipped.sum()),
    )
    return variant, draws, outlines


def distorted_again(spec: DatasetSpec, variant: FixedDataset) -> FixedDataset:
    """A variant's digits, each distorted once more, otherwise than there."""
    return make_fixed_dataset(spec, Digits(variant.sources, variant.source_labels), "test", TEST_SEED + 1)[0]


def joined(channels: list[NDArray[Any]]) -> NDArray[Any]:
    """The one channel's array, or those of several along a second axis."""
    return channels[0] if len(channels) == 1 else np.stack(channels, axis=1)


# --- from digits and a sampled distortion to images, a batch at a time ------------------------------------------------

_ELASTIC = thin_plate_spline(4)


def to_device(digits: Digits, device: torch.device) -> Digits:
    """The same digits on a device."""
    return replace(digits, images=digits.images.to(device), labels=digits.labels.to(device))


def render(spec: DatasetSpec, digits: Digits, draws: tuple[Distortion, ...], index: Tensor) -> Tensor:
    """The images of these numbers (B, of the M that were drawn): B x C x H x W, float32 from 0 to 1, a draw a channel.

    The digits' device is where it happens; `draws` and `index` lie on the CPU.
    """
    device, (height, width) = digits.images.device, spec.canvas
    shown = torch.cat([torch.from_numpy(drawn.digit)[index] for drawn in draws]).to(device)
    theta = torch.cat([drawn.theta[index] for drawn in draws]).to(device)
    sources = digits.images[shown][:, None].float().div_(255)
    elastic_thetas = [drawn.elastic_theta[index] for drawn in draws if drawn.elastic_theta is not None]
    if elastic_thetas:
        frame = (DIGIT, DIGIT)
        sources = bilinear_sampler(sources, _ELASTIC.grid(torch.cat(elastic_thetas).to(device), frame))
    # Only a thin plate spline depends on the aspect: it was bent on the canvas.
    grid = distortion_family(spec).grid(theta, spec.canvas, width / height)
    channels = bilinear_sampler(sources, grid).view(len(draws), len(index), height, width)
    for channel, drawn in zip(channels, draws, strict=True):
        if spec.clutter is not None and drawn.clutter is not None:
            add_clutter(channel, digits, drawn.clutter[index], spec.clutter)
    return channels.movedim(0, 1)


def labels_of(digits: Digits, draws: tuple[Distortion, ...]) -> Tensor:
    """The labels of all M images, on the digits' device: the sum of the digits that an image shows."""
    shown = (torch.from_numpy(drawn.digit).to(digits.labels.device) for drawn in draws)
    return torch.stack([digits.labels[digit] for digit in shown]).sum(dim=0)


def add_clutter(images: Tensor, digits: Digits, clutter: Clutter, spec: ClutterSpec) -> None:
    """Lay patches over images (B x H x W), in place; where two meet, as the specification's `blend` has it."""
    device, size, (count, _, width) = images.device, spec.size, images.shape
    inside = torch.arange(size, device=device)
    rows, columns = inside[:, None], inside

    def pixels(y: Tensor, x: Tensor, row_length: int) -> Tensor:
        corner = (y * row_length + x).to(device)
        return corner[:, :, None, None] + rows * row_length + columns

    cut = pixels(clutter.from_y, clutter.from_x, DIGIT) + (clutter.digit.to(device) * DIGIT**2)[:, :, None, None]
    values = digits.images.view(-1)[cut].float() / 255
    put = pixels(clutter.to_y, clutter.to_x, width)
    blend = {"max": "amax", "add": "sum"}[spec.blend]
    images.view(count, -1).scatter_reduce_(1, put.view(count, -1), values.view(count, -1), blend).clamp_(max=1)
