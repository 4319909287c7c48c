"""Classifiers: from images, N x C x H x W, to logits, N x classes."""

from torch import nn


def conv_block(channels: int, filters: int, pool: bool = False) -> nn.Sequential:
    """A 3 x 3 convolution that keeps the size, max pooling by 2 if asked for, batch normalisation and ReLU.

    Pooling comes first, since what follows it then has a quarter of the work.
    """
    convolution = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
    pooling = [nn.MaxPool2d(2)] if pool else []
    return nn.Sequential(convolution, *pooling, nn.BatchNorm2d(filters), nn.ReLU(inplace=True))


def cnn(width: float, size: tuple[int, int], channels: int, classes: int) -> nn.Sequential:
    """A small modern network: 3 x 3 convolutions of w, 2w, 2w and 2w filters, halved three times, then 8w units."""
    w, w2, w8 = (round(factor * width) for factor in (1, 2, 8))
    height, breadth = (side // 8 for side in size)
    return nn.Sequential(
        conv_block(channels, w, pool=True),
        conv_block(w, w2),
        conv_block(w2, w2, pool=True),
        conv_block(w2, w2, pool=True),
        nn.Flatten(),
        nn.Linear(w2 * height * breadth, w8, bias=False),
        nn.BatchNorm1d(w8),
        nn.ReLU(inplace=True),
        nn.Linear(w8, classes),
    )


def cnn_paper(width: float, size: tuple[int, int], channels: int, classes: int) -> nn.Sequential:
    """The paper's CNN (appendix A): 9 x 9 and 7 x 7 convolutions of w filters without padding, each pooled by 2."""
    w = round(width)
    height, breadth = (((side - 8) // 2 - 6) // 2 for side in size)
    return nn.Sequential(
        nn.Conv2d(channels, w, 9),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Conv2d(w, w, 7),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(w * height * breadth, classes),
    )
