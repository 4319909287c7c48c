"""Datasets: where images come from, how they are distorted, and sources and distortions by name."""

import string
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from stn_train.errors import did_you_mean
from stn_train.specs.fields import (
    AS_THE_SOURCE,
    DIGIT,
    LONGEST_NAME,
    Count,
    Degrees,
    Factors,
    Folder,
    Name,
    Share,
    ShearDegrees,
    Size,
    Spec,
    one_line,
)

# --- sources ----------------------------------------------------------------------------------------------------------

LEAST_SIDE, LARGEST_SIDE = 8, 96
"""Height and width of a source's images, in pixels."""
MOST_CLASSES = 1000
FILES = (".npz", ".amat")
"""Endings of files of one's own images; all else is a folder."""

_LOWER, _UPPER = string.ascii_lowercase, string.ascii_uppercase
_UNLIKE_UPPER = "abdefghnqrt"
"""The small letters that are classes of their own in EMNIST's merged splits."""
_MERGED = {"classes": tuple(string.digits + _UPPER + _UNLIKE_UPPER)}
_DIGITS = {"classes": tuple(string.digits)}
_CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_KANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")

SOURCES: dict[str, dict[str, Any]] = {
    "mnist": {"counts": (60_000, 10_000), **_DIGITS},
    "fashion_mnist": {"counts": (60_000, 10_000), "classes": _CLOTHES},
    "kmnist": {"counts": (60_000, 10_000), "classes": _KANA},
    "qmnist": {"counts": (60_000, 60_000), **_DIGITS},
    "mnist_rot": {"counts": (12_000, 50_000), **_DIGITS},
    "mnist_rot_centred": {"counts": (12_000, 50_000), **_DIGITS},
    "emnist_balanced": {"counts": (112_800, 18_800), **_MERGED},
    "emnist_byclass": {"counts": (697_932, 116_323), "classes": tuple(string.digits + _UPPER + _LOWER)},
    "emnist_bymerge": {"counts": (697_932, 116_323), **_MERGED},
    "emnist_letters": {"counts": (124_800, 20_800), "classes": tuple(_LOWER)},
    "emnist_digits": {"counts": (240_000, 40_000), **_DIGITS},
    "emnist_mnist": {"counts": (60_000, 10_000), **_DIGITS},
    "svhn": {"counts": (73_257, 26_032), "size": (32, 32), "channels": 3, **_DIGITS},
    "digits": {"counts": (1_352, 445), **_DIGITS},
}
"""The sources by name, each with its size, channels, classes and numbers of training and test images."""

_Side = Annotated[int, Field(ge=LEAST_SIDE, le=LARGEST_SIDE)]
_ClassName = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(one_line)]


class SourceSpec(Spec):
    """Where images come from: one of SOURCES by name, or a file or folder of one's own by its `path`.

    Written as text wherever no more is meant. Of images of one's own, all but `path` and `split_seed` is what was found
    when they were read; until then there are no `classes`. Two are equal where their images are, wherever these lie.
    """

    presets = SOURCES

    name: str = Field("", max_length=64, description="one of the sources that are known by name")
    path: Folder | None = Field(None, description="a file or a folder of your own images")
    split_seed: int = Field(
        0, ge=0, le=2**31 - 1, description="where no test images are given: decides which fifth of each class they are"
    )
    size: Annotated[tuple[_Side, _Side], Field(strict=False)] = Field(
        (DIGIT, DIGIT), description="height and width in pixels; found when the images are read"
    )
    channels: int = Field(1, ge=1, le=3, description="1: grey, 3: colour; found when the images are read")
    classes: Annotated[tuple[_ClassName, ...], Field(strict=False, max_length=MOST_CLASSES)] = Field(
        (), description="the classes' names, in their order; found when the images are read"
    )
    counts: Annotated[tuple[Count, Count], Field(strict=False)] = Field(
        (0, 0), description="how many training and test images there are; found when the images are read"
    )
    checksum: str = Field("", max_length=64, description="of the images and labels; found when they are read")

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and (value.get("path") is None) != (str(value.get("name")) in SOURCES):
            raise ValueError(f"give the path of your own images, or one name: {', '.join(SOURCES)}")
        if isinstance(value, Mapping) and value.get("classes") and value.get("path") and not value.get("checksum"):
            raise ValueError("classes are found when the images are read; leave them out")
        if isinstance(value, Mapping) and value.get("name") in SOURCES and not value.get("classes"):
            if len(value) > 1:
                raise ValueError(f"{value['name']} has no keys of its own; write `source: {value['name']}`")
            value = value["name"]
        if not isinstance(value, str) or value in SOURCES:
            return value
        if "/" in value or "\\" in value or value.startswith((".", "~")) or value.endswith(FILES):
            return {"path": value}
        own = f"; a folder of your own is written with a slash, as ./{value}"
        raise ValueError(f"there is no source {value[:64]!r}{did_you_mean(value, SOURCES)}{own}")

    @model_serializer(mode="wrap")
    def _as_text(self, write: SerializerFunctionWrapHandler) -> Any:
        """As it was written, where that was a name."""
        return self.name if self.path is None else write(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SourceSpec):
            return False
        apart = () if self.classes else ("path", "split_seed")
        keys = ("name", "size", "channels", "classes", "counts", "checksum", *apart)
        return all(getattr(self, key) == getattr(other, key) for key in keys)

    def __hash__(self) -> int:
        return hash((self.name, self.checksum))

    @property
    def is_rotated_mnist(self) -> bool:
        """Whether it is rotated MNIST, made anew of MNIST's files."""
        return self.name in ("mnist_rot", "mnist_rot_centred")

    @property
    def label(self) -> str:
        """What reports call it: its name, or the last part of its path."""
        if self.is_rotated_mnist:
            return f"{self.name} regenerated, random split"
        return self.name if self.path is None else PurePath(self.path).stem or self.path


# --- distortions ------------------------------------------------------------------------------------------------------


class ClutterSpec(Spec):
    """Patches cut from other images of the same split and placed at random (paper, appendix A, TC)."""

    patches: int = Field(6, ge=1, le=64, description="number of patches")
    size: int = Field(6, ge=1, le=LARGEST_SIDE, description="height and width of a patch, in pixels")
    blend: Literal["max", "add"] = Field(
        "max",
        description="where ink meets ink: max, the brighter pixel stays; add, both are added and cut off at white",
    )
    avoid_digit: bool = Field(False, description="keep the patches off the box of the image's ink, where there is room")


class PerspectiveSpec(Spec):
    """Each corner of the canvas moved by a normal; the image follows projectively (paper, appendix A, P)."""

    std: float = Field(ge=0, le=LARGEST_SIDE, description="standard deviation along each axis, in pixels")
    direction: Literal["any", "diagonal", "outward"] = Field(
        "any",
        description="any: a normal along each axis; diagonal: one along the corner's diagonal, to or from the middle; "
        "outward: along each axis, and only away from the middle",
    )


class ElasticSpec(Spec):
    """Control points of a thin plate spline on the canvas, each moved by a normal (paper, appendix A, E)."""

    std: float = Field(ge=0, le=LARGEST_SIDE, description="standard deviation along each axis, in pixels")
    control_points: int = Field(4, ge=2, le=8, description="control points along each side of the canvas")


_PLACED = {"translation": 1, "placement": "frame", "whole_pixels": True}

DATASETS: dict[str, dict[str, Any]] = {
    "plain": {},
    "affnist": {
        "canvas": 1.43,
        "rotation": 20,
        "shear": 11.31,
        "scale": [0.8, 1.2],
        "independent_scales": True,
        "translation": 1,
    },
    "affnist_train": {"canvas": 1.43, **_PLACED},
    "rotation": {"rotation": 45},
    "translation": {"canvas": 1.5, "translation": 1},
    "scale": {"canvas": 1.5, "scale": [0.5, 1.5]},
    "shear": {"canvas": 1.5, "shear": 45},
    "r": {"rotation": 90},
    "r_centred": {"rotation": 90, "translation": 0},
    "rts": {"canvas": 1.5, "rotation": 45, "scale": [0.7, 1.2], **_PLACED},
    "rts_wide": {"canvas": 1.5, "rotation": 45, "scale": [0.7, 1.2], "translation": 1},
    "p_literal": {"scale": [0.75, 1.0], "perspective": {"std": 5}},
    "p_outward": {"scale": [0.75, 1.0], "perspective": {"std": 5, "direction": "outward"}},
    "p": {"scale": [0.75, 1.0], "perspective": {"std": 5, "direction": "diagonal"}},
    "e": {"scale": [0.75, 1.0], "elastic": {"std": 1.5}},
    "tc": {"canvas": 2.15, **_PLACED, "clutter": {"patches": 6, "size": 6, "blend": "add"}},
    "tc_wide": {"canvas": 2.15, "translation": 1, "clutter": {"patches": 6, "size": 6}},
    "addition": {"canvas": 1.5, "rotation": 45, "scale": [0.7, 1.2], **_PLACED, "addition": True},
    "addition_wide": {"canvas": 1.5, "rotation": 45, "scale": [0.7, 1.2], "translation": 1, "addition": True},
}
"""The distortions by name; r, rts, p, e, tc and addition are the paper's (appendix A). r_centred brings the box of the
ink to the middle, so that a digit's place does not tell its angle. What is `wide` places digits by their ink, up to the
canvas's edge and at fractions of a pixel; p_literal and p_outward are other readings of p: see docs/protocol.md.
affnist has the law of affNIST (Tieleman, 2013), and affnist_train what networks are trained on to be tested on it
(Sabour et al., arXiv:1710.09829): whole digits, moved on 40 x 40 pixels."""


class DatasetSpec(Spec):
    """A distortion of images: forwards, an image is sheared, scaled, rotated, placed on the canvas, and bent.

    Each quantity is drawn uniformly and independently for every image; one that is absent is not applied.
    """

    presets = DATASETS

    name: Name = Field(description="what tables and folders call it")
    canvas: Size = Field(
        AS_THE_SOURCE,
        description="height and width of what a network reads, in pixels; a number below 8 is a factor of the source's "
        "own size",
    )
    rotation: Degrees | None = Field(None, description="angle in degrees, clockwise as seen")
    scale: Factors | None = Field(None, description="factor of height and width")
    independent_scales: bool = Field(False, description="draw the factors of height and width each by itself")
    shear: ShearDegrees | None = Field(None, description="angle of the horizontal shear in degrees")
    translation: Share | None = Field(
        None,
        description="share of the room that the image has on the canvas: -1 touches left or top, 1 right or bottom",
    )
    placement: Literal["ink", "frame"] = Field(
        "ink", description="what stays on the canvas: every inked pixel, or the whole scaled frame"
    )
    whole_pixels: bool = Field(
        False, description="with placement frame: move by whole pixels, so that nothing is blurred by moving it"
    )
    perspective: PerspectiveSpec | None = Field(None, description="move the corners of the canvas")
    elastic: ElasticSpec | None = Field(None, description="bend the canvas by a thin plate spline")
    clutter: ClutterSpec | None = Field(None, description="add patches of other images")
    addition: bool = Field(
        False, description="two digits, a channel and a distortion each; the label is their sum (paper, appendix A)"
    )

    @property
    def distorts(self) -> bool:
        """Whether anything is done to images, but for laying them on a canvas."""
        kinds = (self.rotation, self.scale, self.shear, self.translation, self.perspective, self.elastic, self.clutter)
        return self.addition or any(kind is not None for kind in kinds)

    @property
    def has_true_pose(self) -> bool:
        """Whether the distortion of an image is a matrix, one of a single digit, that a transformer can be given."""
        return self.elastic is None and not self.addition

    def eased(self, share: float) -> "DatasetSpec":
        """The same distortion, gone only a `share` of the way: 0 is none, 1 is all of it. Clutter stays as it is.

        Angles, shifts and spreads are shortened to this share of theirs, a factor is raised to its power.
        """

        def shortened(interval: tuple[float, float] | None) -> tuple[float, float] | None:
            return interval and (share * interval[0], share * interval[1])

        changes: dict[str, Any] = {key: shortened(getattr(self, key)) for key in ("rotation", "shear", "translation")}
        changes["scale"] = self.scale and (self.scale[0] ** share, self.scale[1] ** share)
        for key in ("perspective", "elastic"):
            moved = getattr(self, key)
            changes[key] = moved and moved.changed(std=share * moved.std)
        return self.changed(**changes)

    @model_validator(mode="after")
    def _goes_together(self) -> "DatasetSpec":
        if self.whole_pixels and self.placement != "frame":
            raise ValueError(
                "whole_pixels is for placement: frame, whose pixels are counted; leave it out, or add that"
            )
        if self.perspective is not None and self.elastic is not None:
            raise ValueError(
                "perspective and elastic do not go together: no single family undoes both; leave one of them out"
            )
        if self.clutter is not None and self.clutter.size > min(self.canvas):
            raise ValueError(f"patches of {self.clutter.size} pixels do not fit on this canvas; make one of them fit")
        return self
