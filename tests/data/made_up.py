"""Made-up data sets of a few real digits, for the tests of this room."""

from typing import Any

from stn_train.data.distortion import Distortion, InkExtent, Outline, distortion_family, outline, sample_distortion
from stn_train.data.sources import Digits
from stn_train.specs import DatasetSpec


def spec_of(preset: str | None = None, **keys: Any) -> DatasetSpec:
    return DatasetSpec.model_validate(preset or {"name": "made_up", **keys})


def first(digits: Digits, count: int, repeats: int = 1) -> Digits:
    return Digits(digits.images[:count], digits.labels[:count], repeats)


def draws_of(
    spec: DatasetSpec, digits: Digits, seed: int = 0, split: Any = "train", epoch: int = 0
) -> tuple[Distortion, ...]:
    return sample_distortion(spec, digits, seed, split, epoch)


def draw_of(spec: DatasetSpec, digits: Digits, **origin: Any) -> Distortion:
    """Of images with one channel."""
    (drawn,) = draws_of(spec, digits, **origin)
    return drawn


def outline_of(spec: DatasetSpec, digits: Digits, drawn: Distortion) -> Outline:
    return outline(distortion_family(spec), drawn.theta, spec.canvas, InkExtent.of(digits).points(drawn.digit))
