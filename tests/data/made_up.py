"""Made-up data sets of a few real digits, for the tests of this room."""

from typing import Any

from torch import Tensor

from stn_train.data.datasets import whole_batches
from stn_train.data.distortion import Distortion, Outline, outline, sample_distortion
from stn_train.data.images import ImageSet
from stn_train.specs import DatasetSpec


def spec_of(preset: str | None = None, **keys: Any) -> DatasetSpec:
    return DatasetSpec.model_validate(preset or {"name": "made_up", **keys})


def first(digits: ImageSet, count: int, repeats: int = 1) -> ImageSet:
    return ImageSet(digits.images[:count], digits.labels[:count], repeats)


def draws_of(
    spec: DatasetSpec, digits: ImageSet, seed: int = 0, split: Any = "train", epoch: int = 0
) -> tuple[Distortion, ...]:
    return sample_distortion(spec, digits, seed, split, epoch)


def draw_of(spec: DatasetSpec, digits: ImageSet, **origin: Any) -> Distortion:
    """Of images with one channel."""
    (drawn,) = draws_of(spec, digits, **origin)
    return drawn


def outline_of(spec: DatasetSpec, digits: ImageSet, drawn: Distortion) -> Outline:
    return outline(spec, (28, 28), drawn.theta, digits.ink[drawn.digit.numpy()])


def order(count: int, seed: int, epoch: int) -> Tensor:
    """The order in which an epoch shows so many images."""
    (everything,) = whole_batches(count, seed, epoch, count)
    return everything
