"""What a training reads: every epoch's batches, distorted afresh or read from a built variant."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from stn_train.data.digits import Digits
from stn_train.data.distortion import draw
from stn_train.data.ink import Ink
from stn_train.data.pose import true_poses
from stn_train.data.randomness import order
from stn_train.data.render import labels_of, render, to_device
from stn_train.specs import DatasetSpec


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
        """An epoch's batches, only whole ones."""


@dataclass(frozen=True)
class FreshData:
    """Digits that are distorted afresh for every epoch, on the device where they lie.

    `posed` asks for true poses; `bend` pixels is how far each digit is bent before (see `draw`). The distortions grow
    from none in epoch 0 to all of them in epoch `grown`.
    """

    spec: DatasetSpec
    digits: Digits
    ink: Ink
    posed: bool
    bend: float
    grown: float

    @staticmethod
    def of(
        spec: DatasetSpec,
        digits: Digits,
        device: torch.device,
        posed: bool = False,
        bend: float = 0.0,
        grown: float = 0.0,
    ) -> "FreshData":
        """From digits on the CPU."""
        return FreshData(spec, to_device(digits, device), Ink.of(digits), posed, bend, grown)

    def __len__(self) -> int:
        return len(self.digits) * self.digits.repeats

    def batches(self, seed: int, epoch: int, size: int) -> Iterator[Batch]:
        """See TrainingData. The distortions depend on seed and epoch alone."""
        spec = self.spec if epoch >= self.grown else self.spec.eased(epoch / self.grown)
        draws = draw(spec, self.digits, seed, "train", epoch, self.bend, self.ink)
        labels = labels_of(self.digits, draws)
        for index in whole_batches(len(self), seed, epoch, size):
            images = render(spec, self.digits, draws, index)
            poses = true_poses(spec, draws[0].theta[index]) if self.posed else None
            yield Batch(images, labels[index.to(labels.device)], poses)


@dataclass(frozen=True)
class BuiltData:
    """Images that were distorted once, and stay as they are: M x C x H x W, uint8, with M labels and M x 9 poses."""

    images: Tensor
    labels: Tensor
    poses: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, seed: int, epoch: int, size: int) -> Iterator[Batch]:
        """See TrainingData."""
        for index in whole_batches(len(self), seed, epoch, size):
            index = index.to(self.images.device)
            poses = None if self.poses is None else self.poses[index.cpu()]
            yield Batch(self.images[index].float() / 255, self.labels[index], poses)


def whole_batches(count: int, seed: int, epoch: int, size: int) -> Iterator[Tensor]:
    """The numbers of each batch's images; what is left over sits this epoch out. At least one batch, if a small one."""
    shuffled = order(count, seed, epoch)
    yield from shuffled[: max(count // size, 1) * size].split(size)
