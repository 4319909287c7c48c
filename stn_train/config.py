"""YAML to specs and back: every mistake becomes one sentence, `FILE:LINE: KEY: what is wrong; how to mend it`.

Torch-free. A configuration is a file, or one of those shipped with the package, found by name.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from stn_train.colocalisation.spec import ColocalisationSpec
from stn_train.errors import UserError, did_you_mean
from stn_train.specs import (
    DATASETS,
    MODELS,
    RECIPES,
    DatasetSpec,
    EpochMultiplierSpec,
    ExperimentSpec,
    ModelSpec,
    Spec,
    TrainingSpec,
)
from stn_train.yaml_nodes import Dumper, Loc, Place, YamlValues, dotted, override, read, short, show

LARGEST = 1_000_000
"""Bytes of a configuration file that are read."""


Kind = ExperimentSpec | ColocalisationSpec
"""What a configuration can describe."""

K = TypeVar("K", ExperimentSpec, ColocalisationSpec)

_NAMES: dict[type[Kind], tuple[str, str]] = {
    ExperimentSpec: ("a comparison of models", "run"),
    ColocalisationSpec: ("a co-localisation", "colocalise"),
}
"""What each kind is called, and the command that runs it."""


def load_config(config: str, overrides: Sequence[str] = (), called: Mapping[str, str] | None = None) -> ExperimentSpec:
    """The experiment that a configuration describes: `load_any`, where nothing but a comparison of models will do."""
    return _of_kind(ExperimentSpec, load_any(config, overrides, called), config)


def load_colocalisation(config: str, overrides: Sequence[str] = ()) -> ColocalisationSpec:
    """The co-localisation that a configuration describes: `load_any`, where nothing else will do."""
    return _of_kind(ColocalisationSpec, load_any(config, overrides), config)


def load_any(config: str, overrides: Sequence[str] = (), called: Mapping[str, str] | None = None) -> Kind:
    """What a configuration describes: with a `task` key a co-localisation, without one a comparison of models.

    `config` is a path, or a shipped configuration's name; a file wins. `overrides` are KEY=VALUE with a dotted key and
    a YAML value, and are laid over it in turn; `called` says what a sentence calls those that were not written as
    `--set KEY=VALUE`. An override that sets another recipe takes it whole, without the file's changes to its own
    recipe. Without a `name` key, it is named after the file.

    Raises UserError where the file cannot be found, read or understood, or describes neither.
    """
    path = _find(config)
    source = read(_text(path), lambda line: f"{path}:{line}", turn=0)
    if not source.places:
        raise UserError(f"{path}: this file is empty; `stn-train config show rts` prints an example")
    if not isinstance(source.value, dict):
        raise UserError(f"{source.places[()].name}: expected `key: value` at the top, not {show(source.value)}")
    recipe = _recipe(source)
    for turn, text in enumerate(overrides, start=1):
        override(source, text, turn, (called or {}).get(text))
    if _recipe(source) != recipe:
        _forget_changes_to_the_recipe(source)
    if "name" not in source.value:
        source.value["name"] = path.stem
        source.places["name",] = Place((0, 0), f"{path} (named after its file, since it has no `name` key)")
    kind: type[Kind] = ColocalisationSpec if "task" in source.value else ExperimentSpec
    try:
        return kind.model_validate(source.value)
    except ValidationError as error:
        raise UserError(*_complaints(kind, source, error.errors(include_url=False, include_input=False))) from None


def _of_kind(wanted: type[K], found: Kind, config: str) -> K:
    if isinstance(found, wanted):
        return found
    what, command = _NAMES[type(found)]
    raise UserError(
        f"{config} describes {what}, not {_NAMES[wanted][0]}; `stn-train {command} --config {config}` is for it"
    )


def shipped() -> dict[str, Path]:
    """The configurations that come with the package, by name, such as `rts` or `paper/table1`."""
    inside, beside = Path(__file__).parent / "configs", Path(__file__).parent.parent / "configs"
    root = inside if inside.is_dir() else beside  # in the wheel, or in a checkout
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"))}


def dump(spec: Kind) -> str:
    """The whole of it as YAML, defaults and all: `load_any` reads an equal one from it."""
    return yaml.dump(_plain(spec), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100)


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
    del parts[TrainingSpec.__name__]["required"]
    whole["required"] = ["datasets", "models"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole}


def _find(config: str) -> Path:
    if os.path.exists(config) and not os.path.isdir(config):
        return Path(config)
    known = shipped()
    if config in known:
        return known[config]
    if os.path.isdir(config):
        raise UserError(f"{config}: expected a configuration file, not a folder{did_you_mean(config, known)}")
    bare = re.sub(r"\.ya?ml$", "", config)
    if bare != config or os.sep in config:
        raise UserError(f"{config}: there is no such file, nor a shipped configuration{did_you_mean(bare, known)}")
    raise UserError(f"there is no shipped configuration {config!r}, nor a file{did_you_mean(config, known)}")


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > LARGEST:
        raise UserError(f"{path}: larger than {LARGEST // 1_000_000} MB, which no configuration is")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not a text file in UTF-8; save it as UTF-8") from None


def _recipe(source: YamlValues) -> Any:
    return source.value.get("recipe", ExperimentSpec.model_fields["recipe"].default)


def _forget_changes_to_the_recipe(source: YamlValues) -> None:
    """Drop the file's own changes under `training` and `epoch_multiplier`, not the overrides'; other keys stay."""
    for changes, keys in (("training", RECIPES["default"]), ("epoch_multiplier", EpochMultiplierSpec.model_fields)):
        changed = source.value.get(changes)
        if isinstance(changed, dict):
            for key in keys & changed.keys():
                if source.places[changes, key].turn[0] == 0:
                    del changed[key], source.places[changes, key]


def _plain(value: Any) -> Any:
    """A spec as mappings, lists and plain values, without the keys that are None of themselves."""
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    if not isinstance(value, Spec):
        return value
    fields = type(value).model_fields
    return {key: _plain(below) for key, below in value if below is not None or fields[key].default is not None}


# --- pydantic's errors, in our words ----------------------------------------------------------------------------


def _complaints(kind: type[Kind], source: YamlValues, errors: Sequence[ErrorDetails]) -> Iterator[str]:
    """Every mistake in the order of writing, each as a sentence; of very many the first ones, and how many more."""
    found: dict[Loc, ErrorDetails] = {}
    for error in _causes(errors):
        # Both errors of a pair that was written as one number are at that number; the last is the number's own.
        found[error["loc"] if _is_missing(error) else source.nearest(error["loc"])] = error
    in_order = sorted(found, key=lambda loc: source.places[source.nearest(loc)].turn)
    for shown in in_order[:_MOST_COMPLAINTS]:
        loc = source.nearest(shown)
        where = ": ".join(filter(None, (source.places[loc].name, dotted(shown))))
        yield f"{where}: {_wrong(kind, found[shown], loc, source.at(loc))}"
    if len(in_order) > _MOST_COMPLAINTS:
        yield f"and {len(in_order) - _MOST_COMPLAINTS} more mistakes"


def _is_missing(error: ErrorDetails) -> bool:
    return error["type"] == "missing" and isinstance(error["loc"][-1], str)


def _causes(errors: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """The errors that do not merely follow from another.

    A list lacks its wrong entries, a recipe that is not known leaves `training` bare, and a key that is missing beside
    one that is not known is most likely that one.
    """
    above = {error["loc"][:end] for error in errors for end in range(len(error["loc"]))}
    misspelt = {error["loc"][:-1] for error in errors if error["type"] == "extra_forbidden"}
    return [
        error
        for error in errors
        if error["loc"] not in above
        and not (_is_missing(error) and (error["loc"][0] == "training" or error["loc"][:-1] in misspelt))
    ]


_MOST_COMPLAINTS = 50
_EXAMPLES = {
    "datasets": "[rts]",
    "models": "[cnn, st_cnn]",
    "name": "mine",
    "classifier": "cnn",
    "classes": "[3, 8]",
    "encoder": "{parameters: 60_000, epochs: 3}",
}


def _wrong(kind: type[Kind], error: ErrorDetails, loc: Loc, value: Any) -> str:
    """What is wrong with the value at `loc`, and how to mend it."""
    limits = error.get("ctx", {})
    shown = show(value)
    match error["type"]:
        case "missing" if _is_missing(error):
            key = error["loc"][-1]
            return f"this key is missing; add for instance `{key}: {_EXAMPLES.get(str(key), '...')}`"
        case "extra_forbidden":
            return f"there is no key {show(loc[-1])} here{_where_it_belongs(kind, loc)}"
        case "model_type" if isinstance(loc[-1], int):
            return f"expected a preset's name or a mapping, not {shown}"
        case "model_type":
            return f"expected a mapping, not {shown}; its keys are {', '.join(_spec_at(kind, loc).model_fields)}"
        case "tuple_type" if _is_list(kind, loc):
            return f"expected a list, not {shown}" + (
                f"; write [{short(str(value))}]" if isinstance(value, str | int) else ""
            )
        case "too_short" | "too_long" if _is_list(kind, loc):
            least, most = limits.get("min_length"), limits.get("max_length")
            return f"expected at least {least} entry" if least else f"at most {most} entries are allowed, not {shown}"
        case "tuple_type" | "too_long" | "missing":
            return f"expected a number or a list of two numbers, not {shown}"
        case "int_type":
            return f"expected a whole number, not {shown}"
        case "float_type":
            return f"expected a number, not {shown}"
        case "finite_number":
            return f"expected a finite number, not {shown}"
        case "bool_type":
            return f"expected true or false, not {shown}"
        case "string_type":
            return f"expected text, not {shown}" + ("; put it in quotes" if isinstance(value, int | float) else "")
        case "string_too_short":
            return "expected text, not nothing"
        case "string_too_long":
            return f"at most {limits['max_length']} characters are allowed, not {len(value)}"
        case "string_pattern_mismatch":
            return f"a name is letters, digits, '.', '_' and '-', and begins with a letter or digit, not {shown}"
        case "greater_than_equal":
            return f"must be at least {limits['ge']:.15g}, not {shown}"
        case "greater_than":
            return f"must be above {limits['gt']:.15g}, not {shown}"
        case "less_than_equal":
            return f"must be at most {limits['le']:.15g}, not {shown}"
        case "less_than":
            return f"must be below {limits['lt']:.15g}, not {shown}"
        case "literal_error":
            names = re.findall(r"'([^']*)'", limits["expected"])
            hint = did_you_mean(value, names) if isinstance(value, str) else ""
            return f"{shown} is not one of {', '.join(names)}" + ("" if hint.startswith("; known") else hint)
        case "value_error":
            return str(limits["error"])
        case _:
            return error["msg"]


def _where_it_belongs(kind: type[Kind], loc: Loc) -> str:
    """The end of the sentence on a key that is not known: where it is, or the nearest that is known here."""
    homes: dict[str, type[Spec]] = {"at the top level": kind}
    for key, field in kind.model_fields.items():
        for spec in _specs_in(field.annotation):
            homes[f"in an entry of {key}" if get_origin(field.annotation) is tuple else f"under {key}"] = spec
    home = next((home for home, spec in homes.items() if loc[-1] in spec.model_fields), None)
    if home:
        return f"; it belongs {home}"
    here = _spec_at(kind, loc[:-1])
    return did_you_mean(str(loc[-1]), [*here.model_fields, *(["base"] if here in (DatasetSpec, ModelSpec) else [])])


def _spec_at(kind: type[Kind], loc: Loc) -> type[Spec]:
    """The spec that describes the mapping at `loc`."""
    spec: type[Spec] = kind
    for step in loc:
        if isinstance(step, str):
            spec = next(_specs_in(spec.model_fields[step].annotation))
    return spec


def _is_list(kind: type[Kind], loc: Loc) -> bool:
    """Whether the value at `loc` is a list of any length, and not a pair."""
    *above, key = loc
    return isinstance(key, str) and Ellipsis in get_args(_spec_at(kind, tuple(above)).model_fields[key].annotation)


def _specs_in(annotation: Any) -> Iterator[type[Spec]]:
    """The specs that an annotation names, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
    for argument in get_args(annotation):
        yield from _specs_in(argument)
