"""Documents to read: blocks as Markdown, and as one HTML file that needs no other."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


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


def picture_in(figures: Path, name: str, words: str) -> Picture:
    """The picture of this file name in a report's folder of figures."""
    return Picture(f"{figures.name}/{name}", words)


@dataclass(frozen=True)
class Code:
    """What is typed, or stands in a file."""

    text: str


Block = Heading | Text | Bullets | Table | Picture | Code


def markdown(title: str, blocks: Sequence[Block]) -> str:
    """The document as Markdown; pictures are linked."""
    return f"# {title}\n\n{paragraphs(blocks)}\n"


def paragraphs(blocks: Sequence[Block]) -> str:
    """Blocks as Markdown, to stand in a document."""
    return "\n\n".join(map(_markdown, blocks))


def html(title: str, blocks: Sequence[Block], folder: Path) -> str:
    """The document as HTML that opens from disk and reads well on a phone, on paper and in the dark.

    folder: where the pictures' paths begin; they are put into the document.
    """
    kinds = [(type(block).__name__, block) for block in blocks]
    return _template().render(title=title, blocks=kinds, embedded=lambda path: _embedded(folder / path))


def _markdown(block: Block) -> str:
    match block:
        case Heading(text):
            return f"## {text}"
        case Text(text):
            return text
        case Bullets(sentences, strong):
            return "\n".join(f"- **{sentence}**" if strong else f"- {sentence}" for sentence in sentences)
        case Table(lines, names):
            rule = ["---" if index < names else "---:" for index in range(len(lines[0]))]
            return "\n".join(f"| {' | '.join(map(str.strip, line))} |" for line in [lines[0], rule, *lines[1:]])
        case Picture(path, words):
            return f"![{words}]({path})\n\n{block.sentence}"
        case Code(text):
            return f"```\n{text.rstrip()}\n```"


@cache
def _template() -> Template:
    loader = PackageLoader("stn_train", "report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.j2")


def _embedded(path: Path) -> str:
    """A PNG or GIF file as a URL that holds it."""
    return f"data:image/{path.suffix[1:]};base64,{base64.b64encode(path.read_bytes()).decode()}"
