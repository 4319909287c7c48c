"""Where the ink of digits lies, as far as their extent under a map needs it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stn_train.data.digits import Digits
from stn_train.specs import DIGIT

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Ink:
    """The inked pixels (value above 0) at the edge of N digits, in centred pixels.

    For each of the 28 rows, the centres of its leftmost and its rightmost inked pixel (N x 28); a row without ink
    repeats the digit's first inked row, which changes no extent. Among them are the corners of the ink's convex hull.
    """

    left: Array
    right: Array
    y: Array

    @staticmethod
    def of(digits: Digits) -> "Ink":
        """The ink of these digits; one without any ink counts as one inked pixel in the middle of its frame."""
        inked = digits.images.numpy() > 0
        inked[~inked.any(axis=(1, 2)), DIGIT // 2, DIGIT // 2] = True
        rows = inked.any(axis=2)
        filled = np.where(rows, np.arange(DIGIT), rows.argmax(axis=1)[:, None])
        left = np.take_along_axis(inked.argmax(axis=2), filled, axis=1)
        right = np.take_along_axis(DIGIT - 1 - inked[:, :, ::-1].argmax(axis=2), filled, axis=1)
        middle = (DIGIT - 1) / 2
        return Ink(left - middle, right - middle, filled - middle)

    def extent(self, row: Array, digit: NDArray[np.int64]) -> tuple[Array, Array]:
        """The lowest and the highest value of row . (x, y) over each digit's ink; `row` is M x 2, `digit` M."""
        along, across = row[:, :1], row[:, 1:] * self.y[digit]
        one, other = along * self.left[digit] + across, along * self.right[digit] + across
        return np.minimum(one, other).min(axis=1), np.maximum(one, other).max(axis=1)

    def points(self, digit: NDArray[np.int64]) -> Array:
        """The ends of the rows of these digits: M x 56 x 2, (x, y)."""
        x = np.concatenate([self.left[digit], self.right[digit]], axis=1)
        return np.stack([x, np.concatenate([self.y[digit]] * 2, axis=1)], axis=2)
