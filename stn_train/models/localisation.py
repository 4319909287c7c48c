"""Localisation networks: from images, N x C x H x W, to a family's theta, N x p."""

from torch import nn

from stn_train.geometry import Family
from stn_train.models.classifiers import conv_block
from stn_train.models.transformer import Regression


def conv(family: Family, size: tuple[int, int], channels: int) -> nn.Sequential:
    """Four 3 x 3 convolutions of 32 filters, halved thrice; theta is read off their feature maps linearly.

    Without a hidden layer between, where something lies is one matrix product away from how far to move.
    """
    height, width = (side // 8 for side in size)
    return nn.Sequential(
        nn.AvgPool2d(2),
        conv_block(channels, 32, pool=True),
        conv_block(32, 32, pool=True),
        conv_block(32, 32),
        conv_block(32, 32),
        nn.Flatten(),
        Regression(32 * height * width, family),
    )


def conv_paper(family: Family, size: tuple[int, int], channels: int) -> nn.Sequential:
    """The paper's (appendix A): the input halved, two 5 x 5 convolutions of 20 filters, then 20 units."""
    height, width = ((side // 2 - 4) // 2 - 4 for side in size)
    return nn.Sequential(
        nn.AvgPool2d(2),
        nn.Conv2d(channels, 20, 5),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Conv2d(20, 20, 5),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(20 * height * width, 20),
        nn.ReLU(inplace=True),
        Regression(20, family),
    )
