"""Made-up data sets of a few real digits, for the tests of this room."""

from typing import Any

from stn_train.data.digits import Digits
from stn_train.data.distortion import Draw, Ink, draw
from stn_train.specs import DatasetSpec


def spec_of(preset: str | None = None, **keys: Any) -> DatasetSpec:
    return DatasetSpec.model_validate(preset or {"name": "made_up", **keys})


def first(digits: Digits, count: int, repeats: int = 1) -> Digits:
    return Digits(digits.images[:count], digits.labels[:count], repeats)


def draw_of(spec: DatasetSpec, digits: Digits, seed: int = 0, split: Any = "train", epoch: int = 0) -> Draw:
    return draw(spec, digits, Ink.of(digits), seed, split, epoch)
