"""Classifiers that one would use today in place of a transformer: invariant to turns by construction, or by attention.

Each is a function as of classifiers.py: from size (H, W), channels, classes and width to a network. On square images a
turn by 90 degrees changes no logit of `group_cnn`, `ti_pooling` and `polar_cnn`, and other turns only as far as pixels
are read between others.
"""

import math
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from stn_train.geometry import ROTATION, bilinear_sampler
from stn_train.models.blocks import convolve
from stn_train.models.classifiers import Classifier, cnn
from stn_train.models.equivariant import AngularConvolution

TURNS = 8
"""How many turns, of 45 degrees each, the group CNN and TI-pooling know."""


# --- a group CNN ------------------------------------------------------------------------------------------------------


class GroupConvolution(nn.Module):
    """A convolution that turns with its input in steps of 45 degrees (Cohen and Welling, arXiv:1602.07576; C8).

    From N x (turns_in C) x H x W to N x (8 filters) x H x W: all channels of a turn side by side. Images are lifted,
    with `turns_in` 1. Each filter is a sum of circular harmonics within a disc, turned by shifting their phases
    (Weiler et al., arXiv:1711.07289): by 90 degrees exactly. Pads by zero, and keeps the size.
    """

    def __init__(self, channels: int, filters: int, side: int, turns_in: int = TURNS) -> None:
        super().__init__()
        self.basis: Tensor
        basis = torch.tensor(circular_harmonics(side), dtype=torch.get_default_dtype())
        self.register_buffer("basis", basis, persistent=False)
        waves = self.basis.shape[1]
        std = math.sqrt(2 / (channels * turns_in * waves))
        self.weight = nn.Parameter(std * torch.randn(filters, channels, turns_in, waves))

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps, N x (8 filters) x H x W."""
        turn = torch.arange(TURNS, device=maps.device)
        turns_in = self.weight.shape[2]
        turned = self.weight[:, :, (turn[:turns_in] - turn[:, None]) % turns_in]  # filters x C x 8 x turns_in x waves
        kernels = torch.einsum("ocsgw,swyx->sogcyx", turned, self.basis.to(turned.dtype))
        around = kernels.shape[-1] // 2
        found = convolve(maps, kernels.flatten(2, 3).flatten(0, 1), None, (around, around), self.training)
        return found.contiguous(memory_format=torch.channels_last)


@cache
def circular_harmonics(side: int) -> NDArray[np.float64]:
    """The basis of filters of side x side pixels, in each of 8 turns, clockwise: 8 x waves x side x side.

    Rings of Gaussian profile, one pixel apart, times cosine and sine of up to 3 times the angle. On a grid of pixels
    that would not be one filter at 0 and at 45 degrees: so what it answers to each polynomial up to the fourth degree,
    turned with it, is made the mean of both.
    """
    reach = side // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(float)
    radius = np.hypot(x, y)
    disc = radius <= side / 2
    waves, polynomials = [], []
    for turn in (0.0, math.pi / 4):
        across, down = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
        angle = np.arctan2(down, across)
        for ring in range(reach + 1):
            profile = disc * np.exp(-(((radius - ring) / 0.6) ** 2) / 2)
            waves.append(profile)
            for frequency in range(1, min(2 * ring, 3) + 1):
                waves += [profile * (radius > 0) * wave(frequency * angle) for wave in (np.cos, np.sin)]
        polynomials += [disc * across**i * down**j for i in range(5) for j in range(5 - i)]
    basis, terms = (np.reshape(each, (2, -1, side**2)) for each in (waves, polynomials))
    answers = basis @ terms.transpose(0, 2, 1)
    basis = basis + (answers.mean(axis=0) - answers) @ np.linalg.pinv(terms).transpose(0, 2, 1)
    basis /= np.linalg.norm(basis, axis=2, keepdims=True).mean(axis=0)
    quarters = [np.rot90(basis.reshape(2, -1, side, side), -quarter, (2, 3)) for quarter in range(4)]
    return np.concatenate(quarters)


class _GroupNorm(nn.BatchNorm2d):
    """Batch normalisation of each channel over places and turns, which are read as columns: nothing moves in memory."""

    def forward(self, maps: Tensor) -> Tensor:
        count, channels, height, width = maps.shape
        places = maps.movedim(1, 3).reshape(count, height, width * TURNS, self.num_features)
        normed = super().forward(places.movedim(3, 1)).movedim(1, 3)
        return normed.reshape(count, height, width, channels).movedim(3, 1)


def _group_block(convolution: GroupConvolution, *pooling: nn.Module) -> nn.Sequential:
    return nn.Sequential(convolution, _GroupNorm(len(convolution.weight)), nn.ReLU(), *pooling)


class _GroupPooling(nn.Module):
    """The mean of each feature map over places, and the highest of that over turns: from N x (8 C) x H x W to N x C."""

    def forward(self, maps: Tensor) -> Tensor:
        of_turns: Tensor = maps.mean(dim=(2, 3)).unflatten(1, (TURNS, -1))
        return of_turns.amax(dim=1)


def group_cnn(size: tuple[int, int], channels: int, classes: int, width: float = 8.0) -> nn.Sequential:
    """A group CNN of C8: filters of 7 x 7 and three times 5 x 5 pixels, w, w, 2w and about 4w of them, halved thrice.

    Then pooled over places and turns, as many units, and the classification layer. Halved by means of 4 x 4 pixels,
    which overlap: without detail that the coarser grid cannot show, turns stay turns. Of an odd number they are of 5,
    which lie alike from either end. The number of the last filters makes up for the rounding of the others.
    """
    w, w2 = round(width), round(2 * width)
    last = max(round((11 * width**2 - w * w - w * w2) / w2), 1)
    halve = [
        nn.AvgPool2d((4 + (size[0] >> halved) % 2, 4 + (size[1] >> halved) % 2), 2, padding=1) for halved in range(3)
    ]
    return nn.Sequential(
        _group_block(GroupConvolution(channels, w, 7, turns_in=1), halve[0]),
        _group_block(GroupConvolution(w, w, 5), halve[1]),
        _group_block(GroupConvolution(w, w2, 5), halve[2]),
        _group_block(GroupConvolution(w2, last, 5)),
        _GroupPooling(),
        nn.Sequential(nn.Linear(last, last, bias=False), nn.BatchNorm1d(last), nn.ReLU(inplace=True)),
        nn.Linear(last, classes),
    )


# --- TI-pooling -------------------------------------------------------------------------------------------------------


class TransformationInvariantPooling(nn.Module):
    """The highest of each feature over turned copies of the image (Laptev et al., arXiv:1604.06318), then a classifier.

    `features` reads each of 8 copies, all with the same weights; `classify` is the classification layer.
    """

    def __init__(self, features: nn.Module, classify: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.classify = classify

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes."""
        height, width = images.shape[2:]
        like = torch.promote_types(images.dtype, torch.float32)
        angles = torch.arange(TURNS, dtype=like, device=images.device) * (2 * math.pi / TURNS)
        grid = ROTATION.grid(angles[:, None], (height, width), width / height)
        copies = images[:, None].expand(-1, TURNS, -1, -1, -1).flatten(0, 1)
        grids = grid[None].expand(images.shape[0], -1, -1, -1, -1).flatten(0, 1)
        turned = bilinear_sampler(copies, grids).to(images.dtype).to(memory_format=torch.channels_last)
        logits: Tensor = self.classify(self.features(turned).unflatten(0, (-1, TURNS)).amax(dim=1))
        return logits


def ti_pooling(
    size: tuple[int, int], channels: int, classes: int, width: float = 32.0
) -> TransformationInvariantPooling:
    """TI-pooling of `cnn`, of the same widths: its features before the classification layer. Raises UserError as it."""
    *features, classify = cnn(size, channels, classes, width)
    return TransformationInvariantPooling(nn.Sequential(*features), classify)


# --- a polar CNN ------------------------------------------------------------------------------------------------------


class PolarImage(nn.Module):
    """Images, N x C x H x W, as seen from their middle: N x C x R x A, of R radii and A angles.

    The radii reach from the middle to the nearer edge; the angles go clockwise from the right.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.radii = min(size) // 2
        self.angles = 4 * self.radii

    def forward(self, images: Tensor) -> Tensor:
        """The polar images."""
        height, width = images.shape[2:]
        like, device = torch.promote_types(images.dtype, torch.float32), images.device
        shares = (torch.arange(self.radii, dtype=like, device=device) + 0.5) / self.radii
        radius = shares[:, None] * (min(height, width) / 2)
        angle = torch.arange(self.angles, dtype=like, device=device) * (2 * math.pi / self.angles)
        grid = torch.stack([radius * angle.cos() * (2 / width), radius * angle.sin() * (2 / height)], dim=-1)
        return bilinear_sampler(images, grid.expand(images.shape[0], -1, -1, -1)).to(images.dtype)


def polar_cnn(size: tuple[int, int], channels: int, classes: int, width: float = 32.0) -> nn.Sequential:
    """A CNN of the polar image about the canvas's middle, for which a turn is a shift along the angle.

    Convolutions of 3 radii and 9 angles, w, 2w and 2w of them, which wrap around along the angle; pooled by 2 along the
    radii alone; 8w features of all radii, pooled over the angle, and the classification layer. The image is as in
    Esteves et al. (arXiv:1709.01889), but about the middle and not a predicted origin, and linear in the radius.
    """
    w, w2, w8 = (round(factor * width) for factor in (1, 2, 8))
    image = PolarImage(size)
    return nn.Sequential(
        image,
        _polar_block(channels, w, (3, 9), nn.MaxPool2d((2, 1))),
        _polar_block(w, w2, (3, 9), nn.MaxPool2d((2, 1))),
        _polar_block(w2, w2, (3, 9), nn.Identity()),
        _polar_block(w2, w8, (image.radii // 4, 1), nn.AdaptiveMaxPool2d(1)),
        nn.Sequential(nn.Flatten(), nn.Linear(w8, classes)),
    )


def _polar_block(channels: int, filters: int, side: tuple[int, int], pooling: nn.Module) -> nn.Sequential:
    padding = side[0] // 2 if side[1] > 1 else 0
    convolution = AngularConvolution(channels, filters, side, padding=(padding, 0), bias=False)
    return nn.Sequential(convolution, pooling, nn.BatchNorm2d(filters), nn.ReLU(inplace=True))


# --- a vision transformer ---------------------------------------------------------------------------------------------

_PATCH, _DEPTH = 4, 6
_HEADS = 3
"""An odd number: for an even one torch takes a path in evaluation whose work cannot be counted, nor exported."""


class VisionTransformer(nn.Module):
    """Patches of 4 x 4 pixels, each with a learnt position, through 6 layers of attention to the mean of all.

    Dosovitskiy et al. (arXiv:2010.11929), small. Knows nothing of turns: it is there for comparison.
    """

    def __init__(self, size: tuple[int, int], channels: int, classes: int, units: int, hidden: int) -> None:
        super().__init__()
        rows, columns = (-(-side // _PATCH) for side in size)
        self.padding = (0, columns * _PATCH - size[1], 0, rows * _PATCH - size[0])
        self.patches = nn.Conv2d(channels, units, _PATCH, stride=_PATCH)
        self.positions = nn.Parameter(torch.randn(rows * columns, units))
        nn.init.normal_(self.patches.weight, std=0.5)  # images are mostly black, and tokens as long as positions
        layer = nn.TransformerEncoderLayer(
            units, _HEADS, hidden, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, _DEPTH, nn.LayerNorm(units), enable_nested_tensor=False)
        self.classify = nn.Linear(units, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x classes."""
        tokens = self.patches(F.pad(images, self.padding)).flatten(2).mT + self.positions
        logits: Tensor = self.classify(self.layers(tokens).mean(dim=1))
        return logits


def vit(size: tuple[int, int], channels: int, classes: int, width: float = 72.0) -> VisionTransformer:
    """A vision transformer of w units, rounded to a multiple of 3, whose hidden layers of about 4w make up for that."""
    units = _HEADS * max(round(width / _HEADS), 1)
    hidden = max(round(6 * width**2 / units) - 2 * units, 1)
    return VisionTransformer(size, channels, classes, units, hidden)


INVARIANT: dict[str, Classifier] = {
    "group_cnn": group_cnn,
    "ti_pooling": ti_pooling,
    "polar_cnn": polar_cnn,
    "vit": vit,
}
"""These classifiers by name."""
