"""The mean image of each class, before and after a transformer: sharp where all images have one pose.

And what that leaves of how images vary: the share of it that lies within classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from stn_train.evaluation.classify import BATCH

_BLANK = 1e-6
"""The least norm of an image that is not blank."""
_ALIKE = 1e-6
"""The least variance among images that differ."""


@torch.no_grad()
def class_means(
    front: Callable[..., Tensor], images: Tensor, labels: Tensor, classes: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Of uint8 `images` (M x C x H x W) and of what `front` makes of them, on the CPU, from 0 to 1.

    classes x C x H x W and classes x C' x h x w; zeros for a class without images.
    """
    before, after = _means(front, images, labels, classes, device, None, lambda made: made)
    return before.clamp(0, 1), after.clamp(0, 1)


@torch.no_grad()
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
    share = torch.bincount(labels, minlength=classes) / len(labels)

    def within(means: Tensor) -> float | None:
        means = means.flatten(1).double()
        total = 1 - (share.double() @ means).square().sum()
        return float((1 - share.double() @ means.square().sum(dim=1)) / total) if total > _ALIKE else None

    before, after = _means(front, images, labels, classes, device, poses, _unit)
    return within(before), within(after)


def _unit(images: Tensor) -> Tensor:
    norms: Tensor = images.flatten(1).norm(dim=1)
    return images / norms.clamp(min=_BLANK)[:, None, None, None]


def _means(
    front: Callable[..., Tensor],
    images: Tensor,
    labels: Tensor,
    classes: int,
    device: torch.device,
    poses: Tensor | None,
    of: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """The mean of each class, before and after, `of` something made of the images."""
    shares = F.one_hot(labels, classes).float()
    shares = (shares / shares.sum(dim=0).clamp(min=1)).T.to(device)
    totals: list[Tensor] = []
    for numbers in torch.arange(len(images)).split(BATCH):
        batch = images[numbers].to(device).float() / 255
        made = front(batch) if poses is None else front(batch, poses[numbers])
        share = shares[:, numbers.to(device)]
        parts = [torch.einsum("kn,nchw->kchw", share, of(images)) for images in (batch, made)]
        totals = [total + part for total, part in zip(totals, parts, strict=True)] if totals else parts
    before, after = (total.cpu() for total in totals)
    return before, after
