"""How a digit is distorted: its pose and its clutter, drawn for a whole epoch at once.

Forwards, in centred pixels, a digit is sheared, scaled and turned about the middle of its frame, and moved:
canvas = R S H digit + t. What is kept and sampled with is the inverse, target to source: from the canvas to the digit.
"""

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn_train.data.digits import Digits
from stn_train.geometry import ROTATION, SCALE, SHEAR
from stn_train.specs import DIGIT, ClutterSpec, DatasetSpec

Split = Literal["train", "test", "validation"]
Array = NDArray[np.float64]

_STREAMS = {"train": 0, "test": 1, "validation": 2}
_POSE, _CLUTTER, _ORDER = 0, 1, 2


def _generator(seed: int, split: Split, epoch: int, subject: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, _STREAMS[split], epoch, subject])))


def order(count: int, seed: int, epoch: int) -> Tensor:
    """The order, a permutation of `count` numbers, in which an epoch shows the training images."""
    return torch.from_numpy(_generator(seed, "train", epoch, _ORDER).permutation(count))


@dataclass(frozen=True)
class Ink:
    """Where the inked pixels (value above 0) of N digits lie, as far as their extent under any affine map needs it.

    For each of the 28 rows, the centres of its leftmost and its rightmost inked pixel in centred pixels (N x 28); a row
    without ink repeats the digit's first inked row, which changes no extent.
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


@dataclass(frozen=True)
class Draw:
    """The distortion of M images, drawn once: image j shows digit j modulo N.

    `theta` (M x 6, float32): the affine map from the canvas to the digit's frame, both normalised. `rotation` in
    degrees, `scale` a factor, `shear` in degrees, `shift` (M x 2) the frame's centre in pixels from the canvas's:
    the same pose in the words of its specification. `clipped` (M): whether ink lies off the canvas.
    """

    theta: Tensor
    rotation: Array
    scale: Array
    shear: Array
    shift: Array
    clipped: NDArray[np.bool_]
    clutter: Clutter | None

    def __len__(self) -> int:
        return len(self.theta)


def draw(spec: DatasetSpec, digits: Digits, ink: Ink, seed: int, split: Split, epoch: int = 0) -> Draw:
    """Draw the distortion of every image of a split's epoch from (seed, split, epoch) alone.

    Uses a counter-based generator on the CPU and float64, so that theta depends neither on the device nor on the size
    or the order of batches.
    """
    count = len(digits) * digits.repeats
    digit = np.arange(count) % len(digits)
    shares = _generator(seed, split, epoch, _POSE).random((count, 5))

    def between(interval: tuple[float, float] | None, column: int, absent: float) -> Array:
        low, high = interval or (absent, absent)
        return low + (high - low) * shares[:, column]

    rotation = between(spec.rotation, 0, 0.0)
    scale = between(spec.scale, 1, 1.0)
    shear = between(spec.shear, 2, 0.0)
    linear = _linear(rotation, scale, shear)
    shift = np.empty((count, 2))
    clipped = np.zeros(count, bool)
    for axis, pixels in enumerate((spec.canvas[1], spec.canvas[0])):
        low, high = ink.extent(linear[:, axis], digit)
        low, high = -(pixels - 1) / 2 - low, (pixels - 1) / 2 - high
        share = None if spec.translation is None else between(spec.translation, 3 + axis, 0.0)
        shift[:, axis] = _place(low, high, share)
        clipped |= low > high
    clutter = None if spec.clutter is None else _draw_clutter(spec.clutter, spec.canvas, digit, seed, split, epoch)
    theta = torch.from_numpy(_canvas_to_digit(linear, shift, spec.canvas)).float()
    return Draw(theta, rotation, scale, shear, shift, clipped, clutter)


def _linear(rotation: Array, scale: Array, shear: Array) -> Array:
    """R S H, M x 2 x 2, from angles in degrees and a factor: the families that also undo them, in centred pixels."""
    turn = ROTATION.to_matrix(torch.from_numpy(np.radians(rotation)[:, None]))
    grow = SCALE.to_matrix(torch.from_numpy(scale[:, None]))
    slant = np.stack([np.tan(np.radians(shear)), np.zeros_like(shear)], axis=1)
    return (turn @ grow @ SHEAR.to_matrix(torch.from_numpy(slant)))[:, :2, :2].numpy()


def _place(low: Array, high: Array, share: Array | None) -> Array:
    """The shift along one axis, in pixels, of digits whose ink stays on the canvas for shifts from `low` to `high`.

    A share u of the room: -1 is `low`, 1 is `high`. Without one the frame stays in the middle, moved only as far as its
    ink needs. Ink too large for the canvas (low > high) is placed in its middle.
    """
    middle = (low + high) / 2
    if share is None:
        return np.where(low > high, middle, np.clip(0.0, low, np.maximum(low, high)))
    return middle + share * np.maximum(high - low, 0) / 2


def _canvas_to_digit(linear: Array, shift: Array, canvas: tuple[int, int]) -> Array:
    """The inverse of digit -> linear digit + shift, in normalised coordinates: M x 6."""
    (a, b), (c, d) = linear[:, 0].T, linear[:, 1].T
    inverse = np.stack([d, -b, -c, a], axis=1).reshape(-1, 2, 2) / (a * d - b * c)[:, None, None]
    half_canvas = np.array([canvas[1], canvas[0]]) / 2
    moved = -(inverse @ shift[:, :, None])
    return np.concatenate([inverse * half_canvas, moved], axis=2).reshape(-1, 6) / (DIGIT / 2)


def _draw_clutter(
    spec: ClutterSpec, canvas: tuple[int, int], digit: NDArray[np.int64], seed: int, split: Split, epoch: int
) -> Clutter:
    """Patches of digits other than the image's own, from anywhere in their frames to anywhere on the canvas."""
    shares = _generator(seed, split, epoch, _CLUTTER).random((len(digit), spec.patches, 5))
    digits = int(digit.max()) + 1
    choices = np.array([digits - 1, *(side - spec.size + 1 for side in (DIGIT, DIGIT, *canvas))])
    source, from_y, from_x, to_y, to_x = np.moveaxis((shares * choices).astype(np.int64), 2, 0)
    source += source >= digit[:, None]
    return Clutter(*(torch.from_numpy(np.ascontiguousarray(a)) for a in (source, from_y, from_x, to_y, to_x)))
