"""What an experiment is made of: datasets, models, recipes and their named presets, as frozen, checked types.

Torch-free. Every type refuses unknown keys, wrong types, NaN and values out of range; `stn_train.config` turns
those refusals into sentences with file and line.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from stn_train.errors import did_you_mean

DIGIT = 28
"""Height and width of a source digit's frame, in pixels."""


class Spec(BaseModel):
    """A frozen record that refuses unknown keys, silent type changes, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


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


def _pair_schema(low: float, high: float, alone: str, kind: str = "number") -> WithJsonSchema:
    number = {"type": kind, "minimum": low, "maximum": high}
    pair = {"type": "array", "items": number, "minItems": 2, "maxItems": 2}
    return WithJsonSchema({"anyOf": [{**number, "description": alone}, pair]})


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]

_Degrees = Annotated[float, Field(ge=-180, le=180)]
_ShearDegrees = Annotated[float, Field(ge=-75, le=75)]
_Share = Annotated[float, Field(ge=-1, le=1)]
_Factor = Annotated[float, Field(ge=0.1, le=10)]
_Pixels = Annotated[int, Field(ge=8, le=256)]
_Pair = Field(strict=False)

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


def _preset(value: Any, presets: Mapping[str, Mapping[str, Any]], kind: str) -> Any:
    """Resolve a preset's name, or `{name: mine, like: preset, ...changes}`, to a full mapping."""
    if isinstance(value, str):
        value = {"like": value}
    if not isinstance(value, Mapping) or "like" not in value:
        return value
    like = value["like"]
    if not isinstance(like, str) or like not in presets:
        raise ValueError(f"there is no {kind} preset {like!r}{did_you_mean(str(like), presets)}")
    changes = {key: change for key, change in value.items() if key != "like"}
    if changes and "name" not in changes:
        raise ValueError(f"a changed {kind} needs a name of its own beside `like: {like}`")
    return merged({"name": like, **presets[like]}, changes)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, mapping by mapping."""
    result = dict(base)
    for key, change in changes.items():
        below = result.get(key)
        result[key] = merged(below, change) if isinstance(below, Mapping) and isinstance(change, Mapping) else change
    return result


# --- datasets ---------------------------------------------------------------------------------------------------


class ClutterSpec(Spec):
    """Patches cut from other digits of the same split and placed at random (paper, appendix A, TC)."""

    patches: int = Field(6, ge=1, le=64, description="number of patches")
    size: int = Field(6, ge=1, le=DIGIT, description="height and width of a patch, in pixels")


class DatasetSpec(Spec):
    """A distortion of the digits: forwards, a digit is sheared, scaled, rotated, then placed on the canvas.

    Each quantity is drawn uniformly and independently for every image; one that is absent is not applied.
    """

    name: Name
    canvas: Size = Field((DIGIT, DIGIT), description="height and width of the image, in pixels")
    rotation: Degrees | None = Field(None, description="degrees, clockwise as seen")
    scale: Factors | None = Field(None, description="factor, the same for height and width")
    shear: ShearDegrees | None = Field(None, description="degrees, horizontal")
    translation: Share | None = Field(
        None, description="share of the room that the ink has on the canvas: -1 touches left or top, 1 right or bottom"
    )
    clutter: ClutterSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, value: Any) -> Any:
        return _preset(value, DATASETS, "dataset")

    @model_validator(mode="after")
    def _patches_fit(self) -> "DatasetSpec":
        if self.clutter is not None and self.clutter.size > min(self.canvas):
            raise ValueError(f"patches of {self.clutter.size} pixels do not fit on this canvas; make one of them fit")
        return self


DATASETS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rotation": {"rotation": 45},
    "translation": {"canvas": 42, "translation": 1},
    "scale": {"canvas": 42, "scale": [0.5, 1.5]},
    "shear": {"canvas": 42, "shear": 45},
    "r": {"rotation": 90},
    "rts": {"canvas": 42, "rotation": 45, "scale": [0.7, 1.2], "translation": 1},
    "tc": {"canvas": 60, "translation": 1, "clutter": {"patches": 6, "size": 6}},
}
"""The distortions by name; r, rts and tc are the paper's (appendix A)."""


# --- models -----------------------------------------------------------------------------------------------------


class TransformerSpec(Spec):
    """A spatial transformer in front of a classifier."""

    family: Literal["affine"] = "affine"
    localisation: Literal["conv", "keypoints", "conv_paper"] = Field("conv", description="the localisation network")
    output: Size = Field((DIGIT, DIGIT), description="height and width of what the transformer puts out, in pixels")


class ModelSpec(Spec):
    """A classifier, with or without a spatial transformer in front."""

    name: Name
    classifier: Literal["cnn", "cnn_paper"]
    transformer: TransformerSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, value: Any) -> Any:
        return _preset(value, MODELS, "model")


MODELS: dict[str, dict[str, Any]] = {
    "cnn": {"classifier": "cnn"},
    "st_cnn": {"classifier": "cnn", "transformer": {"family": "affine", "localisation": "conv"}},
    "cnn_paper": {"classifier": "cnn_paper"},
    "st_cnn_paper": {"classifier": "cnn_paper", "transformer": {"family": "affine", "localisation": "conv_paper"}},
}
"""The models by name."""


def baseline_of(model: ModelSpec, models: tuple[ModelSpec, ...]) -> ModelSpec | None:
    """The model that `model` is compared with: the first of the same classifier without a transformer."""
    if model.transformer is None:
        return None
    return next((other for other in models if other.classifier == model.classifier and not other.transformer), None)


# --- training ---------------------------------------------------------------------------------------------------


class TrainingSpec(Spec):
    """A recipe: how a model is trained."""

    epochs: int = Field(ge=1, le=10_000)
    batch_size: int = Field(ge=2, le=16_384, description="at least 2: batch normalisation compares images")
    optimiser: Literal["adamw", "sgd"]
    rate: float = Field(gt=0, le=100, description="the highest learning rate of the schedule")
    schedule: Literal["one_cycle", "steps"] = Field(
        description="one_cycle: up and down once; steps: divided by 10 after each third"
    )
    weight_decay: float = Field(ge=0, le=10)
    label_smoothing: float = Field(ge=0, lt=1)
    averaging: float = Field(ge=0, lt=1, description="decay per step of the average of the weights; 0: none")
    clip: float | None = Field(gt=0, description="largest norm of the gradient")
    localisation_rate: float = Field(gt=0, le=1000, description="factor on the rate for the localisation network")
    precision: Literal["auto", "float32"] = Field(description="auto: bfloat16 where the hardware computes in it")


RECIPES: dict[str, dict[str, Any]] = {
    "ours": {
        "epochs": 20,
        "batch_size": 256,
        "optimiser": "adamw",
        "rate": 0.003,
        "schedule": "one_cycle",
        "weight_decay": 0.01,
        "label_smoothing": 0.0,
        "averaging": 0.995,
        "clip": 1.0,
        "localisation_rate": 0.05,
        "precision": "auto",
    },
    "paper": {
        "epochs": 640,
        "batch_size": 256,
        "optimiser": "sgd",
        "rate": 0.01,
        "schedule": "steps",
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "averaging": 0.0,
        "clip": None,
        "localisation_rate": 1.0,
        "precision": "float32",
    },
}
"""Recipes by name; `paper` is appendix A's: 150 k iterations are 640 epochs of 60 k digits."""


# --- experiments ------------------------------------------------------------------------------------------------

Source = Literal["mnist", "fashion_mnist", "kmnist", "digits"]
_Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]


class ExperimentSpec(Spec):
    """The product of datasets, models and seeds, all trained by one recipe on one source of digits."""

    name: Name
    source: Source = Field("mnist", description="where the digits come from; `digits` needs no network")
    data_root: str | None = Field(None, min_length=1, description="folder of the digits, as torchvision lays it out")
    built: str | None = Field(None, min_length=1, description="folder of built variants to train on, for fresh ones")
    datasets: Annotated[tuple[DatasetSpec, ...], Field(strict=False, min_length=1, max_length=100)]
    models: Annotated[tuple[ModelSpec, ...], Field(strict=False, min_length=1, max_length=100)]
    parameters: int | None = Field(
        None, ge=1_000, le=100_000_000, description="budget that each model's width is fitted to, within 2 %"
    )
    recipe: Literal["ours", "paper"] = "ours"
    training: TrainingSpec = Field(description="changes to the recipe")
    seeds: Annotated[tuple[_Seed, ...], Field(strict=False, min_length=1, max_length=1000)] = (0,)
    validation: bool = Field(False, description="hold out a sixth of the training digits and report on them: to tune")

    @model_validator(mode="before")
    @classmethod
    def _recipe_under_training(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        recipe, training = value.get("recipe", "ours"), value.get("training", {})
        if not isinstance(recipe, str) or recipe not in RECIPES or not isinstance(training, Mapping):
            return value
        return {**value, "training": merged(RECIPES[recipe], training)}

    @model_validator(mode="after")
    def _tune_on_fresh_images(self) -> "ExperimentSpec":
        if self.validation and self.built is not None:
            raise ValueError(
                "validation does not go with built variants, which hold nothing out; leave one of them out"
            )
        return self

    @field_validator("datasets", "models")
    @classmethod
    def _names_once(cls, entries: tuple[Any, ...]) -> tuple[Any, ...]:
        _no_twins([entry.name for entry in entries], "the name")
        return entries

    @field_validator("seeds")
    @classmethod
    def _seeds_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        _no_twins(list(seeds), "the seed")
        return seeds


def _no_twins(values: list[Any], what: str) -> None:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"{what} {value} stands here twice; give each its own")


class TrialSpec(Spec):
    """One training: a model on a dataset with a seed. What is written here is the trial's identity."""

    source: Source
    built: bool
    dataset: DatasetSpec
    model: ModelSpec
    parameters: int | None
    training: TrainingSpec
    seed: int
    validation: bool

    @property
    def key(self) -> str:
        """The trial's place below `trials/`, for instance `rts/st_cnn/seed-0`."""
        return f"{self.dataset.name}/{self.model.name}/seed-{self.seed}"


def trials_of(experiment: ExperimentSpec, only: str = "*") -> list[TrialSpec]:
    """The trials of an experiment whose `dataset/model` matches the pattern `only`.

    Seeds come outermost, so that a run stopped half-way has whole comparisons.
    """
    return [
        TrialSpec(
            source=experiment.source,
            built=experiment.built is not None,
            dataset=dataset,
            model=model,
            parameters=experiment.parameters,
            training=_training_of(model, experiment.training),
            seed=seed,
            validation=experiment.validation,
        )
        for seed in experiment.seeds
        for dataset in experiment.datasets
        for model in experiment.models
        if fnmatchcase(f"{dataset.name}/{model.name}", only)
    ]


def _training_of(model: ModelSpec, training: TrainingSpec) -> TrainingSpec:
    """The recipe as far as it concerns a model: without a localisation network, its rate is not part of the trial."""
    return training if model.transformer else training.model_copy(update={"localisation_rate": 1.0})
