"""The mean image of each class, before and after a transformer: sharp where all images have one pose."""

import torch
from torch import Tensor, nn

from stn_train.evaluation.classify import BATCH
from stn_train.models.control import tell


@torch.no_grad()
def class_means(
    front: nn.Module, images: Tensor, labels: Tensor, classes: int, device: torch.device, poses: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Of uint8 `images` (M x C x H x W) and of what `front` makes of them, on the CPU, from 0 to 1.

    classes x C x H x W and classes x C' x h x w; zeros for a class without images.
    """
    front.eval()
    shares = nn.functional.one_hot(labels, classes).float()
    shares = (shares / shares.sum(dim=0).clamp(min=1)).T.to(device)
    totals: list[Tensor] = []
    for numbers in torch.arange(len(images)).split(BATCH):
        tell(front, None if poses is None else poses[numbers])
        batch = images[numbers].to(device).float() / 255
        share = shares[:, numbers.to(device)]
        parts = [torch.einsum("kn,nchw->kchw", share, made) for made in (batch, front(batch))]
        totals = [total + part for total, part in zip(totals, parts, strict=True)] if totals else parts
    before, after = (total.clamp(0, 1).cpu() for total in totals)
    return before, after
