"""YAML text to plain values that remember where they were written. Torch-free, and knows nothing of experiments."""

import re
from dataclasses import dataclass
from typing import Any

import yaml

from stn_train.errors import UserError
from stn_train.specs.fields import CONTROL

Loc = tuple[str | int, ...]
"""The way to a value: keys of mappings and numbers of entries, from the top."""

TAG = "tag:yaml.org,2002:"
EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
"""A number in YAML 1.2, and to everyone who writes it; text in PyYAML's 1.1."""
_MISLEADING = re.compile(r"[-+]?0[0-9_]+$|[-+0-9_.]+:")
"""Numbers that are not what they look like in YAML 1.1: 010 is 8 and 1:30 is 90 there."""
_HALF = re.compile("[\ud800-\udfff]")
_LONGEST = 64
"""Bits of a whole number."""
_QUOTES = "; in double quotes a backslash begins an escape: write it in single quotes, as in 'C:\\data'"


@dataclass
class YamlValues:
    """Plain values, and the name of the place of each (its key's) in a sentence, in the order of writing."""

    value: Any
    places: dict[Loc, str]

    def nearest(self, loc: Loc) -> Loc:
        """The way to the innermost value on the way to `loc` that was written."""
        while loc not in self.places:
            loc = loc[:-1]
        return loc


def read(text: str, origin: str, lines: bool = True) -> YamlValues:
    """The values of a YAML text; an empty one has no places.

    `origin` is what a sentence calls the text, and with `lines` the number of the line is added. Raises UserError where
    the text is not YAML, or uses what a configuration has no use for.
    """
    marks: dict[Loc, yaml.Mark] = {}
    line = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise _mistake(event, "anchors and aliases are not supported; write the value out")
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        value = _plain(loader, node, (), node.start_mark, marks) if node else None
        return YamlValues(value, {loc: f"{origin}:{at.line + 1}" if lines else origin for loc, at in marks.items()})
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        why = _problem(error)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        why = f"not a text file in UTF-8: it holds the character {error.character:#04x}; save it as UTF-8"
    except (RecursionError, ValueError, OverflowError, LookupError) as error:  # brackets without end, an empty !!int
        why = f"this cannot be read: {error}"
    raise UserError(f"{origin}:{line}: {why}" if lines and line else f"{origin}: {why}")


def _plain(loader: yaml.SafeLoader, node: yaml.Node, loc: Loc, mark: yaml.Mark, marks: dict[Loc, yaml.Mark]) -> Any:
    """The node's value; notes in `marks` where it and all below it stand."""
    marks[loc] = mark
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key, below in node.value:
            if not isinstance(key, yaml.ScalarNode) or not key.value.isprintable():
                raise _mistake(key, "a key must be a plain word")
            if key.value in mapping:
                raise _mistake(key, f"{dotted((*loc, key.value))}: duplicate key")
            mapping[key.value] = _plain(loader, below, (*loc, key.value), key.start_mark, marks)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        entries = enumerate(node.value)
        return [_plain(loader, below, (*loc, index), below.start_mark, marks) for index, below in entries]
    assert isinstance(node, yaml.ScalarNode)
    text = node.tag.removeprefix(TAG) in ("str", "timestamp", "merge", "value")
    if CONTROL.search(node.value):
        why = "holds a line break or a control character" + (_QUOTES if node.style == '"' else "")
    elif _HALF.search(node.value):
        why = "holds half a character; write it as a whole"
    elif not text and _MISLEADING.match(node.value):
        why = "is a number that is not what it looks like; write it without a leading 0 or a colon, or in quotes"
    else:
        if text and node.style is None and EXPONENT.match(node.value):
            return float(node.value)
        value = node.value if text else loader.construct_object(node)
        if not isinstance(value, int) or value.bit_length() <= _LONGEST:
            return value
        why = "is too large a number"
    raise _mistake(node, f"{dotted(loc)}{': ' if loc else ''}{short(node.value)} {why}")


def _mistake(where: Any, why: str) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, why, where.start_mark)


def _problem(error: yaml.MarkedYAMLError) -> str:
    """PyYAML's complaint, or ours, as a sentence without its place."""
    problem = error.problem or ""
    if isinstance(error, yaml.constructor.ConstructorError):
        return problem
    begin, end = error.context_mark, error.problem_mark
    since = f" that begins on line {begin.line + 1}" if begin and end and begin.line < end.line else ""
    context = f"{error.context}{since}, " if error.context else ""
    hint = "; indent with spaces" if "'\\t'" in problem else _QUOTES if "escape" in problem else ""
    return f"this is not YAML: {context}{problem}{hint}"


def override(source: YamlValues, text: str, called: str | None = None) -> None:
    """Set one value of `source` as `text`, KEY=VALUE with a dotted key, says.

    `called` is what a sentence calls it; `--set KEY=VALUE` if not given. Mappings on the way that are absent are made.
    Raises UserError where `text` cannot be followed.
    """
    words = called or f"--set {' '.join(text.split())}"
    key, equals, value = text.partition("=")
    steps = key.strip().split(".")
    if not equals or not all(steps) or not key.isprintable():
        raise UserError(f"{words}: expected KEY=VALUE, for instance --set training.epochs=5")
    new = read(value, words, lines=False)
    if not new.places:
        raise UserError(f"{words}: expected a value after the '='; null is none")

    loc: Loc = ()
    container = source.value
    for number, step in enumerate(steps, start=1):
        at: str | int = step
        if isinstance(container, list) and step in map(str, range(len(container))):
            at = int(step)
        elif not isinstance(container, dict):
            here = f"{words}: {dotted(loc)} is {show(container)}, which has no"
            if isinstance(container, list):
                raise UserError(f"{here} entry {show(step)}; entries are counted from 0")
            raise UserError(f"{here} keys; set {dotted(loc)} as a whole")
        loc = (*loc, at)
        if number == len(steps):
            container[at] = new.value
        elif isinstance(container, dict) and container.get(step) is None:
            container[step] = {}
            source.places[loc] = words
        container = container[at]
    kept = {old: where for old, where in source.places.items() if old[: len(loc)] != loc}
    source.places = {**kept, **{(*loc, *below): where for below, where in new.places.items()}}


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


def short(text: str) -> str:
    """A text cut to 40 characters."""
    return text if len(text) <= 40 else f"{text[:37]}..."
