"""What specs are made of: the record that refuses mistakes, and its numbers, pairs and names."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from stn_train.errors import UserError, did_you_mean

DIGIT = 28
"""Height and width of MNIST's images, in pixels: those of a source, as long as nothing else is known of it."""

T = TypeVar("T", bound=tuple[Any, ...])


class Spec(BaseModel):
    """A frozen record that refuses unknown keys, silent type changes, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Records of this kind by name, where there are any."""

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, value: Any) -> Any:
        """Resolve a preset's name, or `{name: mine, base: preset, ...changes}`, to a full mapping."""
        if isinstance(value, str) and cls.presets:
            value = {"base": value}
        if not cls.presets or not isinstance(value, Mapping) or "base" not in value:
            return value
        base, kind = value["base"], cls.__name__.removesuffix("Spec").lower()
        if not isinstance(base, str) or base not in cls.presets:
            hint = did_you_mean(str(base), cls.presets)
            raise ValueError(f"there is no {kind} preset {str(base)[:LONGEST_NAME]!r}{hint}")
        if len(value) > 1 and "name" not in value:
            raise ValueError(f"a changed {kind} needs a name of its own beside `base: {base}`")
        # A model preset's name means one network everywhere, however it is trained.
        name, changed = value.get("name", base), value.keys() - {"base", "name", "tuned"}
        if kind == "model" and isinstance(name, str) and name in cls.presets and (changed or name != base):
            raise ValueError(f"{name} is a preset's name, and this is another {kind}; give it another name")
        whole = {"name": base, **cls.presets[base]}
        for key, change in value.items():
            below = whole.get(key)
            # A change to a part, such as `clutter: {patches: 3}`, leaves the rest of the part as it is.
            whole[key] = {**below, **change} if isinstance(below, Mapping) and isinstance(change, Mapping) else change
        del whole["base"]
        return whole

    def changed(self, **changes: Any) -> Self:
        """The same record with these values, checked as a file's are. Raises UserError where they do not fit."""
        try:
            return type(self).model_validate({**dict(self), **changes})
        except ValidationError as error:
            first = error.errors()[0]
            name = getattr(self, "path", None) or getattr(self, "name", type(self).__name__)
            where = ": ".join(map(str, first["loc"])) or f"with another {' and '.join(changes)}"
            raise UserError(f"{name}: {where}: {first['msg'].removeprefix('Value error, ')}") from None


def changes(before: Spec, now: Spec) -> dict[str, tuple[Any, Any]]:
    """The old and the new value of each key, such as `training.epochs`, in which two records of a kind differ.

    None also stands for a key that only the other has.
    """
    old, new = (_flat(one.model_dump(mode="json")) for one in (before, now))
    both = {key: (old.get(key), new.get(key)) for key in (*old, *new)}
    return {key: values for key, values in both.items() if values[0] != values[1]}


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, below in value.items():
        flat |= _flat(below, f"{prefix}{key}.") if isinstance(below, dict) else {f"{prefix}{key}": below}
    return flat


def pair(value: Any, check: ValidatorFunctionWrapHandler, *, sign: int, ordered: bool = True) -> Any:
    """A pair, checked; of a number a the pair that it stands for: [-a, a] for sign -1, [a, a] for sign 1.

    Raises ValueError where it is to be `ordered`, and the lower end is above the upper end.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = tuple(sorted((sign * value, value)))
    low, high = check(value)
    if ordered and low > high:
        raise ValueError(f"the lower end {low:g} is above the upper end {high:g}")
    return low, high


def in_pixels(value: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """A size in pixels, checked; of a number below 8 so many times the height and width of the source's images.

    These are the validation context's `frame`. What has no transformer at the input makes no difference by its size,
    and has MNIST's.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _LEAST_SIDE:
        at_input = 0 in info.data.get("before", (0,))
        height, width = info.context["frame"] if info.context and at_input else (DIGIT, DIGIT)
        value = round(value * height), round(value * width)
    return pair(value, check, sign=1, ordered=False)


def one_line(text: str) -> str:
    """Raises ValueError where a text holds a line break or a control character: no configuration could say it."""
    if CONTROL.search(text):
        raise ValueError(f"{text[:LONGEST_NAME]!r} holds a line break or a control character; rename it")
    return text


def ascending(angles: tuple[float, ...]) -> tuple[float, ...]:
    """In ascending order. Raises ValueError where 0 is among them, or one appears twice."""
    if 0 in angles:
        raise ValueError("0 is no rotation: the image itself is always read; leave it out")
    if len(set(angles)) < len(angles):
        raise ValueError("an angle appears twice; leave one of them out")
    return tuple(sorted(angles))


def no_twins(entries: T) -> T:
    """Raises ValueError where an entry, or its name, appears in a list twice.

    Names must not differ in their case alone: on some systems folders do not.
    """
    seen: dict[str, str] = {}
    for name in (str(getattr(entry, "name", entry)) for entry in entries):
        before = seen.get(name.casefold())
        if before == name:
            raise ValueError(f"{name} appears twice; leave one of them out, or rename it")
        if before is not None:
            raise ValueError(f"the names {before} and {name} differ in case alone, and so would folders; rename one")
        seen[name.casefold()] = name
    return entries


CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""A line break, or a control character: what no value of a configuration may hold."""
LONGEST_NAME = 64
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9_-])?$", max_length=LONGEST_NAME)]
"""Names what is trained, and the folder that it is kept in."""

Count = Annotated[int, Field(ge=0, le=10**15)]
Folder = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(one_line)]
Parameters = Annotated[int, Field(ge=1_000, le=100_000_000)]
"""A budget of a network's parameters."""

LEAST = 1e-12
"""Of a number that must be above 0: far smaller ones are denormal, which a processor may take for 0 in training."""
LearningRate = Annotated[float, Field(ge=LEAST, le=100)]
LocalisationLr = Annotated[float, Field(ge=LEAST, le=1000)]
WeightDecay = Annotated[float, Field(ge=0, le=10)]

_Degrees = Annotated[float, Field(ge=-180, le=180)]
_ShearDegrees = Annotated[float, Field(ge=-75, le=75)]
_Share = Annotated[float, Field(ge=-1, le=1)]
_Factor = Annotated[float, Field(ge=0.1, le=10)]
_LEAST_SIDE = 8
_Pixels = Annotated[int, Field(ge=_LEAST_SIDE, le=256)]
_Times = Annotated[float, Field(gt=0, lt=_LEAST_SIDE)]

TtaAngles = Annotated[tuple[_Degrees, ...], Field(strict=False, max_length=36), AfterValidator(ascending)]
"""Degrees by which images are turned, clockwise: each once, in ascending order."""

# Intervals to draw from uniformly, [low end, high end]; one number stands for [-a, a], or for a factor always applied.
Degrees = Annotated[
    tuple[_Degrees, _Degrees],
    Field(strict=False),
    WrapValidator(partial(pair, sign=-1), json_schema_input_type=_Degrees | tuple[_Degrees, _Degrees]),
]
ShearDegrees = Annotated[
    tuple[_ShearDegrees, _ShearDegrees],
    Field(strict=False),
    WrapValidator(partial(pair, sign=-1), json_schema_input_type=_ShearDegrees | tuple[_ShearDegrees, _ShearDegrees]),
]
Share = Annotated[
    tuple[_Share, _Share],
    Field(strict=False),
    WrapValidator(partial(pair, sign=-1), json_schema_input_type=_Share | tuple[_Share, _Share]),
]
Factors = Annotated[
    tuple[_Factor, _Factor],
    Field(strict=False),
    WrapValidator(partial(pair, sign=1), json_schema_input_type=_Factor | tuple[_Factor, _Factor]),
]
Size = Annotated[
    tuple[_Pixels, _Pixels],
    Field(strict=False, validate_default=True),
    WrapValidator(in_pixels, json_schema_input_type=_Pixels | _Times | tuple[_Pixels, _Pixels]),
]
"""Height and width in pixels; one number stands for both, and one below 8 for so many times the source's own."""
AS_THE_SOURCE: Any = 1.0
"""The size of a source's images."""
