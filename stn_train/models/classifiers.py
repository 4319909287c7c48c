"""Classifiers: from images, N x C x H x W, to logits, N x classes; layer after layer, to be entered between any two."""

from torch import nn

from stn_train.models.blocks import conv_block, refuse_small
from stn_train.models.image_convolution import ImageConvolution

_LEAST = {"cnn_paper": 24, "cnn": 8, "fcn": 1}
"""How many pixels each needs, height and width."""


def cnn(size: tuple[int, int], channels: int, classes: int, width: float = 32.0) -> nn.Sequential:
    """A small modern network: 3 x 3 convolutions of w, 2w, 2w and 2w filters, halved three times, then 8w units.

    Its layers are the four convolutions, the hidden layer and the classification layer. Raises UserError where the
    input is smaller than 8 x 8.
    """
    refuse_small("classifier", "cnn", size, _LEAST)
    w, w2, w8 = (round(factor * width) for factor in (1, 2, 8))
    height, breadth = (side // 8 for side in size)
    return nn.Sequential(
        conv_block(channels, w, pool=True),
        conv_block(w, w2),
        conv_block(w2, w2, pool=True),
        conv_block(w2, w2, pool=True),
        nn.Sequential(
            nn.Flatten(),
            nn.Linear(w2 * height * breadth, w8, bias=False),
            nn.BatchNorm1d(w8),
            nn.ReLU(inplace=True),
        ),
        nn.Linear(w8, classes),
    )


def cnn_paper(size: tuple[int, int], channels: int, classes: int, width: float = 64.0) -> nn.Sequential:
    """The paper's CNN (appendix A): 9 x 9 and 7 x 7 convolutions of w filters without padding, each pooled by 2.

    Its layers are the two convolutions and the classification layer. Raises UserError where the input is smaller than
    24 x 24.
    """
    refuse_small("classifier", "cnn_paper", size, _LEAST)
    w = round(width)
    height, breadth = (((side - 8) // 2 - 6) // 2 for side in size)
    return nn.Sequential(
        nn.Sequential(ImageConvolution(channels, w, 9), nn.MaxPool2d(2), nn.ReLU(inplace=True)),
        nn.Sequential(nn.Conv2d(w, w, 7), nn.MaxPool2d(2), nn.ReLU(inplace=True)),
        nn.Sequential(nn.Flatten(), nn.Linear(w * height * breadth, classes)),
    )


def fcn(size: tuple[int, int], channels: int, classes: int, width: float = 256.0) -> nn.Sequential:
    """The paper's FCN (appendix A): two hidden fully connected layers of w units, and the classification layer."""
    w = round(width)
    return nn.Sequential(
        nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], w), nn.ReLU(inplace=True)),
        nn.Sequential(nn.Linear(w, w), nn.ReLU(inplace=True)),
        nn.Linear(w, classes),
    )


CLASSIFIERS = {"cnn": cnn, "cnn_paper": cnn_paper, "fcn": fcn}
"""Our classifiers by name."""
