"""Images of one class: what a co-localisation trains on and is scored on. Their clutter is cut from all classes."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stn_train.data.datasets import TEST_SEED, render, whole_batches
from stn_train.data.distortion import Split, sample_distortion
from stn_train.data.sources import Digits
from stn_train.specs import DatasetSpec


@dataclass(frozen=True)
class OneClass:
    """The images of a dataset that show digits of one class; distorted on the device where the digits lie."""

    spec: DatasetSpec
    digits: Digits
    members: Tensor
    """The numbers of the images of the class, on the CPU."""

    @staticmethod
    def of(spec: DatasetSpec, digits: Digits, label: int, device: torch.device) -> "OneClass":
        """From digits of all classes on the CPU."""
        members = (digits.labels == label).repeat(digits.repeats).nonzero()[:, 0]
        return OneClass(spec, digits.to(device), members)

    def batches(self, seed: int, size: int) -> Iterator[Tensor]:
        """Batches without end, distorted afresh in every epoch: B x 1 x H x W, float32 from 0 to 1."""
        epoch = 0
        while True:
            draws = sample_distortion(self.spec, self.digits, seed, "train", epoch)
            for index in whole_batches(len(self.members), seed, epoch, size):
                yield render(self.spec, self.digits, draws, self.members[index])
            epoch += 1

    def fixed(self, split: Split) -> tuple[Tensor, Tensor, Tensor]:
        """The images to be scored on, M x 1 x H x W, uint8; the shift of each frame, M x 2 pixels; digits' numbers.

        They are those of the dataset's test (or validation) variant, all on the CPU.
        """
        (drawn,) = draws = sample_distortion(self.spec, self.digits, TEST_SEED, split)
        images = (render(self.spec, self.digits, draws, self.members) * 255).round().byte().cpu()
        shift = torch.from_numpy(drawn.shift)[self.members].float()
        return images, shift, self.members % len(self.digits)
