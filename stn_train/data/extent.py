"""Where digits lie: the extent of their ink in the frame, and the outline of both on the canvas."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn_train.data.sources import Digits
from stn_train.geometry import Family, MatrixFamily, ThinPlateSpline, apply_matrix
from stn_train.specs import DIGIT

Array = NDArray[np.float64]


@dataclass(frozen=True)
class InkExtent:
    """The inked pixels (value above 0) at the edge of N digits, in centred pixels.

    For each of the 28 rows, the centres of its leftmost and its rightmost inked pixel (N x 28); a row without ink
    repeats the digit's first inked row, which changes no extent. Among them are the corners of the ink's convex hull.
    """

    left: Array
    right: Array
    y: Array

    @staticmethod
    def of(digits: Digits) -> "InkExtent":
        """The ink of these digits; one without any ink counts as one inked pixel in the middle of its frame."""
        inked = digits.images.numpy() > 0
        inked[~inked.any(axis=(1, 2)), DIGIT // 2, DIGIT // 2] = True
        rows = inked.any(axis=2)
        filled = np.where(rows, np.arange(DIGIT), rows.argmax(axis=1)[:, None])
        left = np.take_along_axis(inked.argmax(axis=2), filled, axis=1)
        right = np.take_along_axis(DIGIT - 1 - inked[:, :, ::-1].argmax(axis=2), filled, axis=1)
        middle = (DIGIT - 1) / 2
        return InkExtent(left - middle, right - middle, filled - middle)

    def extent(self, row: Array, digit: NDArray[np.int64]) -> tuple[Array, Array]:
        """The lowest and the highest value of row . (x, y) over each digit's ink; `row` is M x 2, `digit` M."""
        along, across = row[:, :1], row[:, 1:] * self.y[digit]
        one, other = along * self.left[digit] + across, along * self.right[digit] + across
        return np.minimum(one, other).min(axis=1), np.maximum(one, other).max(axis=1)

    def points(self, digit: NDArray[np.int64]) -> Array:
        """The ends of the rows of these digits: M x 56 x 2, (x, y)."""
        x = np.concatenate([self.left[digit], self.right[digit]], axis=1)
        return np.stack([x, np.concatenate([self.y[digit]] * 2, axis=1)], axis=2)


_FRAME = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]) * DIGIT / 2
_SLACK = 1e-3
_CHUNK = 500


@dataclass(frozen=True)
class Outline:
    """Where M digits lie, in pixels of the canvas: a pixel's centre has whole coordinates (x, y), the first is (0, 0).

    `frame` (M x 4 x 2): the corners of the outer edge of the 28 x 28 frame, in the order top left, top right, bottom
    right, bottom left of the digit. `ink` (M x 4): left, top, right and bottom of the box of the inked pixels' centres.
    Both NaN for a map that folds there and cannot be followed back.
    """

    frame: Array
    ink: Array

    @property
    def frame_box(self) -> Array:
        """M x 4: left, top, right and bottom of the upright box around the frame."""
        return np.concatenate([self.frame.min(axis=1), self.frame.max(axis=1)], axis=1)

    def clipped(self, canvas: tuple[int, int]) -> NDArray[np.bool_]:
        """Whether the centre of an inked pixel lies off a canvas of this height and width: M."""
        height, width = canvas
        last = np.array([width, height, width, height]) - 1
        off: NDArray[np.bool_] = ~((self.ink >= -_SLACK) & (self.ink <= last + _SLACK))
        return np.asarray(off.any(axis=1))


def outline(family: Family, theta: Tensor, canvas: tuple[int, int], ink: Array) -> Outline:
    """The outlines for theta, M x p, from canvas (H, W) to digit.

    `ink` (M x K x 2): points of the digits' ink in centred pixels of their frames.
    """
    frame = np.broadcast_to(_FRAME, (len(ink), 4, 2))
    points = on_canvas(family, theta, canvas, np.concatenate([frame, ink], axis=1))
    corners, inked = points[:, :4], points[:, 4:]
    return Outline(corners, np.concatenate([inked.min(axis=1), inked.max(axis=1)], axis=1))


def on_canvas(family: Family, theta: Tensor, canvas: tuple[int, int], points: Array) -> Array:
    """Points of the digits' frames (M x K x 2, centred pixels) on the canvas (M x K x 2, in its pixels)."""
    height, width = canvas
    normalised = torch.from_numpy(points / (DIGIT / 2))
    parts = zip(theta.double().split(_CHUNK), normalised.split(_CHUNK), strict=True)
    found = torch.cat([_backwards(family, some, there, width / height) for some, there in parts]).numpy()
    pixels: Array = ((found + 1) * np.array([width, height]) - 1) / 2
    return pixels


def _backwards(family: Family, theta: Tensor, source: Tensor, aspect: float) -> Tensor:
    """Target points for source points, both normalised."""
    if isinstance(family, ThinPlateSpline):
        return family.inverse_points(theta, source, aspect)
    assert isinstance(family, MatrixFamily)
    return apply_matrix(torch.linalg.inv(family.matrix(theta)), source)
