"""Images of one class, which a co-localisation trains on and is scored on, and boxes on them.

Clutter is cut from all classes. A box is (x_min, y_min, x_max, y_max), in any one frame; N boxes are N x 4.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stn_train.data.datasets import TEST_SEED, render, whole_batches
from stn_train.data.distortion import Split, sample_distortion
from stn_train.data.images import ImageSet
from stn_train.geometry import ATTENTION
from stn_train.specs import DIGIT, DatasetSpec


@dataclass(frozen=True)
class OneClass:
    """The images of a dataset that show digits of one class; distorted on the device where the digits lie."""

    spec: DatasetSpec
    digits: ImageSet
    members: Tensor
    """The numbers of the images of the class, on the CPU."""

    @staticmethod
    def of(spec: DatasetSpec, digits: ImageSet, label: int, device: torch.device) -> "OneClass":
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


def crop_boxes(theta: Tensor) -> Tensor:
    """What an attention transformer reads: the boxes, N x 4 in normalised coordinates, for theta, N x 3."""
    corners = ATTENTION.points(theta, theta.new_tensor([[-1.0, -1.0], [1.0, 1.0]]))
    return torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)


def frame_boxes(shift: Tensor, canvas: tuple[int, int]) -> Tensor:
    """The frames of digits that were moved and nothing else: N x 4 in normalised coordinates of the canvas (H, W).

    `shift` (N x 2) is the frame's centre in pixels from the canvas's, (x, y). A frame can leave the canvas.
    """
    half = shift.new_tensor([canvas[1], canvas[0]]) / 2
    return torch.cat([shift - DIGIT / 2, shift + DIGIT / 2], dim=1) / torch.cat([half, half])


def overlap(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union, N, of boxes with others, both N x 4 and of a positive area."""
    sides = torch.minimum(boxes[:, 2:], others[:, 2:]) - torch.maximum(boxes[:, :2], others[:, :2])
    shared = sides.clamp(min=0).prod(dim=1)
    areas, of_others = ((each[:, 2:] - each[:, :2]).prod(dim=1) for each in (boxes, others))
    return shared / (areas + of_others - shared)
