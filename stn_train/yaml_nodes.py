"""YAML text to plain values that remember where they were written. Torch-free, and knows nothing of experiments."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from stn_train.errors import UserError

Loc = tuple[str | int, ...]
"""The way to a value: keys of mappings and numbers of entries, from the top."""

DEEPEST = 20
"""Levels of nesting that are read."""

MOST_VALUES = 20_000
"""Keys and values that are read; the largest experiment has half as many."""

_LONGEST_NUMBER = 100
_TAG = "tag:yaml.org,2002:"
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\xa0\u2028\u2029\ud800-\udfff]")
_QUOTES = "; in double quotes a backslash begins an escape: write it in single quotes, as in 'C:\\data'"
_OTHERWISE = re.compile(r"[-+]?0[0-9_]+$|[-+0-9_.]+:")
"""Numbers that are not what they look like in YAML 1.1: 010 is 8 and 1:30 is 90 there."""
_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")


class Place(NamedTuple):
    """Where something was written: its turn among all that was written, and its name in a sentence."""

    turn: tuple[int, int]
    name: str


@dataclass
class YamlValues:
    """Plain values and the place of each; a key's place stands for its value."""

    value: Any
    places: dict[Loc, Place]

    def nearest(self, loc: Loc) -> Loc:
        """The way to the innermost value on the way to `loc` that was written."""
        while loc not in self.places:
            loc = loc[:-1]
        return loc

    def at(self, loc: Loc) -> Any:
        """The value at the end of a way."""
        value = self.value
        for step in loc:
            value = value[step]
        return value


class Dumper(yaml.SafeDumper):
    """Writes what `read` understands: no aliases, and lists of plain values on one line."""

    def ignore_aliases(self, data: Any) -> bool:
        """Equal values are written out each time."""
        return True


def _list_node(dumper: Dumper, values: list[Any]) -> yaml.Node:
    flat = not any(isinstance(value, dict | list) for value in values)
    return dumper.represent_sequence(f"{_TAG}seq", values, flow_style=flat)


class _Reader(yaml.SafeLoader):
    """Refuses what a configuration has no use for: anchors, tags, deep nesting, keys that stand twice."""

    def __init__(self, text: str, name: Callable[[int], str], turn: int) -> None:
        super().__init__(text)
        self.name_of_line, self.turn = name, turn
        self.places: dict[Loc, Place] = {}
        self.depth = self.values = 0

    def place(self, mark: yaml.Mark) -> Place:
        return Place((self.turn, mark.index), self.name_of_line(mark.line + 1))

    def refuse(self, mark: yaml.Mark, why: str) -> UserError:
        return UserError(f"{self.place(mark).name}: {why}")

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise self.refuse(event.start_mark, "anchors and aliases are not supported; write the value out")
        if event.tag is not None:
            raise self.refuse(event.start_mark, "tags such as !!str are not supported; leave it out")
        if _UNPRINTABLE.search(getattr(event, "value", "")):
            quotes = _QUOTES if getattr(event, "style", None) == '"' else ""
            raise self.refuse(
                event.start_mark, f"{show(event.value)} holds a line break or a control character{quotes}"
            )
        if self.depth == DEEPEST:
            raise self.refuse(event.start_mark, f"nested more than {DEEPEST} levels deep")
        if self.values == MOST_VALUES:
            raise self.refuse(event.start_mark, f"more than {MOST_VALUES:,} keys and values, which nothing here needs")
        self.values += 1
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def plain(self, node: yaml.Node, loc: Loc, place: Place) -> Any:
        """The node's value; notes its place, and those of all below it."""
        self.places[loc] = place
        if isinstance(node, yaml.MappingNode):
            mapping: dict[str, Any] = {}
            for key, below in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise self.refuse(key.start_mark, "a key must be a plain word")
                if key.value in mapping:
                    raise self.refuse(key.start_mark, f"{dotted((*loc, key.value))}: duplicate key")
                mapping[key.value] = self.plain(below, (*loc, key.value), self.place(key.start_mark))
            return mapping
        if isinstance(node, yaml.SequenceNode):
            entries = enumerate(node.value)
            return [self.plain(below, (*loc, index), self.place(below.start_mark)) for index, below in entries]
        kind = node.tag.removeprefix(_TAG)
        if kind not in ("null", "bool", "int", "float"):
            return node.value
        where = f"{dotted(loc)}: " if loc else ""
        if _OTHERWISE.match(node.value):
            raise self.refuse(
                node.start_mark,
                f"{where}{short(node.value)} is a number that is not what it looks like; write it without a leading 0 "
                "or a colon, or in quotes where it is a text",
            )
        try:
            if len(node.value) > _LONGEST_NUMBER:
                raise ValueError
            return self.construct_object(node)
        except ValueError:
            raise self.refuse(node.start_mark, f"{where}{short(node.value)} is not a number") from None


for _class in (_Reader, Dumper):  # 1e-3 is a number in YAML 1.2, and to everyone who writes it; text in PyYAML's 1.1
    _class.add_implicit_resolver(f"{_TAG}float", _EXPONENT, list("-+0123456789"))
Dumper.add_representer(list, _list_node)


def read(text: str, name: Callable[[int], str], turn: int) -> YamlValues:
    """The values of a YAML text; an empty one has no places.

    `name` is what a sentence calls a line, counted from 1; `turn` orders this text among others. Raises UserError
    where the text is not YAML, or uses what a configuration has no use for.
    """
    try:
        reader = _Reader(text, name, turn)
        node = reader.get_single_node()
        value = reader.plain(node, (), reader.place(node.start_mark)) if node else None
        return YamlValues(value, reader.places)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(f"{name(line)}: not a text file: it holds the character {error.character:#04x}") from None
    except yaml.MarkedYAMLError as error:
        raise UserError(_grammar(error, name)) from None
    except (ValueError, OverflowError):  # PyYAML lets the likes of "\\UFFFFFFFF" through to chr
        raise UserError(f"{name(reader.line + 1)}: this is not YAML: a number is too large here") from None


def _grammar(error: yaml.MarkedYAMLError, name: Callable[[int], str]) -> str:
    """PyYAML's complaint as a sentence."""
    mark, begin = error.problem_mark, error.context_mark
    assert mark is not None
    problem = error.problem or ""
    if "'\\t'" in problem:
        return f"{name(mark.line + 1)}: a tab stands here; indent with spaces"
    context = f" {error.context}" if error.context else ""
    if begin and begin.line != mark.line:
        context += f" that begins on line {begin.line + 1}"
    quotes = _QUOTES if "escape" in problem else ""
    return f"{name(mark.line + 1)}: this is not YAML:{context}{context and ','} {problem}{quotes}"


def override(source: YamlValues, text: str, turn: int, called: str | None = None) -> None:
    """Set one value of `source` as `text`, KEY=VALUE with a dotted key, says; `turn` counts these from 1.

    `called` is what a sentence calls it; `--set KEY=VALUE` if not given. Mappings on the way that are absent are made.
    Raises UserError where `text` cannot be followed.
    """
    words = called or f"--set {short(' '.join(text.split()), 60)}"
    place = Place((turn, 0), words)
    key, equals, value = text.partition("=")
    *way, last = key.strip().split(".")
    if not equals or not all((*way, last)) or _UNPRINTABLE.search(key):
        raise UserError(f"{words}: expected KEY=VALUE, for instance --set training.epochs=5")
    new = read(value, lambda _: words, turn)
    if not new.places:
        raise UserError(f"{words}: expected a value after the '='; null is none")

    loc: Loc = ()
    container = source.value
    for step in way:
        loc = (*loc, _step(container, loc, step, words))
        if isinstance(container, dict) and container.get(step) is None:
            container[step] = {}
            source.places[loc] = place
        container = container[loc[-1]]
    loc = (*loc, _step(container, loc, last, words))
    container[loc[-1]] = new.value
    kept = {old: where for old, where in source.places.items() if old[: len(loc)] != loc}
    source.places = {**kept, **{(*loc, *below): where for below, where in new.places.items()}}


def _step(container: Any, loc: Loc, step: str, words: str) -> str | int:
    """`step` as a key of the container at `loc`, or as the number of an entry."""
    if isinstance(container, dict):
        return step
    here = f"{dotted(loc)} is {show(container)}"
    if not isinstance(container, list):
        raise UserError(f"{words}: {here}, which has no keys; set {dotted(loc)} as a whole")
    if step not in map(str, range(len(container))):
        raise UserError(f"{words}: {here}, which has no entry {show(step)}; entries are counted from 0")
    return int(step)


def dotted(loc: Loc) -> str:
    """A way as it is written after --set: `datasets.0.rotation`; a strange key is quoted."""
    return ".".join(short(str(step)) if str(step).replace("_", "").isalnum() else show(step) for step in loc)


def show(value: Any) -> str:
    """A value as a sentence shows it, cut short."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case dict():
            return "a mapping"
        case list():
            return f"a list of {len(value)}"
        case _:
            return short(repr(value))


def short(text: str, most: int = 40) -> str:
    """A text cut to `most` characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."
