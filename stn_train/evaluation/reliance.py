"""Does a network need its theta, and how much does theta tell by itself?

A transformer may find the pose of an image, or do much the same to every image; and theta may carry the class past the
classifier's eyes. Two numbers tell: how many images are misclassified where each is warped by the theta of another
distortion of the same digit, and how often the class can be read off theta alone.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from stn_train.evaluation.classify import BATCH
from stn_train.models.network import Network, Precision

_NEIGHBOURS = 15
_MOST = 5000
"""So many thetas are compared with as many others."""


@torch.no_grad()
def error_with(
    network: Network, images: Tensor, theta: Tensor, labels: Tensor, device: torch.device, precision: Precision
) -> float:
    """The share of uint8 `images`, M x C x H x W, that a network misclassifies when warped by `theta`, M x p."""
    network.eval()
    right = 0
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        for some in torch.arange(len(images)).split(BATCH):
            batch = (images[some].to(device).float() / 255).to(memory_format=torch.channels_last)
            predicted = network.with_theta(batch, theta[some].to(device)).argmax(dim=1)
            right += int((predicted.cpu() == labels[some]).sum())
    return 1 - right / len(images)


def class_from_theta(theta: Tensor, labels: Tensor, digit: Tensor) -> float | None:
    """How often the class `labels` (M) of an image is that of most of the 15 images whose `theta`, M x p, is nearest.

    Every number of theta counts in units of its spread. The neighbours show other digits (`digit`, M): theta of every
    second digit is told by those of the others. None where there are not as many.
    """
    _, number = digit.unique(return_inverse=True)
    asked, others = ((number % 2 == part).nonzero()[:, 0][:_MOST] for part in (0, 1))
    if len(others) < _NEIGHBOURS:
        return None
    units = (theta.double() - theta.double().mean(dim=0)) / theta.double().std(dim=0).clamp(min=1e-9)
    nearest = torch.cdist(units[asked], units[others]).topk(_NEIGHBOURS, largest=False).indices
    votes = F.one_hot(labels[others], int(labels.max()) + 1)[nearest].sum(dim=1)
    return float((votes.argmax(dim=1) == labels[asked]).double().mean())
