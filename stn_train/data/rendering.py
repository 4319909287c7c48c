"""From digits and a drawn distortion to images, a batch at a time, on any device."""

from dataclasses import replace

import torch
from torch import Tensor

from stn_train.data.clutter import add_clutter
from stn_train.data.distortion import Distortion, distortion_family
from stn_train.data.sources import Digits
from stn_train.geometry import bilinear_sampler, thin_plate_spline
from stn_train.specs import DIGIT, DatasetSpec

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
            add_clutter(channel, digits, drawn.clutter[index], spec.clutter.size)
    return channels.movedim(0, 1)


def labels_of(digits: Digits, draws: tuple[Distortion, ...]) -> Tensor:
    """The labels of all M images, on the digits' device: the sum of the digits that an image shows."""
    shown = (torch.from_numpy(drawn.digit).to(digits.labels.device) for drawn in draws)
    return torch.stack([digits.labels[digit] for digit in shown]).sum(dim=0)
