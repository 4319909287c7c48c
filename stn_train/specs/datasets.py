"""Datasets: how images are distorted, and the distortions by name."""

from typing import Any, Literal

from pydantic import Field, model_validator

from stn_train.specs.fields import AS_THE_SOURCE, Degrees, Factors, Name, Share, ShearDegrees, Size, Spec
from stn_train.specs.sources import LARGEST_SIDE


class ClutterSpec(Spec):
    """Patches cut from other images of the same split and placed at random (paper, appendix A, TC)."""

    patches: int = Field(6, ge=1, le=64, description="number of patches")
    size: int = Field(6, ge=1, le=LARGEST_SIDE, description="height and width of a patch, in pixels")
    blend: Literal["max", "add"] = Field(
        "max",
        description="where ink meets ink: max, the brighter pixel stays; add, both are added and cut off at white",
    )
    avoid_digit: bool = Field(False, description="keep the patches off the box of the image's ink, where there is room")


class PerspectiveSpec(Spec):
    """Each corner of the canvas moved by a normal; the image follows projectively (paper, appendix A, P)."""

    std: float = Field(ge=0, le=LARGEST_SIDE, description="standard deviation along each axis, in pixels")
    direction: Literal["any", "diagonal", "outward"] = Field(
        "any",
        description="any: a normal along each axis; diagonal: one along the corner's diagonal, to or from the middle; "
        "outward: along each axis, and only away from the middle",
    )


class ElasticSpec(Spec):
    """Control points of a thin plate spline on the canvas, each moved by a normal (paper, appendix A, E)."""

    std: float = Field(ge=0, le=LARGEST_SIDE, description="standard deviation along each axis, in pixels")
    control_points: int = Field(4, ge=2, le=8, description="control points along each side of the canvas")


_PLACED = {"translation": 1, "placement": "frame", "whole_pixels": True}

DATASETS: dict[str, dict[str, Any]] = {
    "plain": {},
    "affnist": {
        "canvas": 1.43,
        "rotation": 20,
        "shear": 11.31,
        "scale": [0.8, 1.2],
        "independent_scales": True,
        "translation": 1,
    },
    "affnist_train": {"canvas": 1.43, **_PLACED},
    "rotation": {"rotation": 45},
    "translation": {"canvas": 1.5, "translation": 1},
    "scale": {"canvas": 1.5, "scale": [0.5, 1.5]},
    "shear": {"canvas": 1.5, "shear": 45},
    "r": {"rotation": 90},
    "rts": {"canvas": 1.5, "rotation": 45, "scale": [0.7, 1.2], **_PLACED},
    "rts_wide": {"canvas": 1.5, "rotation": 45, "scale": [0.7, 1.2], "translation": 1},
    "p_literal": {"scale": [0.75, 1.0], "perspective": {"std": 5}},
    "p_outward": {"scale": [0.75, 1.0], "perspective": {"std": 5, "direction": "outward"}},
    "p": {"scale": [0.75, 1.0], "perspective": {"std": 5, "direction": "diagonal"}},
    "e": {"scale": [0.75, 1.0], "elastic": {"std": 1.5}},
    "tc": {"canvas": 2.15, **_PLACED, "clutter": {"patches": 6, "size": 6, "blend": "add"}},
    "tc_wide": {"canvas": 2.15, "translation": 1, "clutter": {"patches": 6, "size": 6}},
    "addition": {"canvas": 1.5, "rotation": 45, "scale": [0.7, 1.2], **_PLACED, "addition": True},
    "addition_wide": {"canvas": 1.5, "rotation": 45, "scale": [0.7, 1.2], "translation": 1, "addition": True},
}
"""The distortions by name; r, rts, p, e, tc and addition are the paper's (appendix A). What is `wide` places digits by
their ink, up to the canvas's edge and at fractions of a pixel; p_literal and p_outward are other readings of p: see
docs/protocol.md. affnist has the law of affNIST (Tieleman, 2013), and affnist_train what networks are trained on to be
tested on it (Sabour et al., arXiv:1710.09829): whole digits, moved on 40 x 40 pixels."""


class DatasetSpec(Spec):
    """A distortion of images: forwards, an image is sheared, scaled, rotated, placed on the canvas, and bent.

    Each quantity is drawn uniformly and independently for every image; one that is absent is not applied.
    """

    presets = DATASETS

    name: Name = Field(description="what tables and folders call it")
    canvas: Size = Field(
        AS_THE_SOURCE,
        description="height and width of what a network reads, in pixels; a number below 8 is a factor of the source's "
        "own size",
    )
    rotation: Degrees | None = Field(None, description="angle in degrees, clockwise as seen")
    scale: Factors | None = Field(None, description="factor of height and width")
    independent_scales: bool = Field(False, description="draw the factors of height and width each by itself")
    shear: ShearDegrees | None = Field(None, description="angle of the horizontal shear in degrees")
    translation: Share | None = Field(
        None,
        description="share of the room that the image has on the canvas: -1 touches left or top, 1 right or bottom",
    )
    placement: Literal["ink", "frame"] = Field(
        "ink", description="what stays on the canvas: every inked pixel, or the whole scaled frame"
    )
    whole_pixels: bool = Field(
        False, description="with placement frame: move by whole pixels, so that nothing is blurred by moving it"
    )
    perspective: PerspectiveSpec | None = Field(None, description="move the corners of the canvas")
    elastic: ElasticSpec | None = Field(None, description="bend the canvas by a thin plate spline")
    clutter: ClutterSpec | None = Field(None, description="add patches of other images")
    addition: bool = Field(
        False, description="two digits, a channel and a distortion each; the label is their sum (paper, appendix A)"
    )

    @property
    def distorts(self) -> bool:
        """Whether anything is done to images, but for laying them on a canvas."""
        kinds = (self.rotation, self.scale, self.shear, self.translation, self.perspective, self.elastic, self.clutter)
        return self.addition or any(kind is not None for kind in kinds)

    @property
    def has_true_pose(self) -> bool:
        """Whether the distortion of an image is a matrix, one of a single digit, that a transformer can be given."""
        return self.elastic is None and not self.addition

    def eased(self, share: float) -> "DatasetSpec":
        """The same distortion, gone only a `share` of the way: 0 is none, 1 is all of it. Clutter stays as it is.

        Angles, shifts and spreads are shortened to this share of theirs, a factor is raised to its power.
        """

        def shortened(interval: tuple[float, float] | None) -> tuple[float, float] | None:
            return interval and (share * interval[0], share * interval[1])

        changes: dict[str, Any] = {key: shortened(getattr(self, key)) for key in ("rotation", "shear", "translation")}
        changes["scale"] = self.scale and (self.scale[0] ** share, self.scale[1] ** share)
        for key in ("perspective", "elastic"):
            moved = getattr(self, key)
            changes[key] = moved and moved.changed(std=share * moved.std)
        return self.changed(**changes)

    @model_validator(mode="after")
    def _goes_together(self) -> "DatasetSpec":
        if self.whole_pixels and self.placement != "frame":
            raise ValueError(
                "whole_pixels is for placement: frame, whose pixels are counted; leave it out, or add that"
            )
        if self.perspective is not None and self.elastic is not None:
            raise ValueError(
                "perspective and elastic do not go together: no single family undoes both; leave one of them out"
            )
        if self.clutter is not None and self.clutter.size > min(self.canvas):
            raise ValueError(f"patches of {self.clutter.size} pixels do not fit on this canvas; make one of them fit")
        return self
