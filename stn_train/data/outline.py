"""Where on the canvas a digit came to lie: its frame, and its ink."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn_train.data.ink import Array
from stn_train.geometry import Family, MatrixFamily, ThinPlateSpline, apply_matrix
from stn_train.specs import DIGIT

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
