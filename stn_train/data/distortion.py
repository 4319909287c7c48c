"""How a digit is distorted, drawn for a whole epoch at once.

Forwards, in centred pixels, a digit is sheared, scaled and turned about the middle of its frame, and moved:
canvas = R S H digit + t. Then the canvas may be bent, and clutter laid over it. What is kept and sampled with is the
inverse, target to source: from the canvas to the digit.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn_train.data.randomness import RandomKey, RandomStream, Split
from stn_train.data.sources import Digits
from stn_train.geometry import (
    AFFINE,
    PROJECTIVE,
    ROTATION,
    SCALE,
    SHEAR,
    Family,
    MatrixFamily,
    thin_plate_spline,
)
from stn_train.specs import DIGIT, ClutterSpec, DatasetSpec, ElasticSpec, PerspectiveSpec

Array = NDArray[np.float64]
Places = NDArray[np.int64]

_CORNERS = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


# --- where digits lie: the extent of their ink in the frame, and the outline of both on the canvas --------------------


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

    def extent(self, row: Array, digit: Places) -> tuple[Array, Array]:
        """The lowest and the highest value of row . (x, y) over each digit's ink; `row` is M x 2, `digit` M."""
        along, across = row[:, :1], row[:, 1:] * self.y[digit]
        one, other = along * self.left[digit] + across, along * self.right[digit] + across
        return np.minimum(one, other).min(axis=1), np.maximum(one, other).max(axis=1)

    def points(self, digit: Places) -> Array:
        """The ends of the rows of these digits: M x 56 x 2, (x, y)."""
        x = np.concatenate([self.left[digit], self.right[digit]], axis=1)
        return np.stack([x, np.concatenate([self.y[digit]] * 2, axis=1)], axis=2)


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
    frame = np.broadcast_to(_CORNERS * DIGIT / 2, (len(ink), 4, 2))
    points = on_canvas(family, theta, canvas, np.concatenate([frame, ink], axis=1))
    corners, inked = points[:, :4], points[:, 4:]
    return Outline(corners, np.concatenate([inked.min(axis=1), inked.max(axis=1)], axis=1))


def on_canvas(family: Family, theta: Tensor, canvas: tuple[int, int], points: Array) -> Array:
    """Points of the digits' frames (M x K x 2, centred pixels) on the canvas (M x K x 2, in its pixels)."""
    height, width = canvas
    normalised = torch.from_numpy(points / (DIGIT / 2))
    parts = zip(theta.double().split(_CHUNK), normalised.split(_CHUNK), strict=True)
    found = torch.cat([family.inverse_points(some, there, width / height) for some, there in parts]).numpy()
    pixels: Array = ((found + 1) * np.array([width, height]) - 1) / 2
    return pixels


# --- clutter: patches cut from other digits, and where on the canvas they are put -------------------------------------

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
    digit: Places,
    boxes: Array | None,
    source: RandomKey,
) -> Clutter:
    """Patches of digits other than the image's own, `digit` (M), from anywhere in their frames to anywhere.

    With `boxes` (M x 4: left, top, right, bottom in pixels of the canvas) patches that touch an image's box are put
    somewhere else, drawn for all patches at once; where there is no room, after 100 rounds, the last place stays.
    """

    def anywhere(attempt: int) -> Places:
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
    to_y: Places,
    to_x: Places,
    size: int,
    boxes: Array,
    anywhere: Callable[[int], Places],
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


# --- the distortion of every image of an epoch ------------------------------------------------------------------------


def distortion_family(spec: DatasetSpec) -> Family:
    """The family of a dataset's maps from the canvas to the digit's frame."""
    if spec.perspective is not None:
        return PROJECTIVE
    return AFFINE if spec.elastic is None else thin_plate_spline(spec.elastic.control_points)


@dataclass(frozen=True)
class Distortion:
    """The distortion of M images, or of one channel of them, drawn once.

    `digit` (M): the number of the digit that each shows. `theta` (M x p, float32): the map of the dataset's family from
    the canvas to the digit's frame, both normalised. `rotation` in degrees, `scale` a factor, `shear` in degrees,
    `shift` (M x 2) the frame's centre in pixels from the canvas's: the pose before the canvas was bent, in the words of
    its specification. `elastic_theta` (M x 32, float32), where there is one: the spline from the frame of the digit as
    it is placed to that of the digit in the file.
    """

    digit: Places
    theta: Tensor
    rotation: Array
    scale: Array
    shear: Array
    shift: Array
    clutter: Clutter | None
    elastic_theta: Tensor | None

    def __len__(self) -> int:
        return len(self.theta)


def sample_distortion(
    spec: DatasetSpec,
    digits: Digits,
    seed: int,
    split: Split,
    epoch: int = 0,
    elastic_augmentation: float = 0.0,
    ink: InkExtent | None = None,
) -> tuple[Distortion, ...]:
    """Draw the distortion of every image of a split's epoch, one Distortion a channel, from (seed, split, epoch) alone.

    Image j shows digit j modulo N in its first channel; a second one shows another order of the same digits. Uses a
    counter-based generator on the CPU and float64, so that theta depends neither on the device nor on the size or the
    order of batches.

    With `elastic_augmentation`, each digit is first bent in its own frame, as if another hand had written it: by a
    spline whose 4 x 4 control points are moved by a normal of so many pixels. Where it is placed goes by its ink before
    that; who draws many epochs gives the digits' `ink`, so that it is found once.
    """
    ink = ink or InkExtent.of(digits)
    shown = np.arange(len(digits) * digits.repeats) % len(digits)
    channels = [shown]
    if spec.addition:
        channels.append(RandomKey(seed, split, epoch).stream(RandomStream.PARTNER).permutation(shown))
    return tuple(
        _sample_channel(spec, ink, digit, RandomKey(seed, split, epoch, channel), elastic_augmentation)
        for channel, digit in enumerate(channels)
    )


def _sample_channel(
    spec: DatasetSpec, ink: InkExtent, digit: Places, source: RandomKey, elastic_augmentation: float
) -> Distortion:
    shares = source.stream(RandomStream.POSE).random((len(digit), 5))

    def between(interval: tuple[float, float] | None, column: int, absent: float) -> Array:
        low, high = interval or (absent, absent)
        return low + (high - low) * shares[:, column]

    rotation = between(spec.rotation, 0, 0.0)
    scale = between(spec.scale, 1, 1.0)
    shear = between(spec.shear, 2, 0.0)
    linear = _linear(rotation, scale, shear)
    shift = np.empty((len(digit), 2))
    for axis, pixels in enumerate((spec.canvas[1], spec.canvas[0])):
        if spec.placement == "frame":
            shift[:, axis] = _place_frame(spec, pixels, scale, shares[:, 3 + axis])
            continue
        low, high = ink.extent(linear[:, axis], digit)
        low, high = -(pixels - 1) / 2 - low, (pixels - 1) / 2 - high
        share = None if spec.translation is None else between(spec.translation, 3 + axis, 0.0)
        shift[:, axis] = _place(low, high, share)
    placed = _canvas_to_digit(linear, shift, spec.canvas)
    theta = torch.from_numpy(_bent(spec, placed, source)).float()
    clutter = None
    if spec.clutter is not None:
        family = distortion_family(spec)
        boxes = outline(family, theta, spec.canvas, ink.points(digit)).ink if spec.clutter.avoid_digit else None
        clutter = sample_clutter(spec.clutter, spec.canvas, digit, boxes, source)
    elastic_theta = None
    if elastic_augmentation:
        places = elastic_places(
            ElasticSpec(std=elastic_augmentation, control_points=4),
            (DIGIT, DIGIT),
            len(digit),
            source,
            RandomStream.ELASTIC_AUGMENTATION,
        )
        elastic_theta = torch.from_numpy(places).flatten(1).float()
    return Distortion(digit, theta, rotation, scale, shear, shift, clutter, elastic_theta)


def _linear(rotation: Array, scale: Array, shear: Array) -> Array:
    """R S H, M x 2 x 2, from angles in degrees and a factor: the families that also undo them, in centred pixels."""
    turn = ROTATION.matrix(torch.from_numpy(np.radians(rotation)[:, None]))
    grow = SCALE.matrix(torch.from_numpy(scale[:, None]))
    slant = np.stack([np.tan(np.radians(shear)), np.zeros_like(shear)], axis=1)
    return (turn @ grow @ SHEAR.matrix(torch.from_numpy(slant)))[:, :2, :2].numpy()


def _place(low: Array, high: Array, share: Array | None) -> Array:
    """The shift along one axis, in pixels, of digits whose ink stays on the canvas for shifts from `low` to `high`.

    A share u of the room: -1 is `low`, 1 is `high`. Without one the frame stays in the middle, moved only as far as its
    ink needs. Ink too large for the canvas (low > high) is placed in its middle.
    """
    middle = (low + high) / 2
    if share is None:
        return np.where(low > high, middle, np.clip(0.0, low, np.maximum(low, high)))
    return middle + share * np.maximum(high - low, 0) / 2


def _place_frame(spec: DatasetSpec, pixels: int, scale: Array, share: Array) -> Array:
    """The shift along one axis, in pixels, of frames of round(28 scale) pixels that stay on a canvas of so many.

    `share`: uniform in [0, 1). In whole pixels, each place that the translation allows is as likely as any other. A
    frame larger than the canvas is placed in its middle.
    """
    frame = np.rint(DIGIT * scale)
    room = np.maximum(pixels - frame, 0.0)
    low, high = ((1 + end) / 2 * room for end in spec.translation or (0.0, 0.0))
    place = low + (high - low) * share
    if spec.whole_pixels:
        first, last = np.ceil(low - _SLACK), np.floor(high + _SLACK)
        place = np.where(first <= last, first + np.floor((last - first + 1) * share), np.floor(place))
    return np.where(frame > pixels, 0.0, place + (frame - pixels) / 2)


def _canvas_to_digit(linear: Array, shift: Array, canvas: tuple[int, int]) -> Array:
    """The inverse of digit -> linear digit + shift, in normalised coordinates: M x 2 x 3."""
    (a, b), (c, d) = linear[:, 0].T, linear[:, 1].T
    inverse = np.stack([d, -b, -c, a], axis=1).reshape(-1, 2, 2) / (a * d - b * c)[:, None, None]
    half_canvas = np.array([canvas[1], canvas[0]]) / 2
    moved = -(inverse @ shift[:, :, None])
    return np.concatenate([inverse * half_canvas, moved], axis=2) / (DIGIT / 2)


def _bent(spec: DatasetSpec, placed: Array, source: RandomKey) -> Array:
    """Theta, M x p: from the bent canvas to the one before, and from there by `placed`, M x 2 x 3, to the digit."""
    if spec.perspective is not None:
        matrices = perspective_matrices(spec.perspective, spec.canvas, len(placed), source)
        lowest = np.broadcast_to([0.0, 0.0, 1.0], (len(placed), 1, 3))
        return (np.concatenate([placed, lowest], axis=1) @ matrices).reshape(-1, 9)[:, :8]
    if spec.elastic is not None:
        places = elastic_places(spec.elastic, spec.canvas, len(placed), source)
        return (places @ placed[:, :, :2].transpose(0, 2, 1) + placed[:, None, :, 2]).reshape(len(placed), -1)
    return placed.reshape(-1, 6)


def elastic_places(
    spec: ElasticSpec, canvas: tuple[int, int], count: int, source: RandomKey, subject: RandomStream = RandomStream.BEND
) -> Array:
    """Where the control points, regular on the bent canvas, are read: M x n² x 2."""
    regular = np.array(thin_plate_spline(spec.control_points).identity).reshape(-1, 2)
    moves = source.stream(subject).standard_normal((count, len(regular), 2))
    return regular + moves * spec.std * _pixel(canvas)


def perspective_matrices(spec: PerspectiveSpec, canvas: tuple[int, int], count: int, source: RandomKey) -> Array:
    """The projective maps, M x 3 x 3, that read the canvas's corners where they were before they moved."""
    moves = source.stream(RandomStream.BEND).standard_normal((count, 4, 2)) * spec.std
    if spec.direction == "outward":
        moves = np.sign(_CORNERS) * np.abs(moves)
    elif spec.direction == "diagonal":
        moves = np.sign(_CORNERS) * moves[:, :, :1] / np.sqrt(2)
    return homographies(_CORNERS + moves * _pixel(canvas))


def _pixel(canvas: tuple[int, int]) -> Array:
    """A pixel's width and height in normalised coordinates."""
    return np.array([2 / canvas[1], 2 / canvas[0]])


def homographies(moved: Array) -> Array:
    """The matrices, M x 3 x 3 with 1 as their last entry, that send `moved`, M x 4 x 2, to the canvas's corners.

    Eight equations for eight entries: a x + b y + c - (g x + h y) u = u for each corner (x, y) and its place (u, v),
    and the same for v.
    """
    ones, zeros = np.ones((len(moved), 4, 1)), np.zeros((len(moved), 4, 3))
    point = np.concatenate([moved, ones], axis=2)
    upper = np.concatenate([point, zeros, -moved * _CORNERS[:, :1]], axis=2)
    lower = np.concatenate([zeros, point, -moved * _CORNERS[:, 1:]], axis=2)
    places = np.broadcast_to(np.concatenate([_CORNERS[:, 0], _CORNERS[:, 1]])[:, None], (len(moved), 8, 1))
    entries = np.linalg.solve(np.concatenate([upper, lower], axis=1), places)[..., 0]
    return np.concatenate([entries, ones[:, 0]], axis=1).reshape(-1, 3, 3)


def true_poses(spec: DatasetSpec, theta: Tensor) -> Tensor:
    """Theta, M x 9 of all homographies, of the maps from the digit's frame to the canvas, both normalised.

    `theta` (M x p) is the distortion's, the way back. A transformer with these thetas puts out the digit's frame; what
    of that lies behind the canvas's horizon, where no image shows it, is left blank.
    """
    family = distortion_family(spec)
    assert isinstance(family, MatrixFamily)
    poses: Tensor = torch.linalg.inv(family.matrix(theta.double())).flatten(1).float()
    return poses
