"""What a training reads: every epoch's batches, distorted afresh or read from a built variant."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stn_train.data.digits import Digits
from stn_train.data.distortion import draw
from stn_train.data.ink import Ink
from stn_train.data.randomness import order
from stn_train.data.render import labels_of, render, to_device
from stn_train.specs import DatasetSpec


class TrainingData(Protocol):
    """Training images, in an order of their own for every epoch."""

    def __len__(self) -> int:
        """Images in an epoch."""

    def batches(self, seed: int, epoch: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """An epoch's batches: images (B x C x H x W, float32 from 0 to 1) and labels (B). Only whole batches."""


@dataclass(frozen=True)
class FreshData:
    """Digits that are distorted afresh for every epoch, on the device where they lie."""

    spec: DatasetSpec
    digits: Digits
    ink: Ink

    @staticmethod
    def of(spec: DatasetSpec, digits: Digits, device: torch.device) -> "FreshData":
        """From digits on the CPU."""
        return FreshData(spec, to_device(digits, device), Ink.of(digits))

    def __len__(self) -> int:
        return len(self.digits) * self.digits.repeats

    def batches(self, seed: int, epoch: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See TrainingData. The distortions depend on seed and epoch alone."""
        draws = draw(self.spec, self.digits, self.ink, seed, "train", epoch)
        labels = labels_of(self.digits, draws)
        for index in whole_batches(len(self), seed, epoch, size):
            yield render(self.spec, self.digits, draws, index), labels[index.to(labels.device)]


@dataclass(frozen=True)
class BuiltData:
    """Images that were distorted once, and stay as they are: M x C x H x W, uint8, and M labels."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, seed: int, epoch: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See TrainingData."""
        for index in whole_batches(len(self), seed, epoch, size):
            index = index.to(self.images.device)
            yield self.images[index].float() / 255, self.labels[index]


def whole_batches(count: int, seed: int, epoch: int, size: int) -> Iterator[Tensor]:
    """The numbers of each batch's images; what is left over sits this epoch out. At least one batch, if a small one."""
    shuffled = order(count, seed, epoch)
    yield from shuffled[: max(count // size, 1) * size].split(size)
