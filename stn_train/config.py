"""YAML to specs and back: every mistake becomes one sentence, `FILE:LINE: KEY: what is wrong; how to mend it`.

Torch-free. A configuration is a file, or one of those shipped with the package, found by name.
"""

import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, reduce
from operator import getitem
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, overload

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from stn_train.errors import RENAMED, UserError, did_you_mean
from stn_train.specs import (
    DATASETS,
    DIGIT,
    MODELS,
    PARTS,
    RECIPES,
    SOURCES,
    DatasetSpec,
    ExperimentSpec,
    ModelSpec,
    SourceSpec,
    Spec,
)
from stn_train.yaml_nodes import EXPONENT, TAG, Loc, YamlValues, dotted, override, read, short, show

S = TypeVar("S", bound=Spec)

HOW_TO_LIST = "; `stn-train config list` shows those"
"""The end of a sentence on a shipped configuration that there is not, and no other of a similar name."""


@overload
def load_config(
    config: str,
    overrides: Sequence[str] = ...,
    called: Mapping[str, str] | None = ...,
    *,
    as_read: SourceSpec | None = ...,
) -> ExperimentSpec: ...
@overload
def load_config(
    config: str,
    overrides: Sequence[str] = ...,
    called: Mapping[str, str] | None = ...,
    *,
    kind: type[S],
    as_read: SourceSpec | None = ...,
) -> S: ...
def load_config(
    config: str,
    overrides: Sequence[str] = (),
    called: Mapping[str, str] | None = None,
    *,
    kind: type[Spec] = ExperimentSpec,
    as_read: SourceSpec | None = None,
) -> Spec:
    """What a configuration describes: with a `task` key a ColocalisationSpec, without one an ExperimentSpec.

    `config` is a path, or a shipped configuration's name; a file wins. `overrides` are KEY=VALUE with a dotted key and
    a YAML value, and are laid over it in turn; `called` says what a sentence calls those that were not written as
    `--set KEY=VALUE`. An override that sets another recipe takes it whole, without the file's changes to its own
    recipe. Without a `name` key, it is named after the file. `kind` is what it has to describe; Spec for either.
    `as_read` stands in for its source, where that is the user's own images and these have been read; until then they
    are taken to be as large as MNIST's (see `read_config` in experiment/runtime.py).

    Raises UserError where the file cannot be found or understood, or describes something else.
    """
    path = Path(config)
    if not path.exists() or path.is_dir():
        known = shipped()
        if config not in known:
            name, hint = config or "(nothing)", did_you_mean(re.sub(r"\.ya?ml$", "", config), known, HOW_TO_LIST)
            raise UserError(f"{name} is neither a configuration file nor a shipped configuration{hint}")
        path = known[config]
    source = read(_text(path) if path.is_file() else _text_of_a_pipe(path), str(path))
    if not source.places:
        raise UserError(f"{path}: this file is empty; `stn-train config show rts` prints an example")
    if not isinstance(source.value, dict):
        raise UserError(f"{source.places[()]}: expected `key: value` at the top, not {show(source.value)}")
    recipe = source.value.get("recipe", "default")
    for text in (text for text in overrides if text.partition("=")[0].strip() == "recipe"):
        override(source, text)
    if source.value.get("recipe", "default") != recipe:
        _forget_changes_to_the_recipe(source)
    for text in overrides:
        override(source, text, (called or {}).get(text))
    if as_read is not None:
        source.value["source"] = as_read
    if "name" not in source.value:
        source.value["name"] = path.stem
        source.places["name",] = f"{path} (named after its file, since it has no `name` key)"
    found: type[Spec] = ExperimentSpec
    if "task" in source.value:
        from stn_train.colocalisation.spec import ColocalisationSpec

        found = ColocalisationSpec
    if not issubclass(found, kind):
        tasks = ("a comparison of models", "run"), ("a co-localisation", "colocalise")
        (what, command), (other, _) = tasks if found is ExperimentSpec else tasks[::-1]
        way_out = f"`stn-train {command} --config {shlex.quote(config)}` is for it"
        raise UserError(f"{config} describes {what}, not {other}; {way_out}")
    frame = DIGIT, DIGIT
    with suppress(ValidationError):  # of which the whole's validation tells
        frame = SourceSpec.model_validate(source.value.get("source", "mnist")).size
    try:
        return found.model_validate(source.value, context={"frame": frame})
    except ValidationError as error:
        raise UserError(*_complaints(found, source, error.errors(include_url=False, include_input=False))) from None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape")


_text_of_a_pipe = cache(_text)
"""A pipe gives its text once, and a configuration with images of the user's own is read again when these are known."""


def _forget_changes_to_the_recipe(source: YamlValues) -> None:
    """Drop the file's own changes under `training` and `epoch_multiplier`; keys of no recipe stay."""
    source.value.pop("epoch_multiplier", None)
    training = source.value.get("training")
    for key in RECIPES["default"].keys() & (training if isinstance(training, dict) else {}):
        del training[key]


def shipped() -> dict[str, Path]:
    """The configurations that come with the package, by name, such as `rts` or `paper/table1`."""
    inside, beside = Path(__file__).parent / "configs", Path(__file__).parent.parent / "configs"
    root = inside if inside.is_dir() else beside  # in the wheel, or in a checkout
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"))}


def validated(kind: type[S], value: object, frame: tuple[int, int] = (DIGIT, DIGIT)) -> S:
    """A spec from what an entry of a configuration would say, of images of this size (H, W).

    Raises UserError, a sentence for each mistake.
    """
    try:
        return kind.model_validate(value, context={"frame": frame})
    except ValidationError as error:
        found = _causes(error.errors(include_url=False))
        wrong = (f"{dotted(one['loc'])}: {_wrong(kind, one, one['loc'], one['input'])}" for one in found)
        raise UserError(*(sentence.removeprefix(": ") for sentence in wrong)) from None


def dump(spec: Spec) -> str:
    """The whole of it as YAML, defaults and all: `load_config` reads an equal one from it."""
    return yaml.dump(spec, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def dump_commented(spec: Spec) -> str:
    """The same with a comment on each key, and with the keys that are not set, commented out: to be changed by hand."""
    return "\n".join(_commented(spec, "", set())) + "\n"


def _commented(spec: Spec, indent: str, explained: set[tuple[type[Spec], str]]) -> Iterator[str]:
    """The lines of a spec; a key that is `explained` already gets no other comment."""
    for key, field in type(spec).model_fields.items():
        value = getattr(spec, key)
        if field.description and (type(spec), key) not in explained:
            start = f"{indent}# "
            yield from textwrap.wrap(field.description, 100, initial_indent=start, subsequent_indent=start)
        explained.add((type(spec), key))
        if isinstance(value, Spec) and not isinstance(value, SourceSpec):
            yield f"{indent}{key}:"
            yield from _commented(value, f"{indent}  ", explained)
        elif isinstance(value, tuple) and value and isinstance(value[0], Spec):
            yield f"{indent}{key}:"
            for entry in value:
                yield f"{indent}-"
                yield from _commented(entry, f"{indent}  ", explained)
        elif value is None and field.default is None:
            yield f"{indent}# {key}: (not set)"
        else:
            line = yaml.dump({key: value}, Dumper=_Dumper, allow_unicode=True, width=10**6)
            yield indent + line.rstrip("\n")


class _Dumper(yaml.SafeDumper):
    """Writes specs without the keys that are None of themselves, and tuples of plain values on one line."""

    def represent_data(self, data: Any) -> yaml.Node:
        self.alias_key: int | None = None  # what appears twice is written twice: `read` knows no aliases
        if isinstance(data, tuple):
            flat = not any(isinstance(entry, Spec | tuple) for entry in data)
            return self.represent_sequence(f"{TAG}seq", data, flow_style=flat)
        if isinstance(data, SourceSpec):
            known = data.model_dump(exclude_defaults=True)
            return (
                super().represent_data(known) if isinstance(known, str) else self.represent_mapping(f"{TAG}map", known)
            )
        if isinstance(data, Spec):
            fields = type(data).model_fields
            shown = {key: below for key, below in data if below is not None or fields[key].default is not None}
            return self.represent_mapping(f"{TAG}map", shown)
        return super().represent_data(data)


_Dumper.add_implicit_resolver(f"{TAG}float", EXPONENT, list("-+0123456789"))  # text that looks like it is quoted


def schema() -> dict[str, Any]:
    """The JSON Schema of what a person writes: names of presets, changed presets, part of a recipe."""
    whole = ExperimentSpec.model_json_schema()
    parts = whole["$defs"]
    for key, spec, presets in (("datasets", DatasetSpec, DATASETS), ("models", ModelSpec, MODELS)):
        part = parts[spec.__name__]
        part["properties"]["base"] = {"enum": [*presets], "description": "the preset that this one changes"}
        part["anyOf"] = [
            {"required": part.pop("required")},
            {"required": ["name", "base"]},
            {"required": ["base"], "maxProperties": 1},
        ]
        whole["properties"][key]["items"] = {"anyOf": [{"enum": [*presets]}, {"$ref": f"#/$defs/{spec.__name__}"}]}
    del parts["TrainingSpec"]["required"]
    whole["required"] = ["datasets", "models"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole}


# --- pydantic's errors, in our words ----------------------------------------------------------------------------


def _complaints(kind: type[Spec], source: YamlValues, errors: Sequence[ErrorDetails]) -> Iterator[str]:
    """Every mistake in the order of writing, each as a sentence."""
    found: dict[Loc, ErrorDetails] = {}
    for error in _causes(errors):
        # Both errors of a pair that was written as one number are at that number; the last is the number's own.
        found[error["loc"] if _is_missing(error) else source.nearest(error["loc"])] = error
    order = list(source.places)
    for shown in sorted(found, key=lambda loc: order.index(source.nearest(loc))):
        loc = source.nearest(shown)
        where = f"{source.places[loc]}: {dotted(shown)}".removesuffix(": ")
        yield f"{where}: {_wrong(kind, found[shown], loc, reduce(getitem, loc, source.value))}"


def _is_missing(error: ErrorDetails) -> bool:
    return error["type"] == "missing" and isinstance(error["loc"][-1], str)


def _causes(errors: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """The errors that do not merely follow from another.

    A list lacks its wrong entries, a recipe that is not known leaves `training` bare, and a key that is missing beside
    one that is not known is most likely that one. What is neither a number nor the word that may stand in its place has
    one error, the number's, with the `words`; truth values likewise.
    """
    above = {error["loc"][:end] for error in errors for end in range(len(error["loc"]))}
    misspelt = {error["loc"][:-1] for error in errors if error["type"] == "extra_forbidden"}
    wrong_words = [error for error in errors if error["type"] == "literal_error"]
    words = {error["loc"][:-1]: _words(error) for error in wrong_words if "literal[" in str(error["loc"][-1:])}
    causes = []
    for error in errors:
        loc = error["loc"]
        if loc in above or (_is_missing(error) and (loc[0] == "training" or loc[:-1] in misspelt)):
            continue
        if loc[:-1] not in words:
            causes.append(error)
        elif error["type"] != "literal_error":
            causes.append({**error, "loc": loc[:-1], "ctx": {**error.get("ctx", {}), "words": words[loc[:-1]]}})
    return causes


def _words(error: ErrorDetails) -> list[str]:
    """Those that may stand where this one's value does."""
    return re.findall(r"'([^']*)'", error["ctx"]["expected"])


_SENTENCES = {
    "bool_type": "expected true or false{or_word}, not {shown}",
    "dict_type": "expected a number or a mapping, not {shown}",
    "finite_number": "expected a finite number, not {shown}",
    "float_type": "expected a number, not {shown}",
    "int_type": "expected a whole number{or_word}, not {shown}",
    "greater_than_equal": "must be at least {ge:.15g}, not {shown}",
    "less_than": "must be below {lt:.15g}, not {shown}",
    "less_than_equal": "must be at most {le:.15g}, not {shown}",
    "string_pattern_mismatch": "a name is letters, digits, '.', '_' and '-', a letter or digit first and no '.' last, "
    "not {shown}",
    "string_too_long": "at most {max_length} characters are allowed",
    "string_too_short": "expected text, not nothing",
    "too_long": "at most {max_length} entries are allowed, not {shown}",
    "too_short": "expected at least {min_length} entry",
    "value_error": "{error}",
}
_EXAMPLES = {"datasets": "[rts]", "models": "[cnn, st_cnn]", "name": "mine", "classifier": "cnn", "classes": "[3, 8]"}


def _wrong(kind: type[Spec], error: ErrorDetails, loc: Loc, value: Any) -> str:
    """What is wrong with the value at `loc`, and how to mend it."""
    if error["loc"][-1:] == ("[key]",):
        value = loc[-1]
    limits, shown = error.get("ctx", {}), show(value)
    match error["type"]:
        case "missing" if _is_missing(error):
            key = error["loc"][-1]
            return f"this key is missing; add for instance `{key}: {_EXAMPLES.get(str(key), '...')}`"
        case "extra_forbidden":
            return f"there is no key {show(loc[-1])} here{_where_it_belongs(kind, loc)}"
        case "model_type" if not loc or isinstance(loc[-1], int):
            return f"expected a preset's name or a mapping, not {shown}"
        case "model_type" if loc[-1:] == ("source",):
            return f"expected one of {', '.join(SOURCES)}, or the path of your own images, not {shown}"
        case "model_type":
            return f"expected a mapping, not {shown}; its keys are {', '.join(_spec_at(kind, loc).model_fields)}"
        case "tuple_type" if _is_list(kind, loc):
            example = f"; write [{short(str(value))}]" if isinstance(value, str | int) else ""
            return f"expected a list, not {shown}{example}"
        case "tuple_type" | "too_long" | "missing" if not _is_list(kind, loc):
            return f"expected a number or a list of two numbers, not {shown}"
        case "string_type":
            return f"expected text, not {shown}" + ("; put it in quotes" if isinstance(value, int | float) else "")
        case "string_pattern_mismatch" if (part := str(loc[-1])) in PARTS:
            hint = did_you_mean(value, PARTS[part])
            return f"there is no {part} {shown} (one of your own is written package.module:function){hint}"
        case "literal_error":
            names = _words(error)
            hint = did_you_mean(value, names, "") if isinstance(value, str) else ""
            return f"{shown} is not one of {', '.join(names)}{hint}"
        case other:
            words = limits.get("words", [])
            hint = did_you_mean(value, words, "") if isinstance(value, str) else ""
            limits = {**limits, "or_word": "".join(f" or {word}" for word in words)}
            return _SENTENCES.get(other, "{msg}").format(**limits, shown=shown, msg=error["msg"]) + hint


def _where_it_belongs(kind: type[Spec], loc: Loc) -> str:
    """The end of the sentence on a key that is not known: where it is, or the nearest that is known here."""
    key, here = str(loc[-1]), _spec_at(kind, loc[:-1])
    new = RENAMED.get(key, key)
    homes = (way for way, spec in _mappings(kind) if new in spec.model_fields)
    home = min(homes, key=lambda way: way.count("."), default=None)
    if new in here.model_fields or home is None:
        return did_you_mean(key, [*here.model_fields, *(["base"] if here in (DatasetSpec, ModelSpec) else [])])
    if new != key:
        return f"; it is called {home}{new} now"
    if not home:
        return "; it belongs at the top level"
    place = f"in an entry of {home[:-3]}" if home.endswith(".0.") else f"under {home[:-1]}"
    return f"; it belongs {place}, as {home}{key}"


def _mappings(spec: type[Spec], way: str = "") -> Iterator[tuple[str, type[Spec]]]:
    """A spec and all below it, each with the dotted way to its keys, such as `datasets.0.clutter.`."""
    yield way, spec
    for key, field in spec.model_fields.items():
        for below in _specs_in(field.annotation):
            yield from _mappings(below, f"{way}{key}.0." if get_origin(field.annotation) is tuple else f"{way}{key}.")


def _spec_at(kind: type[Spec], loc: Loc) -> type[Spec]:
    """The spec that describes the mapping at `loc`."""
    return dict(_mappings(kind))["".join("0." if isinstance(step, int) else f"{step}." for step in loc)]


def _is_list(kind: type[Spec], loc: Loc) -> bool:
    """Whether the value at `loc` is a list of any length, and not a pair."""
    *above, key = loc
    return isinstance(key, str) and Ellipsis in get_args(_spec_at(kind, tuple(above)).model_fields[key].annotation)


def _specs_in(annotation: Any) -> Iterator[type[Spec]]:
    """The specs that an annotation names, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
    for argument in get_args(annotation):
        yield from _specs_in(argument)
