"""Clutter: patches cut from other digits, and where on the canvas they are put."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn_train.data.randomness import RandomKey, RandomStream
from stn_train.data.sources import Digits
from stn_train.specs import DIGIT, ClutterSpec

Array = NDArray[np.float64]
Places = NDArray[np.int64]

_ROUNDS = 100


@dataclass(frozen=True)
class Clutter:
    """Where patches are cut and where they are put, for M images and P patches each; all M x P, int64.

    `digit` is the number of the digit that a patch is cut from; the other four are the patch's upper left pixel there
    and on the canvas.
    """

    digit: Tensor
    from_y: Tensor
    from_x: Tensor
    to_y: Tensor
    to_x: Tensor

    def __getitem__(self, index: Tensor) -> "Clutter":
        return Clutter(*(getattr(self, field.name)[index] for field in fields(self)))


def sample_clutter(
    spec: ClutterSpec,
    canvas: tuple[int, int],
    digit: NDArray[np.int64],
    boxes: Array | None,
    source: RandomKey,
) -> Clutter:
    """Patches of digits other than the image's own, `digit` (M), from anywhere in their frames to anywhere.

    With `boxes` (M x 4: left, top, right, bottom in pixels of the canvas) patches that touch an image's box are put
    somewhere else, drawn for all patches at once; where there is no room, after 100 rounds, the last place stays.
    """

    def anywhere(attempt: int) -> NDArray[np.int64]:
        shares = source.stream(RandomStream.CLUTTER, attempt).random((len(digit), spec.patches, 5))
        return np.moveaxis((shares * choices).astype(np.int64), 2, 0)

    digits = int(digit.max()) + 1
    choices = np.array([digits - 1, *(side - spec.size + 1 for side in (DIGIT, DIGIT, *canvas))])
    other, from_y, from_x, to_y, to_x = anywhere(0)
    other += other >= digit[:, None]
    if boxes is not None:
        to_y, to_x = _apart(to_y, to_x, spec.size, boxes, anywhere)
    return Clutter(*(torch.from_numpy(np.ascontiguousarray(a)) for a in (other, from_y, from_x, to_y, to_x)))


def _apart(
    to_y: Places, to_x: Places, size: int, boxes: Array, anywhere: Callable[[int], Places]
) -> tuple[Places, Places]:
    """The places of patches (M x P), drawn again until no pixel of a patch comes within one of its image's box."""
    left, top, right, bottom = (boxes[:, side, None] for side in range(4))
    for attempt in range(1, _ROUNDS):
        beside = (to_x >= right + 1) | (to_x + size <= left)
        touching = ~(beside | (to_y >= bottom + 1) | (to_y + size <= top))
        if not touching.any():
            break
        *_, new_y, new_x = anywhere(attempt)
        to_y, to_x = np.where(touching, new_y, to_y), np.where(touching, new_x, to_x)
    return to_y, to_x


def add_clutter(images: Tensor, digits: Digits, clutter: Clutter, size: int) -> None:
    """Lay patches over images (B x H x W), in place; where two meet, the brighter pixel stays."""
    device, (count, _, width) = images.device, images.shape
    inside = torch.arange(size, device=device)
    rows, columns = inside[:, None], inside

    def pixels(y: Tensor, x: Tensor, row_length: int) -> Tensor:
        corner = (y * row_length + x).to(device)
        return corner[:, :, None, None] + rows * row_length + columns

    cut = pixels(clutter.from_y, clutter.from_x, DIGIT) + (clutter.digit.to(device) * DIGIT**2)[:, :, None, None]
    values = digits.images.view(-1)[cut].float() / 255
    put = pixels(clutter.to_y, clutter.to_x, width)
    images.view(count, -1).scatter_reduce_(1, put.view(count, -1), values.view(count, -1), "amax")
