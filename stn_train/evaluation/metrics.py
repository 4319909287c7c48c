"""What is measured of a trial's network, as plain records that are saved and reported. Torch-free."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from stn_train.errors import UserError
from stn_train.run_folder import Diagnostics, EpochRecord
from stn_train.specs import ClutterSpec, Count, DatasetSpec, Spec, TrainingSpec, TrialSpec, pose_is_known

Component = Literal["rotation", "scale", "aspect", "shear", "translation", "deformation", "non_affine"]

LEAST: dict[Component, tuple[float, str]] = {
    "rotation": (1.0, "°"),
    "scale": (0.02, "log"),
    "aspect": (0.02, "log"),
    "shear": (0.02, ""),
    "translation": (0.25, "px"),
    "deformation": (0.25, "px"),
    "non_affine": (0.25, "px"),
}
"""Of each component of a pose the spread, with its unit, from which on images count as varying in it.

Only older records have non_affine, of maps that bend or project: all of them but the translation.
"""


class Spread(Spec):
    """How far the digits' poses vary in one component: the root mean square about the mean, over images."""

    component: Component
    before: float = Field(description="as distorted; where maps bend, seen through the mean sampling grid")
    after: float = Field(description="in what the transformer puts out")


_Numbers = Annotated[tuple[float, ...], Field(strict=False)]


class ResidualCurve(Spec):
    """What is left of one component, against what there was of it: of images sorted by the latter, in equal parts.

    In the component's unit, signed, and about the mean over all images; along x and y, a place counts twice.
    """

    component: Component
    before: _Numbers = Field(description="as distorted: the mean of each part")
    after: _Numbers = Field(description="in what the transformer puts out: the mean of each part")
    varies: _Numbers = Field(description="the standard deviation of the latter within each part")


_OF_DIGITS = (0, 1, 8)
_OF_MERGED = (*_OF_DIGITS, 17, 18, 23, 24, 28, 33, 35)  # H I N O S X Z
HALF_TURNS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("mnist", "digits", "qmnist", "emnist_digits", "emnist_mnist", "svhn"), _OF_DIGITS),
    **dict.fromkeys(("emnist_balanced", "emnist_bymerge"), _OF_MERGED),
    "emnist_byclass": (*_OF_MERGED, 47, 50, 54, 59, 61),  # l o s x z
    "emnist_letters": (14, 18, 23, 25),  # o s x z
}
"""Of sources the classes that look the same upside down, so that a half turn is no turn; of others none is known."""

_Spreads = Annotated[tuple[Spread, ...], Field(strict=False)]


class AlignmentMetrics(Spec):
    """Whether a transformer at the input removes the distortion, and whether it finds the digit.

    Spreads are empty where no canonical pose can be told, as for fewer than two images. Of maps that are matrices and
    do not project, the components are rotation, scale, aspect, shear and translation; of others, rotation, scale and
    translation of the nearest similarity, and the deformation that it leaves (in older records, translation and
    non_affine alone). Residual curves are told of components that vary among the images (see LEAST) and have a sign, as
    deformation has not. What lies within classes is a share of what varies among images: 0 where all images of a class
    are alike, 1 where no class has anything of its own, None where all images are one.
    """

    format: Literal[4] = 4
    pose: _Spreads
    pose_of_a_digit: _Spreads = Field(
        description="among images of one and the same digit, between which only the distortion and the clutter vary"
    )
    residual_curves: Annotated[tuple[ResidualCurve, ...], Field(strict=False)]
    iou: float = Field(description="intersection over union of the sampled region with the digit's frame: mean")
    iou_found: float = Field(description="share of images in which that is above 0.5")
    aligned: float = Field(description="the same, of the region that holds a frame once the common pose is taken off")
    aligned_found: float = Field(description="share of images in which that is above 0.5")
    ink: float = Field(description="share of the digit's ink inside the sampled region")
    turn_median: float | None = Field(
        description="median of how far two distortions of one digit differ in rotation, in what the transformer puts "
        "out: degrees, modulo 180 for digits that look the same upside down; None where a map has no rotation"
    )
    turn_large: float | None = Field(description="share of the digits in which that is above 20 degrees")
    turn_before: float | None = Field(description="spread of rotation within a class, as distorted: see turn_within")
    turn_within: float | None = Field(
        description="the same in what the transformer puts out: the root mean square distance from the class's "
        "circular mean, in degrees, modulo 180 as above; the mean of the classes"
    )
    swapped_error: float | None = Field(
        None,
        description="share of the images that are misclassified when each is warped by the theta of another distortion "
        "of the same digit; None where the transformer is not a single one",
    )
    class_from_theta: float | None = Field(
        None, description="share of the images whose class is that of most images with the nearest theta"
    )
    within_classes_digits: float | None = Field(description="among the digits, not distorted")
    within_classes_images: float | None = Field(description="among the images")
    within_classes_output: float | None = Field(description="among what the transformer puts out")


# --- robustness: how the error grows with one quantity of the distortion ----------------------------------------------

Factor = Literal["rotation", "scale", "translation", "clutter"]

LEVELS: dict[Factor, tuple[float, ...]] = {
    "rotation": tuple(range(-180, 180, 15)),
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
    images: Count = Field(ge=1)
    errors: Count
    clipped: Count = Field(description="images that lose ink at the canvas's edge")


class Crossed(Spec):
    """What a network gets wrong on the fixed images of a dataset that it was not trained on, drawn on its canvas."""

    dataset: DatasetSpec
    images: Count = Field(ge=1)
    errors: Count


class Robustness(Spec):
    """What a trained network gets wrong where images differ from those that it was trained on."""

    format: Literal[4] = 4
    points: Annotated[tuple[Point, ...], Field(strict=False)]
    wrong_at_some_angle: Count = Field(description="images of which at least one level of the rotation is wrong")
    crossed: Annotated[tuple[Crossed, ...], Field(strict=False)]


def others(own: DatasetSpec, datasets: Sequence[DatasetSpec]) -> list[DatasetSpec]:
    """The other datasets that networks of this one can be asked about, on the canvas that they know, if they fit it."""
    found = []
    for other in datasets:
        if other.name != own.name and other.addition == own.addition:
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


def trained_range(trial: TrialSpec, factor: Factor) -> tuple[float, float] | None:
    """From where to where training has seen a quantity; None where the images had come with one that is not known."""
    dataset, source = trial.dataset, trial.source
    if source.is_rotated_mnist and factor == "rotation":
        return -180.0, 180.0
    if not (source.is_rotated_mnist or pose_is_known(dataset, source)):
        return None
    match factor:
        case "rotation":
            return trial.model.rotation_augmentation or dataset.rotation or (0.0, 0.0)
        case "scale":
            return dataset.scale or (1.0, 1.0)
        case "translation":
            return dataset.translation or (0.0, 0.0)
        case "clutter":
            patches = dataset.clutter.patches if dataset.clutter else 0
            return patches, patches


# --- is a transformer healthy? ----------------------------------------------------------------------------------------

Fault = Literal["out_of_bounds", "collapsed", "folded", "unused", "identity", "input_independent"]

_OUT_OF_BOUNDS = 0.9
_COLLAPSED = 0.1
_FOLDED = 0.05
_IDENTITY = 0.01
_UNUSED = 1e-6
_EARLY = 0.25
"""The share of the epochs before which a transformer may not have begun to move."""


@dataclass(frozen=True)
class TransformerWarning:
    """What is wrong with one of a network's transformers, the first of all that applies.

    `number`: which it is of so many `transformers`, from 1 on. `diagnostics`: what tells. `recipe`: of the training,
    by which the advice goes.
    """

    fault: Fault
    number: int
    transformers: int
    diagnostics: Diagnostics
    recipe: TrainingSpec


def warnings_of(record: EpochRecord, recipe: TrainingSpec) -> list[TransformerWarning]:
    """What is wrong after an epoch of a training by this recipe: at most one warning for each transformer."""
    begun = record.epoch > max(_EARLY * recipe.epochs, 1)  # by now it should have learnt something
    found = []
    for number, diagnostics in enumerate(record.transformers, start=1):
        faults: dict[Fault, bool] = {
            "out_of_bounds": diagnostics.outside > _OUT_OF_BOUNDS,
            "collapsed": diagnostics.scale < _COLLAPSED,
            "folded": diagnostics.folded > _FOLDED,
            "unused": begun and diagnostics.gradient < _UNUSED,
            "identity": begun and diagnostics.moved < _IDENTITY,
            "input_independent": begun and diagnostics.std < _IDENTITY,
        }
        applying = [fault for fault, applies in faults.items() if applies]
        if applying:
            found.append(TransformerWarning(applying[0], number, len(record.transformers), diagnostics, recipe))
    return found
