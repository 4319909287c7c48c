"""Documents to read: blocks as Markdown, and as one HTML file that needs no other."""

import base64
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from stn_train.reporting.blocks import Block, Bullets, Code, Heading, Picture, Table, Text


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
    loader = PackageLoader("stn_train", "reporting")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.j2")


def _embedded(path: Path) -> str:
    """A PNG or GIF file as a URL that holds it."""
    return f"data:image/{path.suffix[1:]};base64,{base64.b64encode(path.read_bytes()).decode()}"
