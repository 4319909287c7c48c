"""What a document is made of, whatever it is written as."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    """The beginning of a section."""

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """Sentences one below the other; those that matter most are `strong`."""

    sentences: Sequence[str]
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """Lines of cells, the header first. The first `names` columns stand flush left, the others flush right."""

    lines: Sequence[Sequence[str]]
    names: int


@dataclass(frozen=True)
class Picture:
    """A PNG or GIF file, its `path` relative to the document, and in words what is to be seen."""

    path: str
    words: str

    @property
    def sentence(self) -> str:
        """The words as they stand below it."""
        return f"{self.words[:1].upper()}{self.words[1:]}."


@dataclass(frozen=True)
class Code:
    """What is typed, or stands in a file."""

    text: str


Block = Heading | Text | Bullets | Table | Picture | Code
