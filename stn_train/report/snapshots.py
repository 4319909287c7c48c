"""The pictures of a trial's transformers: images in a row, with what transformers make of them below."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from matplotlib.font_manager import findfont, get_font
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from stn_train.report.page import render
from stn_train.report.plots import FURTHER_FONTS, OUTLINES, coloured, shortened
from stn_train.run_folder import Gallery, unnumbered
from stn_train.specs import TrialSpec

Array = NDArray[np.generic]
Arrays = Mapping[str, Array]
Strip = tuple[str, Arrays, Iterable[str | int]]
"""Images in a row: what stands above them, their arrays (see Gallery), and below each a caption, or a class's number.
"""

KINDS: dict[Gallery, str] = {"rotation_sweep": "png", "means": "png", "training": "gif", "examples": "png"}
"""The endings of pictures by their kind, in the order in which a report shows them."""

_TILE, _GAP, _TEXT = 88, 6, 22
"""Pixels: an image's side, the space around it, and a line's height."""
_FINE = 2
"""Everything is drawn so many times larger and brought down, which makes lines smooth."""
_MARGINS = 0.1, 0.35
"""Of an image's side: the grey border, for outlines that leave the image; as wide as they need, within these ends."""
_GREY = "#d9d9d9"
_DOT = 0.05
"""Of an image's side: what a dot on the outline needs."""
_CAPTION, _SHORT = 10, 4
"""Characters of a class's name below an image, and of one that is written before an arrow and another."""
_IN_A_ROW, _ROW, _MOST = 20, 16, 96
"""Classes whose mean images stand in one row; else in rows of so many; and at most so many of them."""
_EXAMPLES = ("best", "typical", "worst mistakes")
"""By their kind (see Gallery), in words."""
_STEPS = 30
"""At most so many steps of an animation; of more epochs, some are left out."""
_FIRST, _EACH, _LAST = 1000, 300, 2500
"""Milliseconds that a step is shown."""


@dataclass(frozen=True)
class Drawing:
    """A picture before it is written: its `title`, the file's `name`, in `words` what is to be seen, and the bytes."""

    kind: str
    dataset: str
    title: str
    name: str
    words: str
    content: bytes


def drawings(trial: TrialSpec, seen: Mapping[Gallery, Arrays], with_strip: bool = False) -> Iterator[Drawing]:
    """The pictures of a trial from what there is to draw them from. "@" stands in no name of a model or a dataset.

    with_strip: with a few typical examples in a row, where there are any, for the first screen of a report.
    """
    model, dataset = trial.model.name, trial.dataset.name
    kinds: list[tuple[str, str, Arrays]] = [(kind, end, seen[kind]) for kind, end in KINDS.items() if kind in seen]
    if with_strip and "examples" in seen and 1 in seen["examples"]["kind"]:
        shown = seen["examples"]
        kinds.insert(0, ("strip", "png", {name: array[shown["kind"] == 1] for name, array in shown.items()}))
    for kind, ending, arrays in kinds:
        words = render("sentences.j2", "picture_words", kind, dataset, model)
        title, name = "", f"strip@{dataset}.png"
        if kind != "strip":
            title = render("sentences.j2", "picture_title", kind, dataset, model, trial.seed)
            name = f"{kind}_{model}@{dataset}.{ending}"
        yield Drawing(kind, dataset, title, name, words, draw(kind, title, arrays, trial.class_names))


def draw(kind: str, title: str, seen: Arrays, names: Sequence[str]) -> bytes:
    """A picture of one kind, as the bytes of a file: images above, what transformers make of them below.

    On the images lie the outlines of the sampling grids; a dot marks the output's top left corner, so that a rotation
    can be seen. seen: the arrays of the kind's file (see Gallery); a strip's are examples. names: the classes'.
    """
    height, width = seen["image"].shape[-2:]
    outlines = [outline.astype(float) for outline in unnumbered("outline", seen)]
    beyond = [np.max([-0.5 - points, points - (np.array([width, height]) - 0.5)]) for points in outlines]
    margin = float(np.clip(max(beyond, default=0.0) / max(height, width) + _DOT, *_MARGINS))
    if kind == "training":  # a frame for each epoch; 0 is before training
        epochs, frames = seen["epoch"], []
        for frame in np.unique(np.linspace(0, len(epochs) - 1, _STEPS).round().astype(int)):
            fixed = ("image", "label", "epoch")
            step = {name: array if name in fixed else array[frame] for name, array in seen.items()}
            when = f"epoch {epochs[frame]} of {epochs[-1]}" if epochs[frame] else "before training"
            frames.append(_sheet(f"{title}: {when}", [("", step, step["label"])], margin, names))
        durations = [_EACH] * len(frames)
        durations[0], durations[-1] = _FIRST, _LAST
        animation = io.BytesIO()
        frames[0].save(animation, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
        return animation.getvalue()

    strips: list[Strip] = []
    if kind == "examples":
        for number in np.unique(seen["kind"]):
            few = {name: array[seen["kind"] == number] for name, array in seen.items()}
            strips.append((_EXAMPLES[number], few, few["label"]))
    elif kind == "strip":
        strips.append(("", seen, seen["label"]))
    elif kind == "means":  # each as bright as it can be, so that how sharp they are can be compared
        brightest = {name: images.max(axis=(1, 2, 3), keepdims=True) for name, images in seen.items()}
        bright = {name: images * (255 / np.maximum(brightest[name].astype(float), 1)) for name, images in seen.items()}
        classes = len(seen["image"])
        many = classes if classes <= _IN_A_ROW else _ROW
        for start in range(0, min(classes, _MOST), many):
            few = {name: array[start : start + many] for name, array in bright.items()}
            strips.append(("", few, range(start, min(start + many, classes))))
    else:  # a rotation sweep, in two rows
        half, title = -(-len(seen["angle"]) // 2), f"{title}: the angle and the predicted class"
        for part in (slice(None, half), slice(half, None)):
            few = {name: array[part] for name, array in seen.items()}
            strips.append(("", few, [f"{angle}°" for angle in few["angle"]]))
    file = io.BytesIO()
    _sheet(title, strips, margin, names).save(file, "PNG")
    return file.getvalue()


def _sheet(title: str, strips: Sequence[Strip], margin: float, names: Sequence[str]) -> Image.Image:
    """Strips below each other, below their title, in the size in which they are shown.

    A column for each image: itself with the outlines, what each transformer puts out, each in a frame of the colour of
    its outline, and below `caption → predicted class`, in red where it is wrong, in two lines where classes have long
    names; without classes, the caption. The border of images with outlines is a share `margin` of their side.
    """
    step, line, side = _FINE * (_TILE + _GAP), _FINE * _TEXT, _FINE * _TILE
    headings = sum(heading != "" for heading in (title, *(heading for heading, _, _ in strips)))
    rows = 1 + len(unnumbered("output", strips[0][1]))
    columns = max(len(seen["image"]) for _, seen, _ in strips)
    long = max(map(len, names)) > _SHORT
    below = line * (2 if long and "predicted" in strips[0][1] else 1)
    size = columns * step, headings * line + len(strips) * (rows * step + below)
    sheet = Image.new("RGB", size, "white")
    write, font = ImageDraw.Draw(sheet), ImageFont.truetype(_font_for("".join(names)), _FINE * 13)
    write.text((_FINE * _GAP // 2, 0), title, "black", font)
    top = line if title else 0
    for heading, seen, captions in strips:
        if heading:
            write.text((_FINE * _GAP // 2, top), heading, "black", font)
            top += line
        (images,), outputs, outlines = (unnumbered(name, seen) for name in ("image", "output", "outline"))
        for column, caption in enumerate(captions):
            inner = round(side / (1 + 2 * margin)) if outlines else side
            tiles = [_tile(images[column], inner, _GREY, [outline[column] for outline in outlines])]
            for output, colour in zip(outputs, cycle(OUTLINES), strict=False):
                around = colour if len(outputs) > 1 else "black"
                tiles.append(_tile(output[column], side - 2 * _FINE, around))
            for row, tile in enumerate(tiles):
                sheet.paste(tile, (column * step + _FINE * _GAP // 2, top + row * step + _FINE * _GAP // 2))
            text, colour = caption if isinstance(caption, str) else shortened(names[caption], _CAPTION), "black"
            if "predicted" in seen:
                guess = shortened(names[int(seen["predicted"][column])], _CAPTION)
                text = f"{text}\n→ {guess}" if long else f"{text} → {guess}"
                colour = "black" if seen["label"][column] == seen["predicted"][column] else "red"
            write.text((column * step + step // 2, top + rows * step), text, colour, font, anchor="ma", align="center")
        top += rows * step + below
    return sheet.resize((sheet.width // _FINE, sheet.height // _FINE), Image.Resampling.LANCZOS)


def _font_for(text: str) -> str:
    """The file of the first font that has every character of a text, or of matplotlib's own where none has."""
    files = [findfont(font) for font in ("DejaVu Sans", *FURTHER_FONTS)]
    return next((file for file in files if {*map(ord, text)} <= {*get_font(file).get_charmap()}), files[0])


def _tile(image: Array, inner: int, around: str, outlines: Sequence[Array] = ()) -> Image.Image:
    """An image, C x H x W, its pixels as squares, in the middle of a white square of side `inner`, with a border.

    On it lie polygons (V x 2, in its pixels), with a dot at the first point of each. around: the border's colour.
    """
    border = (_FINE * _TILE - inner) // 2
    tile = Image.new("RGB", (_FINE * _TILE, _FINE * _TILE), around)
    enlarged = Image.fromarray(coloured(image))
    tile.paste(ImageOps.pad(enlarged, (inner, inner), Image.Resampling.NEAREST, color="white"), (border, border))
    draw = ImageDraw.Draw(tile)
    height, width = image.shape[-2:]
    scale = inner / max(height, width)
    corner = border + (inner - scale * np.array([width, height])) / 2
    for outline, colour in zip(outlines, cycle(OUTLINES), strict=False):
        points = [tuple(point) for point in (outline.astype(float) + 0.5) * scale + corner]
        draw.line([*points, points[0]], colour, width=2 * _FINE, joint="curve")
        draw.circle(points[0], 3 * _FINE, colour)
    return tile
