"""Classifiers: from images, N x C x H x W, to logits, N x classes.

Ours have layer after layer, to be entered between any two; of the user's see own.py.
"""

from collections.abc import Callable

from torch import nn

from stn_train.models.blocks import Convolution, check_size, conv_block

Classifier = Callable[..., nn.Module]
"""What makes a classifier: called by keywords, size (H, W), channels, classes and, where it has one, width.

A width is a number of eighths, so that budgets are met however coarsely a network depends on it: it is multiplied by
what a layer needs, and then rounded.
"""


_LEAST = {"cnn_paper": 24, "cnn": 8, "fcn": 1}
"""How many pixels each needs, height and width."""


def cnn(size: tuple[int, int], channels: int, classes: int, width: float = 32.0) -> nn.Sequential:
    """A small modern network: 3 x 3 convolutions of w, 2w, 2w and 2w filters, halved three times, then hidden units.

    Processors multiply matrices in tiles: w is rounded down to a multiple of 8 where that costs at most a fifth of it
    (docs/performance.md). The hidden layer makes up for that: parameters are as many as with w as it was and 8w hidden
    units. Its layers are the four convolutions, the hidden layer and the classification layer. Raises UserError where
    the input is smaller than 8 x 8.
    """
    check_size("classifier", "cnn", size, _LEAST)
    tiled = 8 * int(width / 8)
    w = tiled if tiled >= 0.8 * width else round(width)
    w2, places = 2 * w, (size[0] // 8) * (size[1] // 8)
    asked, has = (9 * (channels * filters + 10 * filters**2) for filters in (width, w))
    units = max(round((asked - has + 16 * width**2 * places) / (w2 * places)), 1)
    return nn.Sequential(
        conv_block(channels, w, pool=True),
        conv_block(w, w2),
        conv_block(w2, w2, pool=True),
        conv_block(w2, w2, pool=True),
        nn.Sequential(
            nn.Flatten(),
            nn.Linear(w2 * places, units, bias=False),
            nn.BatchNorm1d(units),
            nn.ReLU(inplace=True),
        ),
        nn.Linear(units, classes),
    )


def cnn_paper(size: tuple[int, int], channels: int, classes: int, width: float = 64.0) -> nn.Sequential:
    """The paper's CNN (appendix A): 9 x 9 and 7 x 7 convolutions of w filters without padding, each pooled by 2.

    Its layers are the two convolutions and the classification layer. Raises UserError where the input is smaller than
    24 x 24.
    """
    check_size("classifier", "cnn_paper", size, _LEAST)
    w = round(width)
    height, breadth = (((side - 8) // 2 - 6) // 2 for side in size)
    return nn.Sequential(
        nn.Sequential(Convolution(channels, w, 9), nn.MaxPool2d(2), nn.ReLU(inplace=True)),
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


CLASSIFIERS: dict[str, Classifier] = {"cnn": cnn, "cnn_paper": cnn_paper, "fcn": fcn}
"""Our classifiers by name; those of invariant.py are found by `load_classifier`."""
