"""Pictures from outside, as a photograph or a scan, prepared as the images were that a network was trained on.

A handwritten digit is brought to what MNIST's are (LeCun et al., http://yann.lecun.com/exdb/mnist): bright ink on dark,
20 pixels along its longer side with its proportions kept, antialiased, and its centre of mass in the middle of 28 x 28
pixels. Before that its ink is told from the paper, whatever light fell on it, and its pen brought to a width that
MNIST's have, too.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage
from torch import Tensor

from stn_train.errors import UserError, first_line
from stn_train.specs import DIGIT, SOURCES, TrialSpec

Grey = NDArray[np.float64]
Mask = NDArray[np.bool_]

BOX = {"mnist": 20, "mnist_rot": 20, "mnist_rot_centred": 20, "qmnist": 20, "digits": 20, "kmnist": 26}
BOX |= {name: 24 for name in SOURCES if name.startswith("emnist")}  # which leaves two pixels at each edge
"""Of sources of handwriting: the longer side of a character's ink in its frame of 28 pixels."""
_PEN = (1.9, 3.5)
"""Widths of the pen in pixels: of 80 % of MNIST's training digits it lies between these."""
_LARGEST, _FINE = 640, 8
"""The longer side of the picture in which ink is looked for; and pixels for one of the frame, when it is cut out."""
_WINDOW = 1 / 2
"""What is darker than its surroundings and narrower than this share of the picture is ink; what is wider, shadow."""
_BELOW, _BESIDE = 0.3, 0.1
"""Gaps between two digits, as shares of the longer side of the first: what is nearer may be a part of it."""
_THUMBNAIL = 400
"""Pixels along the longer side of a picture that is drawn beside what networks read of it."""
_SMALLEST = 4
"""Pixels, of the picture in which ink is looked for: no digit is smaller."""
_FAINTEST = 0.12
"""The least share of the paper's light that ink takes away."""


@dataclass(frozen=True)
class Picture:
    """A picture by its name: `pixels` (H x W x 3) of red, green and blue from 0 to 1, upright and on white paper."""

    name: str
    pixels: Grey


@dataclass(frozen=True)
class Prepared:
    """What a network reads of a picture: `image` (C x H x W, uint8), and `notes`, sentences on what was left out."""

    image: Tensor
    notes: tuple[str, ...] = ()


# --- reading ----------------------------------------------------------------------------------------------------------


def read_picture(source: str | Path | bytes | Image.Image | NDArray[Any] | Tensor, name: str | None = None) -> Picture:
    """Any picture that Pillow reads: a path, a file's bytes, an image of Pillow's, an array or a tensor.

    Turned as its EXIF orientation says; what is transparent is white; 16 bits are brought to the range from 0 to 1. Of
    several frames the first. An array is H x W, H x W x 1, 3 or 4; a tensor H x W or C x H x W; both of uint8, uint16,
    bool, or numbers from 0 to 1. Raises UserError, with the name, for what is none of that.
    """
    if isinstance(source, Tensor):
        source = source.detach().cpu().movedim(0, -1).numpy() if source.ndim == 3 else source.detach().cpu().numpy()
    if isinstance(source, np.ndarray):
        name = name or "the array"
        source = _of_array(source, name)
    try:
        if isinstance(source, Image.Image):
            return Picture(name or "the image", _pixels(source))
        name = name or ("the picture" if isinstance(source, bytes) else str(source))
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return Picture(name, _pixels(image))
    except UnidentifiedImageError:
        raise UserError(f"{name} is not a picture that Pillow can read; name a PNG, JPEG, TIFF, WebP, ...") from None
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:  # Pillow raises many kinds
        raise UserError(f"{name} cannot be read as a picture: {first_line(error)}") from None


def _pixels(image: Image.Image) -> Grey:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits, or 32
        values = np.asarray(image, np.float64)
        if not np.isfinite(values).all():
            raise ValueError("some of its pixels are not finite numbers; save it with 8 or 16 bits a channel")
        most = 65535 if image.mode.startswith("I") else max(1.0, float(values.max()))
        return np.repeat((values / most).clip(0, 1)[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"), np.float64) / 255


def thumbnail(picture: Picture) -> NDArray[np.uint8]:
    """A picture as small as it is drawn, H x W x 3."""
    image = Image.fromarray((picture.pixels * 255).round().astype(np.uint8))
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return np.asarray(image)


def _of_array(array: NDArray[Any], name: str) -> Image.Image:
    """An array as an image of Pillow's."""
    shape = " x ".join(map(str, array.shape))
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))) or 0 in array.shape:
        raise UserError(f"{name} is {shape}; expected one picture: H x W, or H x W x C with 1, 3 or 4 channels")
    if array.dtype == np.uint16:
        array = array / 65535
    if array.dtype == np.bool_:
        array = array.astype(np.float32)
    if array.dtype != np.uint8 and array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):
            raise UserError(
                f"{name} has values from {low:g} to {high:g}; expected 0 to 1: divide pixels from 0 to 255 by 255, and "
                "do not normalise them"
            )
        array = (array * 255).round().astype(np.uint8)
    if array.dtype != np.uint8:
        raise UserError(f"{name} is of {array.dtype}; expected uint8, uint16, bool, or floating point from 0 to 1")
    return Image.fromarray(array)


# --- preparing --------------------------------------------------------------------------------------------------------


def prepare(picture: Picture, trial: TrialSpec, invert: bool | None = None, as_is: bool = False) -> Prepared:
    """What the network of a trial reads of a picture: on its canvas, with its channels.

    Of handwriting, see `handwritten`; of any other source the whole picture, fitted into the source's frame. `invert`:
    whether bright and dark change places; found out if None (False for a source that is no handwriting). `as_is`: the
    picture's own pixels, which has to have the size of the canvas or of the source's frame. Raises UserError, with the
    picture's name, where there is no ink, or where it does not have that size.
    """
    dataset = trial.dataset
    if dataset.addition:
        raise UserError(
            f"{trial.model.name} reads two digits in two channels, and a picture does not say which is which"
        )
    pixels = picture.pixels
    if trial.channels == 1:
        pixels = (pixels @ [0.299, 0.587, 0.114])[:, :, None]
    notes: tuple[str, ...] = ()
    if not as_is and trial.source.name in BOX:
        grey, notes = handwritten(pixels[:, :, 0], picture.name, invert, BOX[trial.source.name])
        pixels = grey[:, :, None]
    else:
        pixels = 1 - pixels if invert else pixels
        if not as_is:
            pixels = _fitted(pixels, trial.source.size)
        elif pixels.shape[:2] not in (dataset.canvas, trial.source.size):
            has, canvas, frame = (
                f"{height} x {width}" for height, width in (pixels.shape[:2], dataset.canvas, trial.source.size)
            )
            raise UserError(
                f"{picture.name} has {has} pixels; as it is, {trial.model.name} reads {canvas}, or {frame}; leave out "
                "--as-is to have it fitted"
            )
    image = torch.from_numpy((pixels.clip(0, 1) * 255).round().astype(np.uint8)).movedim(-1, 0)
    return Prepared(_on_canvas(image, dataset.canvas), notes)


def _on_canvas(image: Tensor, canvas: tuple[int, int]) -> Tensor:
    """An image, C x h x w, in the middle of a black canvas (H, W), C x H x W; what does not fit is cut off."""
    (height, width), (frame_height, frame_width) = canvas, image.shape[1:]
    top, left = (height - frame_height) // 2, (width - frame_width) // 2
    # Negative padding cuts off.
    return torch.nn.functional.pad(image, (left, width - frame_width - left, top, height - frame_height - top))


def _fitted(pixels: Grey, frame: tuple[int, int]) -> Grey:
    """A picture, H x W x C, brought to a frame of this size with its proportions kept, on black."""
    height, width = pixels.shape[:2]
    longer = round(min(frame[0] / height, frame[1] / width) * max(height, width))
    small = torch.from_numpy(np.stack([resized(channel, longer) for channel in np.moveaxis(pixels, -1, 0)]))
    return _on_canvas(small, frame).movedim(0, -1).numpy()


def resized(grey: Grey, side: int) -> Grey:
    """A channel, H x W, brought to a longer side of so many pixels with its proportions kept, antialiased."""
    height, width = (max(round(side * length / max(grey.shape)), 1) for length in grey.shape)
    image = Image.fromarray(grey.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), np.float64)


def handwritten(grey: Grey, name: str, invert: bool | None, box: int) -> tuple[Grey, tuple[str, ...]]:
    """A handwritten character of a picture, H x W from 0 to 1, as MNIST has it: 28 x 28, bright on dark; and notes.

    `box`: how long the longer side of its ink is to be. Raises UserError, with the name, where there is no ink.
    """
    if max(grey.shape) > _LARGEST:
        grey = resized(grey, _LARGEST)
    contrast = ink_contrast(grey, invert)
    level = max(otsu(contrast), _FAINTEST)
    mask = contrast > level
    digit, count = _largest_digit(mask) if mask.any() else (mask, 0)
    if max(digit.any(axis=0).sum(), digit.any(axis=1).sum()) < _SMALLEST:
        raise UserError(f"{name} is blank: no ink stands out from its background; what is transparent counts as white")
    notes = (f"{name} seems to show {count} digits: only the largest is read; cut the others off",) if count > 1 else ()

    # Cut out and enlarged, so that whatever its size was, its outline is as fine; then the pen, and the 20 pixels.
    cut = ndimage.find_objects(digit.astype(int))[0]
    near = np.where(ndimage.binary_dilation(digit, iterations=2), contrast, 0.0)[cut]
    ink = with_pen_width(np.pad(resized(near, _FINE * box) > level, 2 * _FINE), _PEN)
    ink = ink[ndimage.find_objects(ink.astype(int))[0]]
    return centred(resized(ink.astype(np.float64), box).clip(0, 1)), notes


def ink_contrast(grey: Grey, invert: bool | None = None) -> Grey:
    """How much each pixel stands out from the paper around it, from 0 to 1: H x W, of a picture, H x W from 0 to 1.

    `invert`: whether ink is dark on bright; None: whichever way few pixels stand out far from many.
    """
    side = max(grey.shape)
    smooth = ndimage.gaussian_filter(grey, side / 400)
    if invert is None:
        apart = smooth - ndimage.uniform_filter(smooth, side // 2)
        invert = bool(((apart - np.median(apart)) ** 3).mean() < 0)
    paper = ndimage.gaussian_filter(grey, side / 100)
    window = max(round(_WINDOW * side), 3)
    if invert:  # ink takes away a share of the light that falls on the paper
        contrast = 1 - smooth / ndimage.grey_closing(paper, window).clip(1e-3)
    else:
        contrast = smooth - ndimage.grey_opening(paper, window)
    clipped: Grey = np.clip(contrast, 0, 1)
    return clipped


def otsu(values: Grey) -> float:
    """The threshold that leaves the least variance within the two classes that it makes (Otsu, 1979)."""
    counts, edges = np.histogram(values, 256)
    middles = (edges[1:] + edges[:-1]) / 2
    below = counts.cumsum()[:-1]
    above = counts.sum() - below
    sums = (counts * middles).cumsum()
    means = sums[:-1] / below.clip(1), (sums[-1] - sums[:-1]) / above.clip(1)
    return float(edges[1:-1][(below * above * (means[1] - means[0]) ** 2).argmax()])


def _largest_digit(mask: Mask) -> tuple[Mask, int]:
    """Of ink, H x W, that of the largest digit, and how many digits there are.

    A digit may be in parts, which lie near each other; one as tall as the largest, and clearly beside or below it, is
    another. What touches the edge, as the table under the paper, is left out where there is something within.
    """
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    boxes = np.array([[(part.start, part.stop) for part in found] for found in ndimage.find_objects(labels)])
    sizes = boxes[:, :, 1] - boxes[:, :, 0]
    areas = ndimage.sum_labels(mask, labels, np.arange(1, count + 1))
    inside = ((boxes[:, :, 0] > 0) & (boxes[:, :, 1] < mask.shape)).all(axis=1)
    if (sizes[inside].max(axis=1, initial=0) > 0.15 * max(mask.shape)).any():
        areas = np.where(inside, areas, 0)
    main = int(areas.argmax())
    gaps = np.maximum(boxes[main, :, 0] - boxes[:, :, 1], boxes[:, :, 0] - boxes[main, :, 1]) / sizes[main].max()
    apart = (gaps > (_BELOW, _BESIDE)).any(axis=1)
    others = (areas > 0) & apart & (sizes[:, 0] > 0.6 * sizes[main, 0])
    parts = (areas > 0.02 * areas[main]) & (gaps <= _BELOW).all(axis=1) & ~others
    return np.isin(labels, np.flatnonzero(parts) + 1), 1 + int(others.sum())


def pen_width(ink: Mask) -> float:
    """The width of the strokes of an ink, H x W, in its pixels: across a stroke, the mean distance to the paper is a
    quarter of it."""
    return 4 * float((ndimage.distance_transform_edt(ink)[ink] - 0.5).mean())


def with_pen_width(ink: Mask, limits: tuple[float, float]) -> Mask:
    """Ink, H x W, as of a pen whose width lies within limits, in pixels of the frame."""
    pen = pen_width(ink) / _FINE
    more = _FINE * (np.clip(pen, *limits) - pen) / 2
    distance = ndimage.distance_transform_edt(ink) - ndimage.distance_transform_edt(~ink)
    changed: Mask = distance > -more
    return changed if changed.any() else ink


def centred(small: Grey) -> Grey:
    """A character, h x w of at most 28, in the middle of a frame, 28 x 28, by its centre of mass, as far as it fits."""
    frame = np.zeros((DIGIT, DIGIT))
    middle = ndimage.center_of_mass(small)
    top, left = (
        int(np.clip(round((DIGIT - 1) / 2 - at), 0, DIGIT - side)) for at, side in zip(middle, small.shape, strict=True)
    )
    frame[top : top + small.shape[0], left : left + small.shape[1]] = small
    return frame
