"""Shipped configurations made wrong by one known change each: exit code 2, and a sentence that names the place."""

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from fuzzing import Distortion, fuzz
from hypothesis import strategies as st

from stn_train.colocalisation.spec import ColocalisationSpec
from stn_train.config import LARGEST, dump, load_any, shipped
from stn_train.yaml_nodes import DEEPEST, Dumper

Way = tuple[str | int, ...]

COMMANDS = {
    "run": [("run", "--dry-run", "--config"), ("data", "preview", "--config"), ("config", "show")],
    "colocalise": [("colocalise", "--config"), ("config", "show")],
}
PLAIN = {
    command: [
        yaml.safe_load(dump(load_any(name)))
        for name in shipped()
        if isinstance(load_any(name), ColocalisationSpec) == (command == "colocalise")
    ]
    for command in COMMANDS
}
"""The shipped configurations by the command that runs them, every key written out."""
PLAIN["colocalise"].append(
    PLAIN["colocalise"][0] | {"datasets": [{"name": "t", "canvas": 56, "translation": 1}], "classes": [3, 8]}
)


class Wrong(NamedTuple):
    """What is written into the file, and a pattern of how the sentence begins, behind the file's name."""

    content: bytes
    told: str


def written(tree: Any) -> bytes:
    return yaml.dump(tree, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100).encode()


def ways(value: Any, wanted: type | tuple[type, ...], way: Way = ()) -> Iterator[Way]:
    """The ways to all values of a type below a value; True is no number here."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, part in below:
        if isinstance(part, wanted) and isinstance(part, bool) <= (wanted is bool or wanted is object):
            yield (*way, step)
        yield from ways(part, wanted, (*way, step))


def changed(tree: Any, way: Way, change: Callable[[Any, Any], None]) -> Wrong:
    """`change` is given the container at the end of a way, and the last step; its nearest key has to be told."""
    tree = copy.deepcopy(tree)
    container = tree
    for step in way[:-1]:
        container = container[step]
    change(container, way[-1])
    key = next(step for step in reversed(way) if isinstance(step, str))
    return Wrong(written(tree), rf":\d+: ([\w.]+\.)?{key}\b")


def put(tree: Any, way: Way, value: Any) -> Wrong:
    return changed(tree, way, lambda container, step: container.__setitem__(step, value))


# --- what is wrong with the values ------------------------------------------------------------------------------


def a_missing_key(draw: Distortion, tree: Any) -> Wrong:
    wanted = [
        way
        for way in ways(tree, object)
        if way in (("datasets",), ("models",), ("classes",), ("encoder",), ("localiser",))
        or (way[0] in ("encoder", "localiser") and len(way) == 2)
        or (way[0] in ("datasets", "models") and len(way) == 3 and way[2] in ("name", "classifier"))
        or way[-1] == "std"
    ]
    return changed(tree, draw(st.sampled_from(wanted)), lambda container, key: container.pop(key))


def a_misspelt_key(draw: Distortion, tree: Any) -> Wrong:
    way = draw(st.sampled_from([way for way in ways(tree, object) if isinstance(way[-1], str)]))
    key, at = str(way[-1]), draw(st.integers(0, 30))
    letter = draw(st.sampled_from("qxz_7"))
    wrong = key[: at % (len(key) + 1)] + letter + key[at % (len(key) + 1) :]

    def misspell(container: dict[str, Any], key: str) -> None:
        pairs = [(wrong if each == key else each, value) for each, value in container.items()]
        container.clear()
        container.update(pairs)

    return Wrong(changed(tree, way, misspell).content, rf":\d+: .*there is no key '{wrong}' here")


TYPES: dict[type, list[Any]] = {
    bool: ["certainly", 7, 0.5, [True], {"a": True}, None],
    int: ["many", "3", True, [[1]], {"a": 1}],
    float: ["many", "0.5", False, [[0.5]], {"a": 0.5}],
    str: [12345, 0.5, True, {"zz": 1}, [], ["word"]],
    list: ["word", {"zz": 1}, True, None],
    dict: ["word", 12345, True, ["word"]],
}


def another_type(draw: Distortion, tree: Any) -> Wrong:
    way = draw(st.sampled_from([way for way in ways(tree, object) if way != ("prebuilt",)]))
    value = tree
    for step in way:
        value = value[step]
    wrong = draw(st.sampled_from(TYPES[type(value)]))
    optional = ("rotation", "scale", "shear", "translation")
    if wrong is None and way[-1] in optional:
        wrong = "word"
    return put(tree, way, wrong)


def out_of_range(draw: Distortion, tree: Any) -> Wrong:
    way = draw(st.sampled_from(list(ways(tree, (int, float)))))
    far = draw(st.one_of(st.integers(10**10, 10**40), st.integers(-(10**40), -(10**10))))
    return put(tree, way, float(far) if draw(st.booleans()) and _is_float(tree, way) else far)


def _is_float(tree: Any, way: Way) -> bool:
    return way in set(ways(tree, float))


def not_finite(draw: Distortion, tree: Any) -> Wrong:
    way = draw(st.sampled_from(list(ways(tree, (int, float)))))
    return put(tree, way, draw(st.sampled_from([float("nan"), float("inf"), -float("inf")])))


def an_unknown_word(draw: Distortion, tree: Any) -> Wrong:
    keys = ("task", "source", "recipe", "optimizer", "schedule", "precision", "family", "localisation", "pose")
    way = draw(st.sampled_from([way for way in ways(tree, str) if way[-1] in (*keys, "classifier")]))
    return put(tree, way, draw(st.text("abcdefgh -_.", max_size=30)) + "zz")


def a_bad_name(draw: Distortion, tree: Any) -> Wrong:
    way = draw(st.sampled_from([way for way in ways(tree, str) if way[-1] == "name"]))
    inside = st.text("abc/\\ :*é$;'\"\t\n\0", min_size=1, max_size=60)
    known = ["", ".", "..", "../up", "/etc", "~", "-rf", ".hidden", "a b", "CON", "nul.txt", "Com1", "a.", "x" * 65]
    name = draw(st.one_of(st.sampled_from(known), inside.map(lambda text: f"a/{text}"), st.integers(65, 9999)))
    return Wrong(put(tree, way, "x" * name if isinstance(name, int) else name).content, r":\d+: ")


def the_same_twice(draw: Distortion, tree: Any) -> Wrong:
    lists = [key for key in ("datasets", "models", "seeds", "classes") if key in tree]
    key = draw(st.sampled_from(lists))
    entry = draw(st.sampled_from(tree[key]))
    at = draw(st.integers(0, len(tree[key])))
    return put(tree, (key,), [*tree[key][:at], entry, *tree[key][at:]])


def too_much(draw: Distortion, tree: Any) -> Wrong:
    way = draw(st.sampled_from([way for way in ways(tree, object) if not isinstance(way[-1], int)]))
    count = draw(st.integers(5_000, 30_000))
    return Wrong(put(tree, way, draw(st.sampled_from(["x" * count, [0] * count, 10**4000]))).content, r":\d+: ")


def too_deep(draw: Distortion, tree: Any) -> Wrong:
    deep: Any = 1
    for _ in range(DEEPEST + draw(st.integers(0, 200))):
        deep = [deep] if draw(st.booleans()) else {"a": deep}
    return Wrong(
        put(tree, draw(st.sampled_from(list(ways(tree, object)))), deep).content, r":\d+: nested more than 20 levels"
    )


# --- what is wrong with the text --------------------------------------------------------------------------------


def _line(draw: Distortion, tree: Any, pattern: str) -> tuple[list[str], int]:
    lines = written(tree).decode().splitlines(keepends=True)
    return lines, draw(st.sampled_from([number for number, line in enumerate(lines) if re.match(pattern, line)]))


def a_tab(draw: Distortion, tree: Any) -> Wrong:
    lines, at = _line(draw, tree, r" +\w+:")
    lines[at] = "\t" * draw(st.integers(1, 3)) + lines[at].lstrip(" ")
    return Wrong("".join(lines).encode(), r":\d+: ")


def a_key_twice(draw: Distortion, tree: Any) -> Wrong:
    lines, at = _line(draw, tree, r" *\w+: [^\[]")
    lines.insert(at + 1, lines[at])
    key = lines[at].split(":")[0].strip()
    return Wrong("".join(lines).encode(), rf":{at + 2}: ([\w.]+\.)?{key}: duplicate key")


def broken_grammar(draw: Distortion, tree: Any) -> Wrong:
    lines, at = _line(draw, tree, r"[ -]*\w+: \S")
    key, value = lines[at].split(": ", 1)
    lines[at] = (
        f"{key}: {draw(st.sampled_from(['[', '{', chr(34), '*', '&', '!', '@', '`', '%', '}', ']', ': ']))}{value}"
    )
    return Wrong("".join(lines).encode(), r":\d+: ")


def an_explosion_of_aliases(draw: Distortion, tree: Any) -> Wrong:
    laughs = "a: &a [x]\n" + "".join(
        f"{chr(98 + level)}: &{chr(98 + level)} [{', '.join([f'*{chr(97 + level)}'] * draw(st.integers(2, 9)))}]\n"
        for level in range(draw(st.integers(1, 20)))
    )
    return Wrong(laughs.encode() + written(tree), ":1: anchors and aliases are not supported")


def a_second_document(draw: Distortion, tree: Any) -> Wrong:
    first = written(tree)
    line = first.count(b"\n") + 1
    return Wrong(first + b"---\n" + written(draw(st.sampled_from([tree, {}, [1], "word", None]))), rf":{line}: ")


# --- what is wrong with the bytes -------------------------------------------------------------------------------


def nothing_in_it(draw: Distortion, tree: Any) -> Wrong:
    comments = draw(st.lists(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"])), max_size=20))
    text = "".join(f"{' ' * (number % 3)}# {comment}\n" for number, comment in enumerate(comments))
    return Wrong(draw(st.sampled_from([b"", b"\n\n", b"   ", b"\xef\xbb\xbf"])) + text.encode(), ": this file is empty")


def binary(draw: Distortion, tree: Any) -> Wrong:
    content = written(tree)
    at = draw(st.integers(0, len(content)))
    wrong = draw(st.one_of(st.sampled_from([b"\xff", b"\x80", b"\xc0\xaf", b"\0", b"\x1b", b"\x07"]), st.binary()))
    noise = wrong + draw(st.sampled_from([b"\0", b"\xff"]))
    return Wrong(content[:at] + noise + content[at:], r":\d+: ")


def another_encoding(draw: Distortion, tree: Any) -> Wrong:
    encoding = draw(st.sampled_from(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]))
    text = f"# {draw(st.text('ä€漢 a'))}\n" + written(tree).decode()
    return Wrong(text.encode(encoding), r":1: ")


def a_huge_file(draw: Distortion, tree: Any) -> Wrong:
    line = draw(st.sampled_from([b"#\n", b"# " + b"x" * 1000 + b"\n", b" " * 5000 + b"\n"]))
    return Wrong(written(tree) + line * (LARGEST // len(line) + draw(st.integers(1, 9))), ": larger than 1 MB")


KINDS = [
    *(a_missing_key, a_misspelt_key, another_type, out_of_range, not_finite, an_unknown_word, a_bad_name),
    *(the_same_twice, too_much, too_deep, a_tab, a_key_twice, broken_grammar, an_explosion_of_aliases),
    *(a_second_document, nothing_in_it, binary, another_encoding, a_huge_file),
]


@pytest.mark.parametrize(("command", "short", "full"), [("run", 2, 85), ("colocalise", 1, 40)])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_ends_with_exit_code_2_and_a_sentence_that_names_the_place(stn, trials, kind, command, short, full):
    file = Path("wrong.yaml")

    def make(draw: Distortion) -> tuple[Wrong, tuple[str, ...]]:
        return kind(draw, draw(st.sampled_from(PLAIN[command]))), draw(st.sampled_from(COMMANDS[command]))

    def check(made: tuple[Wrong, tuple[str, ...]]) -> None:
        wrong, arguments = made
        file.write_bytes(wrong.content)
        sentence, *_ = stn(*arguments, str(file)).sentences  # others may follow from it
        assert re.match(re.escape(str(file)) + wrong.told, sentence), sentence
        assert len(sentence) < 600
        assert {path.name for path in Path().iterdir()} == {"small.yaml", str(file)}

    tried = fuzz(trials(short, full), make, check)
    print(f"{kind.__name__}, {command}: {tried} inputs")
    assert tried >= trials(short, 20)
