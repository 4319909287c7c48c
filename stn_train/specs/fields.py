"""What specs are made of: the record that refuses mistakes, intervals, sizes, names and presets."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)

from stn_train.errors import UserError, did_you_mean

DIGIT = 28
"""Height and width of a source digit's frame, in pixels."""


class Spec(BaseModel):
    """A frozen record that refuses unknown keys, silent type changes, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    def changed(self, **changes: Any) -> Self:
        """The same record with these values, checked as a file's are. Raises ChangeError where they do not fit."""
        try:
            return type(self).model_validate({**dict(self), **changes})
        except ValidationError as error:
            first = error.errors()[0]
            name, why = getattr(self, "name", type(self).__name__), first["msg"].removeprefix("Value error, ")
            where = "".join(f"{step}: " for step in first["loc"])
            raise ChangeError(f"{name} with another {' and '.join(changes)}: {where}{why}") from None


class ChangeError(UserError, ValueError):
    """A record that was right is not with the changes asked for."""


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _both_ways(value: Any) -> Any:
    return (-abs(value), abs(value)) if _number(value) else value


def _twice(value: Any) -> Any:
    return (value, value) if _number(value) else value


def _in_order(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise ValueError(f"the lower end {interval[0]:g} is above the upper end {interval[1]:g}")
    return interval


def _tta_angles(tta_angles: tuple[float, ...]) -> tuple[float, ...]:
    """In ascending order. Raises ValueError where one is nothing new."""
    if 0 in tta_angles:
        raise ValueError("0 is no rotation: the image itself is always read; leave it out")
    if len(set(tta_angles)) < len(tta_angles):
        raise ValueError("an angle appears twice; leave one of them out")
    return tuple(sorted(tta_angles))


def _pair_schema(low: float, high: float, alone: str, kind: str = "number") -> WithJsonSchema:
    number = {"type": kind, "minimum": low, "maximum": high}
    pair = {"type": "array", "items": number, "minItems": 2, "maxItems": 2}
    return WithJsonSchema({"anyOf": [{**number, "description": alone}, pair]})


_KEPT_BY_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*\.", re.IGNORECASE)


def _a_folders_name(name: str) -> str:
    if _KEPT_BY_WINDOWS.fullmatch(name):
        raise ValueError(f"{name} cannot be the name of a folder on Windows; choose another")
    return name


LONGEST_NAME = 64
Name = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=LONGEST_NAME), AfterValidator(_a_folders_name)
]
"""Names what is trained, and the folder that it is kept in."""

Count = Annotated[int, Field(ge=0, le=10**15)]
Folder = Annotated[str, Field(min_length=1, max_length=4096)]
Parameters = Annotated[int, Field(ge=1_000, le=100_000_000)]
"""A budget of a network's parameters."""

_Degrees = Annotated[float, Field(ge=-180, le=180)]
_ShearDegrees = Annotated[float, Field(ge=-75, le=75)]
_Share = Annotated[float, Field(ge=-1, le=1)]
_Factor = Annotated[float, Field(ge=0.1, le=10)]
_Pixels = Annotated[int, Field(ge=8, le=256)]
_Pair = Field(strict=False)

TtaAngles = Annotated[tuple[_Degrees, ...], Field(strict=False, max_length=36), AfterValidator(_tta_angles)]
"""Degrees by which images are turned, clockwise: each once, in ascending order."""

# Intervals to draw from uniformly, [low end, high end]; one number stands for [-a, a], or for a factor always applied.
Degrees = Annotated[
    tuple[_Degrees, _Degrees],
    _Pair,
    BeforeValidator(_both_ways),
    AfterValidator(_in_order),
    _pair_schema(-180, 180, "a: from -a to a"),
]
ShearDegrees = Annotated[
    tuple[_ShearDegrees, _ShearDegrees],
    _Pair,
    BeforeValidator(_both_ways),
    AfterValidator(_in_order),
    _pair_schema(-75, 75, "a: from -a to a"),
]
Share = Annotated[
    tuple[_Share, _Share],
    _Pair,
    BeforeValidator(_both_ways),
    AfterValidator(_in_order),
    _pair_schema(-1, 1, "a: from -a to a"),
]
Factors = Annotated[
    tuple[_Factor, _Factor],
    _Pair,
    BeforeValidator(_twice),
    AfterValidator(_in_order),
    _pair_schema(0.1, 10, "always this factor"),
]
Size = Annotated[
    tuple[_Pixels, _Pixels],
    _Pair,
    BeforeValidator(_twice),
    _pair_schema(8, 256, "height and width alike, in pixels", "integer"),
]
"""Height and width in pixels; one number stands for both."""


def preset(value: Any, presets: Mapping[str, Mapping[str, Any]], kind: str) -> Any:
    """Resolve a preset's name, or `{name: mine, base: preset, ...changes}`, to a full mapping."""
    if isinstance(value, str):
        value = {"base": value}
    if not isinstance(value, Mapping) or "base" not in value:
        return value
    like = value["base"]
    if not isinstance(like, str) or like not in presets:
        raise ValueError(f"there is no {kind} preset {str(like)[:LONGEST_NAME]!r}{did_you_mean(str(like), presets)}")
    changes = {key: change for key, change in value.items() if key != "base"}
    if changes and "name" not in changes:
        raise ValueError(f"a changed {kind} needs a name of its own beside `base: {like}`")
    return merged({"name": like, **presets[like]}, changes)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, mapping by mapping."""
    result = dict(base)
    for key, change in changes.items():
        below = result.get(key)
        result[key] = merged(below, change) if isinstance(below, Mapping) and isinstance(change, Mapping) else change
    return result
