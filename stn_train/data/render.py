"""From digits and a drawn distortion to images, a batch at a time, on any device."""

from dataclasses import replace

import torch
from torch import Tensor

from stn_train.data.digits import Digits
from stn_train.data.distortion import Clutter, Draw
from stn_train.geometry import AFFINE, bilinear_sampler
from stn_train.specs import DIGIT, DatasetSpec


def to_device(digits: Digits, device: torch.device) -> Digits:
    """The same digits on a device."""
    return replace(digits, images=digits.images.to(device), labels=digits.labels.to(device))


def render(spec: DatasetSpec, digits: Digits, drawn: Draw, index: Tensor) -> Tensor:
    """The images of these numbers (B, of the M that were drawn): B x 1 x H x W, float32 from 0 to 1.

    The digits' device is where it happens; `drawn` and `index` lie on the CPU.
    """
    device = digits.images.device
    sources = digits.images[(index % len(digits)).to(device)][:, None].float() / 255
    images = bilinear_sampler(sources, AFFINE.grid(drawn.theta[index].to(device), spec.canvas))
    if spec.clutter is not None and drawn.clutter is not None:
        _add_clutter(images, digits, drawn.clutter[index], spec.clutter.size)
    return images


def _add_clutter(images: Tensor, digits: Digits, clutter: Clutter, size: int) -> None:
    """Lay patches over the images, in place; where two meet, the brighter pixel stays."""
    device, (count, _, _, width) = images.device, images.shape
    inside = torch.arange(size, device=device)
    rows, columns = inside[:, None], inside

    def pixels(y: Tensor, x: Tensor, row_length: int) -> Tensor:
        corner = (y * row_length + x).to(device)
        return corner[:, :, None, None] + rows * row_length + columns

    cut = pixels(clutter.from_y, clutter.from_x, DIGIT) + (clutter.digit.to(device) * DIGIT**2)[:, :, None, None]
    values = digits.images.view(-1)[cut].float() / 255
    put = pixels(clutter.to_y, clutter.to_x, width)
    images.view(count, -1).scatter_reduce_(1, put.view(count, -1), values.view(count, -1), "amax")
