"""Models: classifiers, the spatial transformers in them, and the models by name."""

import operator
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, WithJsonSchema, model_validator

from stn_train.specs.datasets import LARGEST_SIDE
from stn_train.specs.fields import (
    AS_THE_SOURCE,
    DIGIT,
    LEAST,
    LONGEST_NAME,
    Degrees,
    Folder,
    LearningRate,
    LocalisationLr,
    Name,
    Size,
    Spec,
    TtaAngles,
    WeightDecay,
)

CLASSIFIERS = ("cnn", "cnn_paper", "fcn", "group_cnn", "ti_pooling", "polar_cnn", "vit")
"""Our classifiers; as families and localisation networks, any other is the user's, `package.module:name`."""
Family = Literal["translation", "scale", "rotation", "shear", "attention", "similarity", "affine", "projective", "tps"]
Localisation = Literal["conv", "keypoints", "conv_paper", "fc_paper", "equivariant", "moments"]
READ_OFF = ("equivariant", "moments")
"""Localisation networks that read place and size of the ink: for similarities and rotations, never at the identity."""
Pose = Literal["predicted", "identity", "supervised", "oracle"]

PARTS: dict[str, tuple[str, ...]] = {
    "classifier": CLASSIFIERS,
    "family": get_args(Family),
    "localisation": get_args(Localisation),
}
"""What may be the user's own, by key, and the names of ours."""


_OF_A_USER = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"
_PATTERNS = {key: f"^({'|'.join(ours)}|{_OF_A_USER})$" for key, ours in PARTS.items()}
_OWN = {"type": "string", "pattern": f"^{_OF_A_USER}$", "maxLength": 256, "description": "one of your own"}
_SCHEMAS = {key: WithJsonSchema({"anyOf": [{"enum": [*ours]}, _OWN]}) for key, ours in PARTS.items()}
_Classifier = Annotated[str, Field(max_length=256, pattern=_PATTERNS["classifier"]), _SCHEMAS["classifier"]]
_Family = Annotated[str, Field(max_length=256, pattern=_PATTERNS["family"]), _SCHEMAS["family"]]
_Localisation = Annotated[str, Field(max_length=256, pattern=_PATTERNS["localisation"]), _SCHEMAS["localisation"]]
_Layer = Annotated[int, Field(ge=0, le=64)]

MODELS: dict[str, dict[str, Any]] = {}
"""The models by name: each classifier by itself, and the first three behind a transformer of each family; affine needs
no ending."""
for _classifier, _parts in {
    "cnn": {"localisation": "conv"},
    "cnn_paper": {"localisation": "conv_paper", "supersampling": "auto"},
    "fcn": {"localisation": "fc_paper", "supersampling": "auto"},
}.items():
    MODELS[_classifier] = {"classifier": _classifier}
    for _family in get_args(Family):
        _name = f"st_{_classifier}" if _family == "affine" else f"st_{_classifier}_{_family}"
        MODELS[_name] = {"classifier": _classifier, "transformer": {"family": _family, **_parts}}
    for _name in READ_OFF:
        MODELS[f"st_{_classifier}_{_name}"] = {
            "classifier": _classifier,
            "transformer": {**_parts, "family": "similarity", "localisation": _name, "coordinates": True},
        }
MODELS |= {_classifier: {"classifier": _classifier} for _classifier in CLASSIFIERS}


class TransformerSpec(Spec):
    """Spatial transformers, all of one kind, in front of a classifier or between its layers."""

    family: _Family = Field(
        "affine", description="the transformations that it can make, or `package.module:name` of your own"
    )
    control_points: int = Field(4, ge=2, le=8, description="tps: control points along each side")
    localisation: _Localisation = Field(
        "conv", description="the localisation network, or `package.module:function` of your own"
    )
    # At its default, a key that joined later is no part of what a trial writes: older trials stay the same.
    localisation_from: Folder | None = Field(
        None,
        exclude_if=operator.not_,
        description="a checkpoint.pt, whose localisation network this one starts from; the classifier starts afresh",
    )
    freeze: bool = Field(
        False,
        exclude_if=operator.not_,
        description="with localisation_from: the localisation network stays as it is there, and only the classifier "
        "learns",
    )
    bounds: Annotated[float, Field(ge=LEAST, le=100)] | None = Field(
        None,
        exclude_if=operator.not_,
        description="by how much each number of theta may differ from the identity's at most: what is predicted goes "
        "through tanh; any amount if not given",
    )
    padding: Literal["zeros", "border", "reflection"] = Field(
        "zeros",
        exclude_if="zeros".__eq__,
        description="what is read outside the image: zeros; the pixel at the border; or the image, mirrored there",
    )
    supersampling: Literal["auto"] | Annotated[int, Field(ge=1, le=4)] = Field(
        1,
        description="of a transformer at the input: each pixel that it puts out is the mean of so many points along "
        "each side; auto: as many as the image has pixels for it",
    )
    before: Annotated[tuple[_Layer, ...], Field(strict=False, min_length=1, max_length=8)] = Field(
        (0,), description="before which layers of the classifier; 0 is the input; a number twice: two in a row"
    )
    output_size: Size = Field(
        AS_THE_SOURCE,
        description="height and width of what a transformer at the input puts out, in pixels; a number below 8 is a "
        "factor of the source's own size",
    )
    coordinates: Literal["canonical"] | bool = Field(
        False,
        description="whether the classifier also reads where in the image, x and y, each pixel was sampled: two more "
        "channels; canonical: along the axes of the output, so that they stay the same where image and output turn",
    )
    angle_noise: float = Field(
        0.0,
        ge=0,
        le=90,
        exclude_if=operator.not_,
        description="localisation equivariant: in training, what the classifier reads is turned further, at random by "
        "so many degrees (the standard deviation): the angle of a new image is less sure than that of one learnt from",
    )
    parallel: int = Field(
        1, ge=1, le=8, description="how many in parallel: each reads every channel, and all that they put out goes on"
    )

    pose: Pose = Field(
        "predicted",
        description="by the localisation network; or, as controls: always the identity; by a localisation network that "
        "learns the true pose, which training tells it, and nothing else; or the true pose itself",
    )

    @property
    def is_single(self) -> bool:
        """Whether it is one transformer, at the input."""
        return (self.before, self.parallel) == ((0,), 1)

    @property
    def can_be_controlled(self) -> bool:
        """Whether it is a single transformer, of a kind that can stay at the identity."""
        return self.is_single and self.localisation not in READ_OFF

    @model_validator(mode="after")
    def _goes_together(self) -> "TransformerSpec":
        if self.pose != "predicted" and not self.is_single:
            raise ValueError(
                f"pose {self.pose} is for one transformer at the input: leave out pose, or before and parallel"
            )
        if self.coordinates and not self.is_single:
            raise ValueError(
                "coordinates are for one transformer at the input: leave out coordinates, or before and parallel"
            )
        if self.localisation in READ_OFF and self.family not in ("similarity", "rotation"):
            raise ValueError(
                f"localisation {self.localisation} predicts similarities or rotations, and this is {self.family}; set "
                "family: similarity"
            )
        if self.angle_noise and self.localisation != "equivariant":
            raise ValueError(
                f"angle_noise is for localisation equivariant, and this is {self.localisation}; leave out angle_noise"
            )
        if self.localisation in READ_OFF and self.bounds is not None:
            raise ValueError(
                f"bounds are not for localisation {self.localisation}, which turns all around; leave out bounds"
            )
        if self.localisation_from is not None and (self.pose != "predicted" or not self.is_single):
            raise ValueError(
                "localisation_from is for one transformer at the input that predicts its pose; leave it out, or pose, "
                "before and parallel"
            )
        if self.freeze and self.localisation_from is None:
            raise ValueError(
                "freeze keeps what localisation_from names: add that; for a transformer that never moves, set pose: "
                "identity"
            )
        if self.localisation in READ_OFF and self.pose != "predicted":
            raise ValueError(f"localisation {self.localisation} has no control with pose {self.pose}; leave out pose")
        if self.parallel > 1 and any(self.before):
            raise ValueError(
                "parallel transformers stand at the input, where the classifier is made for all their channels; leave "
                "out parallel, or before"
            )
        if self.control_points != 4 and self.family != "tps":
            raise ValueError(
                f"control_points {self.control_points} is for the family tps, and this is {self.family}; leave it out"
            )
        if self.output_size != (DIGIT, DIGIT) and 0 not in self.before:
            raise ValueError(
                "output_size is for a transformer at the input, and one between layers puts out as many pixels as it "
                "reads; leave it out, or add 0 to before"
            )
        if self.supersampling not in ("auto", 1) and 0 not in self.before:
            raise ValueError(
                f"supersampling {self.supersampling} is for a transformer at the input; leave it out, or add 0 to "
                "before"
            )
        return self


ElasticAugmentation = Annotated[float, Field(ge=0, le=LARGEST_SIDE)]


class TunedSpec(Spec):
    """What tuning found for one model: it takes the place of the same keys under `training`."""

    trials: int = Field(ge=1, le=10_000, description="settings that were tried to find these, on validation digits")
    lr: LearningRate | None = Field(None, description="in place of training.lr")
    localisation_lr: LocalisationLr | None = Field(None, description="in place of training.localisation_lr")
    weight_decay: WeightDecay | None = Field(None, description="in place of training.weight_decay")
    elastic_augmentation: ElasticAugmentation | None = Field(
        default=None, description="in place of training.elastic_augmentation; `stn-train tune` leaves it as it is"
    )


class ModelSpec(Spec):
    """A classifier, with or without spatial transformers."""

    presets = MODELS

    name: Name = Field(description="what tables and folders call it")
    classifier: _Classifier = Field(
        description="the network that classifies: one of ours, or `package.module:function` of your own"
    )
    transformer: TransformerSpec | None = Field(
        None, description="spatial transformers in front of it or inside it; none if not given"
    )
    tta_angles: TtaAngles = Field(
        (),
        description="test-time augmentation: in evaluation, the network reads each image also turned clockwise by each "
        "of so many degrees, and the mean of its probabilities decides",
    )
    rotation_augmentation: Degrees | None = Field(
        None,
        exclude_if=operator.not_,
        description="in training alone, images are turned by an angle of this interval, in degrees, in place of the "
        "dataset's own rotation; tests stay as they are",
    )
    tuned: TunedSpec | None = Field(
        None,
        exclude=True,  # from what a trial writes, whose `training` has these values
        description="this model's own lr, localisation_lr and weight_decay, as `stn-train tune` writes them, and "
        "elastic_augmentation",
    )

    @property
    def pose(self) -> Pose:
        """Where the poses of its transformer come from; see TransformerSpec."""
        return "predicted" if self.transformer is None else self.transformer.pose

    @property
    def localises(self) -> bool:
        """Whether it has a localisation network that learns."""
        transformer = self.transformer
        if transformer is None or transformer.freeze or transformer.localisation == "moments":
            return False
        return self.pose in ("predicted", "supervised")

    @property
    def own_parts(self) -> tuple[tuple[str, str], ...]:
        """The user's own parts in it, whose code is run: their keys and names, as ("classifier", "my_package:Net")."""
        named = [("classifier", self.classifier)]
        if self.transformer is not None:
            named += [("family", self.transformer.family), ("localisation", self.transformer.localisation)]
        return tuple((key, name) for key, name in named if ":" in name)


def controls_of(model: ModelSpec) -> tuple[ModelSpec, ...]:
    """The controls of a model: its transformer frozen at the identity, taught the true pose, and given it.

    None of a control. Raises ValueError where their names are too long.
    """
    transformer = model.transformer
    if transformer is None or transformer.pose != "predicted" or not transformer.can_be_controlled:
        return ()
    for name in control_names(model.name):
        if len(name) > LONGEST_NAME:
            raise ValueError(f"{name} is a control's name of more than {LONGEST_NAME} characters; shorten it")
    return tuple(
        model.changed(name=name, transformer=transformer.changed(pose=pose, localisation_from=None, freeze=False))
        for name, pose in zip(control_names(model.name), ("identity", "supervised", "oracle"), strict=True)
    )


def control_names(model: str) -> tuple[str, str, str]:
    """The names of a model's controls: frozen at the identity, taught the true pose, and given it."""
    return f"{model}-identity", f"{model}-supervised", f"{model}-oracle"


def baseline_of(model: ModelSpec, models: tuple[ModelSpec, ...]) -> ModelSpec | None:
    """The model that `model` is compared with: the first without transformer that is like it in all of `_ALIKE`."""
    if model.transformer is None:
        return None
    alike = (other for other in models if all(getattr(other, key) == getattr(model, key) for key in _ALIKE))
    return next((other for other in alike if other.transformer is None), None)


_ALIKE = ("classifier", "tta_angles", "rotation_augmentation")
