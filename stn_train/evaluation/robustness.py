"""How the error grows with one quantity of the distortion, as plain records that are saved and reported. Torch-free."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Literal

from pydantic import Field

from stn_train.errors import UserError
from stn_train.specs import ClutterSpec, Count, DatasetSpec, Spec

Factor = Literal["rotation", "scale", "translation", "clutter"]

LEVELS: dict[Factor, tuple[float, ...]] = {
    "rotation": tuple(range(-180, 181, 30)),
    "scale": (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.6),
    "translation": (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0),
    "clutter": (0, 2, 4, 6, 8, 12, 16),
}
"""The levels at which each quantity is held.

Degrees; a factor; the share of the room along both axes (-1: the upper left corner, 1: the lower right one); patches.
"""


class Point(Spec):
    """What a network gets wrong where one quantity is the same for every image."""

    factor: Factor
    level: float
    errors: Count
    clipped: Count = Field(description="images that lose ink at the canvas's edge")


class Crossed(Spec):
    """What a network gets wrong on the fixed images of a dataset that it was not trained on, drawn on its canvas."""

    dataset: DatasetSpec
    images: Count = Field(ge=1)
    errors: Count


class Robustness(Spec):
    """What a trained network gets wrong where images differ from those that it was trained on."""

    format: Literal[3] = 3
    images: Count = Field(ge=1, description="of each point")
    points: Annotated[tuple[Point, ...], Field(strict=False)]
    crossed: Annotated[tuple[Crossed, ...], Field(strict=False)]


def others(own: DatasetSpec, datasets: Sequence[DatasetSpec]) -> list[DatasetSpec]:
    """The other datasets that networks of this one can be asked about, on the canvas that they know, if they fit it."""
    found = []
    for other in datasets:
        if other.name != own.name and (other.channels, other.classes) == (own.channels, own.classes):
            with suppress(UserError):
                found.append(other.changed(canvas=own.canvas))
    return found


def held(dataset: DatasetSpec, factor: Factor, level: float) -> DatasetSpec:
    """The dataset with one quantity the same for every image; everything else is drawn as before."""
    match factor:
        case "rotation":
            return dataset.changed(rotation=(level, level))
        case "scale":
            return dataset.changed(scale=(level, level))
        case "translation":
            return dataset.changed(translation=(level, level))
        case "clutter":
            clutter = dataset.clutter or ClutterSpec.model_validate({})
            patches = clutter.changed(patches=int(level)) if level else None
            return dataset.changed(clutter=patches)


def trained_range(dataset: DatasetSpec, factor: Factor) -> tuple[float, float]:
    """From where to where training has seen a quantity."""
    match factor:
        case "rotation":
            return dataset.rotation or (0.0, 0.0)
        case "scale":
            return dataset.scale or (1.0, 1.0)
        case "translation":
            return dataset.translation or (0.0, 0.0)
        case "clutter":
            patches = dataset.clutter.patches if dataset.clutter else 0
            return patches, patches
