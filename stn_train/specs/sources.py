"""Sources: where images come from, by name or by path, and what is known of them."""

import string
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from stn_train.errors import did_you_mean
from stn_train.specs.fields import DIGIT, Count, Folder, Spec

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
_ClassName = Annotated[str, Field(min_length=1, max_length=64)]


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
        if not isinstance(value, str) or value in SOURCES:
            return value
        if "/" in value or "\\" in value or value.startswith((".", "~")) or value.endswith(FILES):
            return {"path": value}
        own = f"; a folder of your own is written with a slash, as ./{value}"
        raise ValueError(f"there is no source {value[:64]!r}{did_you_mean(value, SOURCES)}{own}")

    @model_validator(mode="after")
    def _either(self) -> "SourceSpec":
        if (self.path is None) != (self.name in SOURCES):
            raise ValueError(f"give the path of your own images, or one name: {', '.join(SOURCES)}")
        return self

    @model_serializer(mode="wrap")
    def _as_text(self, write: SerializerFunctionWrapHandler) -> Any:
        """As it was written, where that was a name."""
        return self.name if self.path is None else write(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SourceSpec) and self._content == other._content

    def __hash__(self) -> int:
        return hash(self._content)

    @property
    def _content(self) -> tuple[Any, ...]:
        """What makes it the same source: of images that have been read, these, and not their place."""
        place = self.name if self.path is None or self.classes else self.path
        return place, self.size, self.channels, self.classes, self.counts, self.checksum

    @property
    def label(self) -> str:
        """What reports call it: its name, or the last part of its path."""
        return self.name if self.path is None else PurePath(self.path).stem or self.path
