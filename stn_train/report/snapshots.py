"""The pictures of a trial's transformers: images in a row, with what transformers make of them below."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.font_manager import findfont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from stn_train.report.page import render
from stn_train.report.plots import OUTLINES, coloured
from stn_train.run_folder import Gallery, unnumbered
from stn_train.specs import TrialSpec

Array = NDArray[np.generic]
Arrays = Mapping[str, Array]

_TILE, _GAP, _TEXT = 88, 6, 22
"""Pixels: an image's side, the space around it, and a line's height."""
_FINE = 2
"""Everything is drawn so many times larger and brought down, which makes lines smooth."""
_MARGINS = 0.1, 0.35
"""Of an image's side: the grey border, for outlines that leave the image; as wide as they need, within these ends."""
_DOT = 0.05
"""Of an image's side: what a dot on the outline needs."""
_KINDS = ("best", "typical", "worst mistakes")
"""Of the examples (see Gallery), in words."""
_STEPS = 30
"""At most so many steps of an animation; of more epochs, some are left out."""
_FIRST, _EACH, _LAST = 1000, 300, 2500
"""Milliseconds that a step is shown."""


def examples(title: str, seen: Arrays) -> bytes:
    """A PNG of the best images, of typical ones and of the worst mistakes: inputs above, what is made of them below.

    On the inputs lie the outlines of the sampling grids; a dot marks the output's top left corner, so that a rotation
    can be seen. Then the true and the predicted label, wrong ones in red. seen: the arrays of examples.npz (Gallery).
    """
    strips, margin = [], _margin(seen)
    for kind in np.unique(seen["kind"]):
        few = {name: array[seen["kind"] == kind] for name, array in seen.items()}
        strips.append(_stacked([_strip(few, few["label"], margin)], _KINDS[kind]))
    return _file([_stacked(strips, title)], "PNG")


def means(title: str, seen: Arrays) -> bytes:
    """A PNG of the mean image of each class, above, and of what the classifier reads, below.

    Each is as bright as it can be, so that how sharp they are can be compared. seen: the arrays of means.npz.
    """
    bright = {
        name: images * (255 / np.maximum(images.max(axis=(1, 2, 3), keepdims=True).astype(float), 1))
        for name, images in seen.items()
    }
    return _file([_stacked([_strip(bright, np.arange(len(seen["image"])), 0.0)], title)], "PNG")


def rotation_sweep(title: str, seen: Arrays) -> bytes:
    """A PNG of one digit at every angle, in two rows. seen: the arrays of rotation_sweep.npz (Gallery)."""
    half, margin = -(-len(seen["angle"]) // 2), _margin(seen)
    strips = []
    for part in (slice(None, half), slice(half, None)):
        few = {name: array[part] for name, array in seen.items()}
        strips.append(_strip(few, [f"{angle}°" for angle in few["angle"]], margin))
    return _file([_stacked(strips, f"{title}: the angle and the predicted class")], "PNG")


def training(title: str, seen: Arrays) -> bytes:
    """A GIF of the same images epoch by epoch. seen: the arrays of training.npz (see Gallery)."""
    epochs = seen["epoch"]  # of each frame; 0 is before training
    frames, margin = [], _margin(seen)
    for frame in np.unique(np.linspace(0, len(epochs) - 1, _STEPS).round().astype(int)):
        fixed = ("image", "label", "epoch")
        step = {name: array if name in fixed else array[frame] for name, array in seen.items()}
        when = f"epoch {epochs[frame]} of {epochs[-1]}" if epochs[frame] else "before training"
        frames.append(_stacked([_strip(step, step["label"], margin)], f"{title}: {when}"))
    durations = [_EACH] * len(frames)
    durations[0], durations[-1] = _FIRST, _LAST
    return _file(frames, "GIF", save_all=True, duration=durations, loop=0)


def _margin(seen: Arrays) -> float:
    """The border, as a share of an image's side: wide enough for all outlines, within _MARGINS."""
    height, width = seen["image"].shape[-2:]
    beyond = [
        float(np.max([-0.5 - points, points - (np.array([width, height]) - 0.5)])) / max(height, width)
        for points in (outline.astype(float) for outline in unnumbered("outline", seen))
    ]
    return float(np.clip(max(beyond, default=0.0) + _DOT, *_MARGINS))


def _strip(seen: Arrays, captions: Iterable[object], margin: float) -> Image.Image:
    """A column for each image: itself with the outlines, what each transformer puts out, each in a frame of the colour
    of its outline, and below `caption → predicted class`, in red where it is wrong; without classes, the caption."""
    (images,), outputs, outlines = (unnumbered(name, seen) for name in ("image", "output", "outline"))
    step = _FINE * (_TILE + _GAP)
    sheet = Image.new("RGB", (len(images) * step, (1 + len(outputs)) * step + _FINE * _TEXT), "white")
    draw = ImageDraw.Draw(sheet)
    for column, caption in enumerate(captions):
        tiles = [_outlined(images[column], [outline[column] for outline in outlines], margin)]
        for output, colour in zip(outputs, cycle(OUTLINES), strict=False):
            inside = _enlarged(output[column], _FINE * (_TILE - 2))
            tiles.append(ImageOps.expand(inside, _FINE, colour if len(outputs) > 1 else "black"))
        for row, tile in enumerate(tiles):
            sheet.paste(tile, (column * step + _FINE * _GAP // 2, row * step + _FINE * _GAP // 2))
        text, colour = str(caption), "black"
        if "predicted" in seen:
            text = f"{caption} → {seen['predicted'][column]}"
            colour = "black" if seen["label"][column] == seen["predicted"][column] else "red"
        draw.text((column * step + step // 2, len(tiles) * step), text, colour, _font(), anchor="ma")
    return sheet


def _enlarged(image: Array, side: int) -> Image.Image:
    """An image, C x H x W, uint8, its pixels as squares, in the middle of a white one of this side."""
    return ImageOps.pad(Image.fromarray(coloured(image)), (side, side), Image.Resampling.NEAREST, color="white")


def _outlined(image: Array, outlines: Sequence[Array], margin: float) -> Image.Image:
    """An image with a grey border, and polygons (V x 2, in its pixels) with a dot at the first point of each.

    The border is a share `margin` of the image's side; without polygons, there is none.
    """
    if not outlines:
        return _enlarged(image, _FINE * _TILE)
    inner = round(_FINE * _TILE / (1 + 2 * margin))
    border = (_FINE * _TILE - inner) // 2
    tile = Image.new("RGB", (_FINE * _TILE, _FINE * _TILE), (217, 217, 217))
    tile.paste(_enlarged(image, inner), (border, border))
    draw = ImageDraw.Draw(tile)
    height, width = image.shape[-2:]
    scale = inner / max(height, width)
    corner = border + (inner - scale * np.array([width, height])) / 2
    for outline, colour in zip(outlines, cycle(OUTLINES), strict=False):
        points = [tuple(point) for point in (outline.astype(float) + 0.5) * scale + corner]
        draw.line([*points, points[0]], colour, width=2 * _FINE, joint="curve")
        draw.circle(points[0], 3 * _FINE, colour)
    return tile


def _stacked(sheets: Sequence[Image.Image], title: str) -> Image.Image:
    """Sheets below each other, below their title."""
    size = max(sheet.width for sheet in sheets), _FINE * _TEXT + sum(sheet.height for sheet in sheets)
    stack, top = Image.new("RGB", size, "white"), _FINE * _TEXT
    ImageDraw.Draw(stack).text((_FINE * _GAP // 2, 0), title, "black", _font())
    for sheet in sheets:
        stack.paste(sheet, (0, top))
        top += sheet.height
    return stack


def _file(sheets: Sequence[Image.Image], kind: str, **options: Any) -> bytes:
    """Sheets, brought down to the size in which they are shown, as a file of this kind with a frame for each."""
    file = io.BytesIO()
    first, *others = (
        sheet.resize((sheet.width // _FINE, sheet.height // _FINE), Image.Resampling.LANCZOS) for sheet in sheets
    )
    first.save(file, kind, **({"append_images": others} if others else {}), **options)
    return file.getvalue()


@cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(findfont("DejaVu Sans"), _FINE * 13)


@dataclass(frozen=True)
class Kind:
    """How one kind of picture is drawn.

    `draw` gives the bytes of a file with this `ending`, from a title and the arrays of the kind's file (see Gallery).
    """

    ending: str
    draw: Callable[[str, Arrays], bytes]


@dataclass(frozen=True)
class Drawing:
    """A picture before it is written: its `title`, the file's `name`, in `words` what is to be seen, and the bytes."""

    title: str
    name: str
    words: str
    content: bytes


KINDS: dict[Gallery, Kind] = {
    "examples": Kind("png", examples),
    "means": Kind("png", means),
    "rotation_sweep": Kind("png", rotation_sweep),
    "training": Kind("gif", training),
}
"""By name, in the order in which a report shows them."""


def drawings(trial: TrialSpec, seen: Mapping[Gallery, Arrays]) -> Iterator[Drawing]:
    """The pictures of a trial from what there is to draw them from. "@" stands in no name of a model or a dataset."""
    model, dataset = trial.model.name, trial.dataset.name
    for name, kind in KINDS.items():
        if name in seen:
            title = render("sentences.j2", "picture_title", name, dataset, model, trial.seed)
            words = render("sentences.j2", "picture_words", name, dataset, model)
            yield Drawing(title, f"{name}_{model}@{dataset}.{kind.ending}", words, kind.draw(title, seen[name]))
