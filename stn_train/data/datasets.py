"""Data sets of images: distorted afresh for every epoch, or distorted once for good; rendered on any device."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from stn_train.data.distortion import (
    Distortion,
    Outline,
    Split,
    distortion_family,
    outline,
    random_stream,
    sample_distortion,
    true_poses,
)
from stn_train.data.images import ImageSet
from stn_train.geometry import TPS, bilinear_sampler, ink_place
from stn_train.specs import ClutterSpec, DatasetSpec

TEST_SEED = 20_150_605
"""The seed of every test and validation dataset, apart from all seeds of trainings."""
_BATCH = 1000


# --- which of the training digits are trained on ----------------------------------------------------------------------


def hold_out(digits: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Split training digits into the first five sixths, to train on, and the last sixth, to tune on.

    Neighbours in MNIST's training digits tend to be of one writer: of every sixth digit the rest would know the hand.
    """
    held = torch.arange(len(digits)) >= len(digits) - len(digits) // 6
    return digits.subset(~held), digits.subset(held)


def seeded_subset(digits: ImageSet, count: int, seed: int) -> ImageSet:
    """`count` of the training digits, chosen by the seed: what it chooses of fewer is among what it chooses of more."""
    return digits.subset(torch.from_numpy(random_stream("subset", seed).permutation(len(digits))[:count]))


# --- images to train on -----------------------------------------------------------------------------------------------


class Batch(NamedTuple):
    """Images (B x C x H x W, float32 from 0 to 1), labels (B) and, where they are asked for, true poses (B x 9)."""

    images: Tensor
    labels: Tensor
    poses: Tensor | None


@dataclass(frozen=True)
class OnlineDataset:
    """Digits that are distorted afresh for every epoch, on the device where they lie.

    `posed` asks for true poses; `elastic_augmentation` is a standard deviation in pixels (see
    `sample_distortion`). The distortions grow from none in epoch 0 to all of them in epoch `grown`.
    """

    spec: DatasetSpec
    digits: ImageSet
    posed: bool = False
    elastic_augmentation: float = 0.0
    grown: float = 0.0

    def __len__(self) -> int:
        return len(self.digits) * self.digits.repeats

    def batches(self, seed: int, epoch: int, size: int) -> Iterator[Batch]:
        """An epoch's whole batches; one that is smaller where there are too few images for that.

        Order and distortions depend on seed and epoch alone.
        """
        spec = self.spec if epoch >= self.grown else self.spec.eased(epoch / self.grown)
        draws = sample_distortion(spec, self.digits, seed, "train", epoch, self.elastic_augmentation)
        shown = torch.stack([drawn.digit for drawn in draws], dim=1)
        labels = self.digits.labels[shown.to(self.digits.labels.device)].sum(dim=1)
        for index in whole_batches(len(self), seed, epoch, size):
            images = render(spec, self.digits, draws, index)
            poses = true_poses(spec, draws[0].theta[index]) if self.posed else None
            yield Batch(images, labels[index.to(labels.device)], poses)


def whole_batches(count: int, seed: int, epoch: int, size: int) -> Iterator[Tensor]:
    """The numbers of each batch's images, of `count`, in an order of the epoch's own.

    What is left over sits this epoch out. At least one batch, if a small one.
    """
    shuffled = torch.from_numpy(random_stream("order", seed, "train", epoch).permutation(count))
    yield from shuffled[: max(count // size, 1) * size].split(size)


# --- images that stay as they are -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FixedDataset(Dataset[tuple[Tensor, int]]):
    """A split of the digits, distorted once: M images of N digits. Its items are (image, label), as torch wants them.

    An item's image is C x H x W, float32 from 0 to 1. Of all of them:

    - images: M x C x H x W, uint8; labels: M, int64.
    - digit: which of the digits each shows, M, int64, counted from 0 (M x 2 where each shows two).
    - theta: of the dataset's family, from the canvas to the digit's frame: M x p, float32 (M x 2 x p).
    - sources: the digits themselves, N x C x H x W, uint8.
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
    def digits(self) -> ImageSet:
        """The digits themselves, with their labels, where an image shows one."""
        return ImageSet(self.sources, self.labels.new_zeros(len(self.sources)).index_put((self.digit,), self.labels))


def make_fixed_dataset(
    spec: DatasetSpec, digits: ImageSet, split: Split, seed: int = TEST_SEED
) -> tuple[FixedDataset, tuple[Distortion, ...], list[Outline]]:
    """Distort a whole split, on the CPU and quantised, so that it is the same wherever it is needed.

    With it a Distortion and an Outline for each channel.
    """
    draws = sample_distortion(spec, digits, seed, split)
    _, channels, *frame = digits.images.shape
    outlines = [outline(spec, (frame[0], frame[1]), drawn.theta, digits.ink[drawn.digit.numpy()]) for drawn in draws]
    shown = torch.stack([drawn.digit for drawn in draws], dim=1)
    images = torch.empty(len(shown), len(draws) * channels, *spec.canvas, dtype=torch.uint8)
    for index in torch.arange(len(shown)).split(_BATCH):
        images[index[0] : index[-1] + 1] = (render(spec, digits, draws, index) * 255).round().byte()
    made = FixedDataset(
        images,
        digits.labels[shown].sum(dim=1),
        shown.squeeze(1),
        torch.stack([drawn.theta for drawn in draws], dim=1).squeeze(1),
        digits.images,
        int(np.any([lies.clipped for lies in outlines], axis=0).sum()),
    )
    return made, draws, outlines


# --- from digits and a sampled distortion to images, a batch at a time ------------------------------------------------


def render(spec: DatasetSpec, digits: ImageSet, draws: tuple[Distortion, ...], index: Tensor) -> Tensor:
    """The images of these numbers (B, of the M that were drawn): B x C x H x W, float32 from 0 to 1, draw by draw.

    The digits' device is where it happens; `draws` and `index` lie on the CPU.
    """
    device, (height, width) = digits.images.device, spec.canvas
    rows, columns = digits.images.shape[-2:]
    shown = torch.cat([drawn.digit[index] for drawn in draws]).to(device)
    theta = torch.cat([drawn.theta[index] for drawn in draws]).to(device)
    sources = digits.images[shown].float().div_(255)
    elastic_thetas = [drawn.elastic_theta[index] for drawn in draws if drawn.elastic_theta is not None]
    if elastic_thetas:
        grid = TPS.grid(torch.cat(elastic_thetas).to(device), (rows, columns), columns / rows)
        # Read twice, in place of moving what was read: that would blur it.
        moved = (ink_place(bilinear_sampler(sources, grid)) - ink_place(sources))[:, :2]
        moved[:, 0] *= rows / columns  # from half heights to half widths
        sources = bilinear_sampler(sources, grid + moved[:, None, None])
    # Only a thin plate spline depends on the aspect: it was bent on the canvas.
    grid = distortion_family(spec).grid(theta, spec.canvas, width / height)
    of_draws = bilinear_sampler(sources, grid).view(len(draws), len(index), -1, height, width)
    for images, drawn in zip(of_draws, draws, strict=True):
        if spec.clutter is not None and drawn.clutter is not None:
            add_clutter(images, digits, drawn.clutter[index].to(device), spec.clutter)
    return of_draws.movedim(0, 1).flatten(1, 2)


def add_clutter(images: Tensor, digits: ImageSet, clutter: Tensor, spec: ClutterSpec) -> None:
    """Lay patches (B x P x 5: see `sample_clutter`) over images (B x C x H x W), in place, all on the digits' device.

    Where two meet, it is as the specification's `blend` has it.
    """
    count, channels, height, width = images.shape
    frame_height, frame_width = digits.images.shape[-2:]
    digit, from_y, from_x, to_y, to_x = clutter[..., None, None, None].unbind(2)
    columns = torch.arange(spec.size, device=images.device)
    rows = columns[:, None]
    channel = torch.arange(channels, device=images.device)[:, None, None]
    cut = ((digit * channels + channel) * frame_height + from_y + rows) * frame_width + from_x + columns
    put = (channel * height + to_y + rows) * width + to_x + columns
    values = digits.images.flatten()[cut].float() / 255
    blend = {"max": "amax", "add": "sum"}[spec.blend]
    images.view(count, -1).scatter_reduce_(1, put.view(count, -1), values.view(count, -1), blend).clamp_(max=1)
