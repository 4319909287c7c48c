"""How an image of a source, a digit, is distorted, drawn for a whole epoch at once.

Forwards, in centred pixels, a digit is sheared, scaled and turned about the middle of its frame, and moved:
canvas = R S H digit + t. Then the canvas may be bent, and clutter laid over it. What is kept and sampled with is the
inverse, target to source: from the canvas to the digit.

To add a distortion: a field of DatasetSpec (and its share in `eased`), its draws in `sample_distortion` (with a Subject
of its own) and, where it is a map, in `distortion_family`; one of pixels, not of places, is drawn by `render` in
datasets.py. Prebuilt datasets keep what is drawn (`_parameters` in prebuilt.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn_train.data.images import ImageSet
from stn_train.geometry import (
    AFFINE,
    PROJECTIVE,
    ROTATION,
    SHEAR,
    Family,
    MatrixFamily,
    thin_plate_spline,
)
from stn_train.specs import ClutterSpec, DatasetSpec, PerspectiveSpec

Array = NDArray[np.float64]
Places = NDArray[np.int64]
Split = Literal["train", "test", "validation"]
Subject = Literal["pose", "clutter", "order", "bend", "partner", "subset", "elastic_augmentation", "height"]
Frame = tuple[int, int]
"""Height and width of a source's images, in pixels."""

_SPLITS: dict[Split, int] = {"train": 0, "test": 1, "validation": 2}
_SUBJECTS: dict[Subject, int] = {
    "pose": 0,
    "clutter": 1,
    "order": 2,
    "bend": 3,
    "partner": 4,
    "subset": 5,
    "elastic_augmentation": 6,
    "height": 7,
}
_CORNERS = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
_SLACK = 1e-3
_CHUNK = 500
_ROUNDS = 100


def random_stream(
    subject: Subject, seed: int, split: Split = "train", epoch: int = 0, channel: int = 0, attempt: int = 0
) -> np.random.Generator:
    """A counter-based generator (Philox), at its beginning: where all random numbers of the data come from.

    They depend on what they are for, and never on who asks first: each subject has a stream of its own in each epoch of
    a split and each channel of its images, so that none disturbs another. What was refused is drawn again from a stream
    of its own (`attempt`): so no image depends on how many others there are.
    """
    key = [seed, _SPLITS[split], epoch, _SUBJECTS[subject]]
    if attempt:
        key += [channel, attempt]
    elif channel:
        key += [channel]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


Streams = Callable[..., np.random.Generator]
"""`random_stream` of one channel: of a subject, and an attempt."""


# --- the distortion of every image of an epoch ------------------------------------------------------------------------


def distortion_family(spec: DatasetSpec) -> Family:
    """The family of a dataset's maps from the canvas to the digit's frame."""
    if spec.perspective is not None:
        return PROJECTIVE
    return AFFINE if spec.elastic is None else thin_plate_spline(spec.elastic.control_points)


@dataclass(frozen=True)
class Distortion:
    """The distortion of M images, or of one channel of them, drawn once.

    `digit` (M, int64): the number of the digit that each shows. `theta` (M x p, float32): the map of the dataset's
    family from the canvas to the digit's frame, both normalised. `rotation` in degrees, `scale` a factor (of two
    independent ones, their geometric mean), `shear` in degrees, `shift` (M x 2) the frame's centre in pixels from the
    canvas's: the pose before the canvas was bent, in the words of its specification. `clutter` (M x P x 5), where there
    is any: see `sample_clutter`. `elastic_theta` (M x 32, float32), where there is one: the spline from the frame of
    the digit as it is placed to that of the digit in the file.
    """

    digit: Tensor
    theta: Tensor
    rotation: Array
    scale: Array
    shear: Array
    shift: Array
    clutter: Tensor | None
    elastic_theta: Tensor | None


def sample_distortion(
    spec: DatasetSpec,
    digits: ImageSet,
    seed: int,
    split: Split,
    epoch: int = 0,
    elastic_augmentation: float = 0.0,
) -> tuple[Distortion, ...]:
    """Draw the distortion of every image of a split's epoch, one Distortion a channel, from (seed, split, epoch) alone.

    Image j shows digit j modulo N in its first channel; a second one shows another order of the same digits. Uses a
    counter-based generator on the CPU and float64, so that theta depends neither on the device nor on the size or the
    order of batches.

    With `elastic_augmentation`, each digit is first bent in its own frame, as if another hand had written it: by a
    spline whose 4 x 4 control points are moved by a normal of so many pixels. `render` then moves it back, so that its
    ink's centre of mass stays where it is: where digits are turned about their frame's middle, that tells which way is
    up. Where the digit is placed goes by its ink before all that.
    """
    shown = np.arange(len(digits) * digits.repeats) % len(digits)
    frame: Frame = digits.images.shape[-2], digits.images.shape[-1]
    channels = [shown]
    if spec.addition:
        channels.append(random_stream("partner", seed, split, epoch).permutation(shown))
    intervals = (spec.rotation or (0.0, 0.0), spec.scale or (1.0, 1.0), spec.shear or (0.0, 0.0))
    draws = []
    for channel, digit in enumerate(channels):
        streams = partial(random_stream, seed=seed, split=split, epoch=epoch, channel=channel)
        shares = streams("pose").random((len(digit), 5))
        rotation, scale, shear = (low + (high - low) * shares[:, at] for at, (low, high) in enumerate(intervals))
        scales = np.stack([scale, scale], axis=1)  # of width and height
        if spec.independent_scales:
            low, high = intervals[1]
            scales[:, 1] = low + (high - low) * streams("height").random(len(digit))
            scale = np.sqrt(scales.prod(axis=1))

        # R S H, by the families that also undo them; in centred pixels.
        slant = np.stack([np.tan(np.radians(shear)), np.zeros_like(shear)], axis=1)
        turned = ROTATION.matrix(torch.from_numpy(np.radians(rotation)[:, None]))
        turned[:, :2, :2] *= torch.from_numpy(scales[:, None])
        linear = (turned @ SHEAR.matrix(torch.from_numpy(slant)))[:, :2, :2].numpy()
        if spec.placement == "frame":
            shift = _frame_shift(spec, frame, scales, shares[:, 3:])
        else:
            shift = _ink_shift(spec, linear, digits.ink[digit], shares[:, 3:])
        theta = torch.from_numpy(_canvas_to_digit(spec, frame, linear, shift, streams)).float()

        clutter = elastic_theta = None
        if spec.clutter is not None:
            boxes = outline(spec, frame, theta, digits.ink[digit]).ink if spec.clutter.avoid_digit else None
            clutter = sample_clutter(spec.clutter, spec.canvas, frame, digit, boxes, streams)
        if elastic_augmentation:
            normal = streams("elastic_augmentation").standard_normal((len(digit), 16, 2))
            elastic_theta = torch.from_numpy(elastic_places(normal * elastic_augmentation, frame))
            elastic_theta = elastic_theta.flatten(1).float()
        draws.append(Distortion(torch.from_numpy(digit), theta, rotation, scale, shear, shift, clutter, elastic_theta))
    return tuple(draws)


def _ink_shift(spec: DatasetSpec, linear: Array, ink: Array, share: Array) -> Array:
    """The shifts, M x 2 pixels, of digits whose ink (M x K x 2) stays on the canvas once `linear` has been at it.

    `share` (M x 2): uniform in [0, 1). The translation is a share of the room: from -1, where the ink touches the left
    or the upper edge, to 1. Without one the frame stays in the middle, moved only as far as its ink needs. Ink too
    large for the canvas is placed in its middle.
    """
    reach = linear[:, :, :1] * ink[:, None, :, 0] + linear[:, :, 1:] * ink[:, None, :, 1]
    edge = (np.array(spec.canvas[::-1]) - 1) / 2
    low: Array = -edge - reach.min(axis=2)
    high: Array = edge - reach.max(axis=2)
    middle = (low + high) / 2
    if spec.translation is None:
        return np.where(low > high, middle, np.clip(0.0, low, np.maximum(low, high)))
    least, most = spec.translation
    return middle + (least + (most - least) * share) * np.maximum(high - low, 0) / 2


def _frame_shift(spec: DatasetSpec, size: Frame, scales: Array, share: Array) -> Array:
    """The shifts, M x 2 pixels, of frames of this size times `scales` (M x 2), rounded, that stay on the canvas.

    `share` (M x 2): uniform in [0, 1). In whole pixels, each place that the translation allows is as likely as any
    other. A frame larger than the canvas is placed in its middle.
    """
    frame = np.rint(np.array(size[::-1]) * scales)
    pixels = np.array(spec.canvas[::-1])
    room = np.maximum(pixels - frame, 0.0)
    low, high = ((1 + end) / 2 * room for end in spec.translation or (0.0, 0.0))
    place = low + (high - low) * share
    if spec.whole_pixels:
        first, last = np.ceil(low - _SLACK), np.floor(high + _SLACK)
        place = np.where(first <= last, first + np.floor((last - first + 1) * share), np.floor(place))
    return np.where(frame > pixels, 0.0, place + (frame - pixels) / 2)


def _canvas_to_digit(spec: DatasetSpec, frame: Frame, linear: Array, shift: Array, streams: Streams) -> Array:
    """Theta, M x p: from the bent canvas to the one before, and back from there by digit -> linear digit + shift."""
    (a, b), (c, d) = linear[:, 0].T, linear[:, 1].T
    inverse = np.stack([d, -b, -c, a], axis=1).reshape(-1, 2, 2) / (a * d - b * c)[:, None, None]
    half_canvas, half_frame = np.array(spec.canvas[::-1]) / 2, np.array(frame[::-1]) / 2
    moved = -(inverse @ shift[:, :, None])
    placed = np.concatenate([inverse * half_canvas, moved], axis=2) / half_frame[:, None]
    count = len(placed)
    if spec.perspective is not None:
        normal = streams("bend").standard_normal((count, 4, 2))
        lowest = np.broadcast_to([0.0, 0.0, 1.0], (count, 1, 3))
        matrices = perspective_matrices(spec.perspective, spec.canvas, normal)
        return (np.concatenate([placed, lowest], axis=1) @ matrices).reshape(-1, 9)[:, :8]
    if spec.elastic is not None:
        normal = streams("bend").standard_normal((count, spec.elastic.control_points**2, 2))
        places = elastic_places(normal * spec.elastic.std, spec.canvas)
        return (places @ placed[:, :, :2].transpose(0, 2, 1) + placed[:, None, :, 2]).reshape(count, -1)
    return placed.reshape(-1, 6)


def elastic_places(moves: Array, canvas: tuple[int, int]) -> Array:
    """Where control points, regular on the bent canvas and moved by `moves` pixels, are read: both M x n² x 2."""
    regular = np.array(thin_plate_spline(round(moves.shape[1] ** 0.5)).identity).reshape(-1, 2)
    return regular + moves * (2 / np.array(canvas[::-1]))


def perspective_matrices(spec: PerspectiveSpec, canvas: tuple[int, int], normal: Array) -> Array:
    """The projective maps, M x 3 x 3, that read the canvas's corners where they were before they moved.

    `normal` (M x 4 x 2): standard normal numbers.
    """
    moves = normal * spec.std
    if spec.direction == "outward":
        moves = np.sign(_CORNERS) * np.abs(moves)
    elif spec.direction == "diagonal":
        moves = np.sign(_CORNERS) * moves[:, :, :1] / np.sqrt(2)
    return homographies(_CORNERS + moves * (2 / np.array(canvas[::-1])))


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


def sample_clutter(
    spec: ClutterSpec, canvas: tuple[int, int], frame: Frame, digit: Places, boxes: Array | None, streams: Streams
) -> Tensor:
    """Patches of digits other than the image's own, `digit` (M), from anywhere in their frames to anywhere.

    M x P x 5, int64: of each patch the number of the digit that it is cut from, and its upper left pixel, (y, x) in
    that digit's frame and (y, x) on the canvas.

    With `boxes` (M x 4: left, top, right, bottom in pixels of the canvas) patches of which a pixel comes within one of
    an image's box are put somewhere else; where there is no room, after 100 rounds, the last place stays.
    """
    shape = (len(digit), spec.patches, 5)
    choices = np.array([digit.max(), *(side - spec.size + 1 for side in (*frame, *canvas))])
    clutter = (streams("clutter").random(shape) * choices).astype(np.int64)
    clutter[..., 0] += clutter[..., 0] >= digit[:, None]
    if boxes is None:
        return torch.from_numpy(clutter)
    left, top, right, bottom = (boxes[:, side, None] for side in range(4))
    for attempt in range(1, _ROUNDS):
        y, x = clutter[..., 3], clutter[..., 4]
        beside = (x >= right + 1) | (x + spec.size <= left)
        touching = ~(beside | (y >= bottom + 1) | (y + spec.size <= top))
        if not touching.any():
            break
        # Drawn for all patches, so that none depends on which others touch.
        again = (streams("clutter", attempt=attempt).random(shape) * choices).astype(np.int64)
        clutter[touching, 3:] = again[touching, 3:]
    return torch.from_numpy(clutter)


# --- what is true of it -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outline:
    """Where M digits lie, in pixels of the canvas: a pixel's centre has whole coordinates (x, y), the first is (0, 0).

    `frame` (M x 4 x 2): the corners of the outer edge of the frame, in the order top left, top right, bottom
    right, bottom left of the digit. `ink` (M x 4): left, top, right and bottom of the box of the inked pixels' centres.
    Both NaN for a map that folds there and cannot be followed back. `clipped` (M): whether the centre of an inked pixel
    lies off the canvas.
    """

    frame: Array
    ink: Array
    clipped: NDArray[np.bool_]


def outline(spec: DatasetSpec, frame: Frame, theta: Tensor, ink: Array) -> Outline:
    """The outlines for theta, M x p, from canvas to digit, whose frame has this size.

    `ink` (M x K x 2): points of the digits' ink in centred pixels of their frames.
    """
    family, size, aspect = distortion_family(spec), np.array(spec.canvas[::-1]), spec.canvas[1] / spec.canvas[0]
    half_frame = np.array(frame[::-1]) / 2
    corners = np.broadcast_to(_CORNERS * half_frame, (len(ink), 4, 2))
    points = torch.from_numpy(np.concatenate([corners, ink], axis=1) / half_frame)
    parts = zip(theta.double().split(_CHUNK), points.split(_CHUNK), strict=True)
    found = torch.cat([family.inverse_points(some, there, aspect) for some, there in parts]).numpy()
    pixels = ((found + 1) * size - 1) / 2
    box = np.concatenate([pixels[:, 4:].min(axis=1), pixels[:, 4:].max(axis=1)], axis=1)
    inside = ((box >= -_SLACK) & (box <= np.tile(size, 2) - 1 + _SLACK)).all(axis=1)
    return Outline(pixels[:, :4], box, np.logical_not(inside))


def true_poses(spec: DatasetSpec, theta: Tensor) -> Tensor:
    """Theta, M x 9 of all homographies, of the maps from the digit's frame to the canvas, both normalised.

    `theta` (M x p) is the distortion's, the way back. A transformer with these thetas puts out the digit's frame; what
    of that lies behind the canvas's horizon, where no image shows it, is left blank.
    """
    family = distortion_family(spec)
    assert isinstance(family, MatrixFamily)
    poses: Tensor = torch.linalg.inv(family.matrix(theta.double())).flatten(1).float()
    return poses
