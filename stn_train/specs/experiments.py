"""Experiments, the recipes that they train by, and the trials that they are made of."""

import operator
from collections.abc import Mapping
from fnmatch import fnmatchcase
from itertools import pairwise, product
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from stn_train.specs.datasets import MOST_CLASSES, SOURCES, DatasetSpec, SourceSpec
from stn_train.specs.fields import (
    LEAST,
    Folder,
    LearningRate,
    LocalisationLr,
    Name,
    Parameters,
    Spec,
    WeightDecay,
    no_twins,
)
from stn_train.specs.models import CLASSIFIERS, READ_OFF, ElasticAugmentation, ModelSpec, controls_of

_SOURCE_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"enum": [*SOURCES]},
        {"type": "string", "maxLength": 4096, "description": "a file or a folder of your own images"},
        {
            "type": "object",
            "properties": {
                "path": {"type": "string", "maxLength": 4096},
                "split_seed": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
            },
            "required": ["path"],
        },
    ]
}
Source = Annotated[SourceSpec, WithJsonSchema(_SOURCE_SCHEMA)]
SOURCE_FIELD = Field(
    SourceSpec.model_validate("mnist"),
    description="where the images come from: a name (`digits` needs no network), or the path of your own",
)
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Seeds = Annotated[tuple[Seed, ...], Field(strict=False, min_length=1, max_length=1000), AfterValidator(no_twins)]

MOST = 100
"""Datasets, or models, of an experiment."""
MOST_EPOCHS = 10_000
LEAST_TRAIN_SIZE = 100
_Epochs = Annotated[int, Field(ge=1, le=MOST_EPOCHS)]


class TrainingSpec(Spec):
    """A recipe: how a model is trained."""

    epochs: int = Field(ge=1, le=MOST_EPOCHS, description="how many times all training digits are shown")
    batch_size: int = Field(ge=2, le=16_384, description="images in a step; batch normalisation needs two")
    optimizer: Literal["adamw", "muon", "sgd"] = Field(
        description="muon: for the weights of hidden layers; AdamW for the rest"
    )
    lr: LearningRate = Field(description="the highest learning rate of the schedule")
    schedule: Literal["one_cycle", "steps"] = Field(
        description="one_cycle: up and down once; steps: divided by 10 after each third"
    )
    warmup: float = Field(
        0.2, ge=LEAST, lt=1, description="one_cycle: the share of all steps in which the rate goes up"
    )
    weight_decay: WeightDecay = Field(description="of weights, not of biases and normalisation; 0: none")
    label_smoothing: float = Field(ge=0, lt=1, description="the share of a label that goes to all classes alike")
    ema_decay: float = Field(ge=0, lt=1, description="decay per step of the average of the weights; 0: none")
    grad_clip: float | None = Field(ge=LEAST, le=1_000_000, description="largest norm of the gradient; null: no limit")
    localisation_lr: LocalisationLr = Field(description="learning rate of localisation networks, as a factor of lr")
    classifier_delay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="the share of all steps in which only the localisation networks learn at the full rate, and all "
        "else at a tenth",
    )
    precision: Literal["auto", "float32"] = Field(description="auto: bfloat16 where the hardware computes in it")
    elastic_augmentation: ElasticAugmentation = Field(
        0.0,
        description="how far each training digit is bent before it is distorted, in pixels: the standard deviation of "
        "4 x 4 control points; its ink's centre stays where it is",
    )
    curriculum: float = Field(
        0.0,
        ge=0,
        le=1,
        description="the share of all epochs over which the training digits' distortions grow, from upright in the "
        "middle to all that the dataset asks for, in the last epoch at the latest; clutter is there from the start",
    )
    restarts: Annotated[tuple[_Epochs, ...], Field(strict=False, max_length=100)] = Field(
        (),
        exclude_if=operator.not_,
        description="after so many epochs the schedule begins anew, for the epochs that follow; `run --extend` sets it",
    )
    train_size: int | None = Field(
        None,
        ge=LEAST_TRAIN_SIZE,
        le=1_000_000,
        description="how many of the training digits are used; all of them if not given. An epoch is that much "
        "shorter; epoch_multiplier makes up for it",
    )

    def cycle(self, epoch: int) -> tuple[int, int]:
        """From which epoch to which the learning rate follows its schedule once; `epoch`, from 0 on, is one of them."""
        ends = (0, *self.restarts, self.epochs)
        return next((start, end) for start, end in pairwise(ends) if epoch < end)


_Times = Annotated[int, Field(ge=1, le=1000)]
_Classifier = Literal["cnn", "cnn_paper", "fcn", "group_cnn", "ti_pooling", "polar_cnn", "vit", "other"]
_TimesByClassifier = dict[_Classifier, _Times]


def for_every_classifier(value: Any) -> Any:
    """Of a number the mapping that it stands for: the same for each of our classifiers and for all `other`."""
    return dict.fromkeys((*CLASSIFIERS, "other"), value) if isinstance(value, int | float | str) else value


_EpochMultiplier = Annotated[
    _TimesByClassifier, BeforeValidator(for_every_classifier, json_schema_input_type=_Times | _TimesByClassifier)
]

RECIPES: dict[str, dict[str, Any]] = {
    "default": {
        "epochs": 20,
        "batch_size": 256,
        "optimizer": "adamw",
        "lr": 0.003,
        "schedule": "one_cycle",
        "warmup": 0.2,
        "weight_decay": 0.01,
        "label_smoothing": 0.0,
        "ema_decay": 0.995,
        "grad_clip": 1.0,
        "localisation_lr": 0.05,
        "classifier_delay": 0.0,
        "precision": "auto",
        "elastic_augmentation": 0.0,
        "curriculum": 0.0,
    },
    "paper": {
        "epochs": 640,
        "batch_size": 256,
        "optimizer": "sgd",
        "lr": 0.01,
        "schedule": "steps",
        "warmup": 0.2,
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "ema_decay": 0.0,
        "grad_clip": None,
        "localisation_lr": 1.0,
        "classifier_delay": 0.0,
        "precision": "float32",
        "elastic_augmentation": 0.0,
        "curriculum": 0.0,
    },
}
"""Recipes by name; `paper` is appendix A's: 150 k iterations are 640 epochs of 60 k digits."""


def divergence_advice(recipe: TrainingSpec, transforms: bool) -> str:
    """What to try where a training diverges, by what is set: what is above the recipe's own value comes first."""
    usual = RECIPES["paper" if recipe.optimizer == "sgd" else "default"]
    said = {"lr": "", **({"localisation_lr": "a factor of lr; "} if transforms else {})}
    above = [
        f"a training.{key} below {getattr(recipe, key):g} ({what}the recipe has {usual[key]:g})"
        for key, what in said.items()
        if getattr(recipe, key) > usual[key]
    ]
    if above:
        return "try " + " and ".join(above)
    tries = [f"a training.localisation_lr below {recipe.localisation_lr:g} (a factor of lr)"] * transforms
    tries += ["training.grad_clip=1"] * (recipe.grad_clip is None)
    return "try " + " or ".join([*tries, f"a training.lr below {recipe.lr:g}"])


def stillness_advice(recipe: TrainingSpec) -> str:
    """What to try where a transformer stays at the identity: what is below the recipe's own value comes first."""
    usual = RECIPES["paper" if recipe.optimizer == "sgd" else "default"]
    if recipe.lr < usual["lr"]:
        return f"try a training.lr above {recipe.lr:g} (the recipe has {usual['lr']:g})"
    return f"try a training.localisation_lr above {recipe.localisation_lr:g} (a factor of lr), or more training.epochs"


class ExperimentSpec(Spec):
    """The product of datasets, models and seeds, all trained by one recipe on images of one source."""

    name: Name = Field(description="what the folder of its results is called; the file's name if not given")
    source: Source = SOURCE_FIELD
    data_root: Folder | None = Field(None, description="folder of the source, as torchvision lays it out")
    prebuilt: Folder | None = Field(
        None, description="folder of prebuilt data sets to train on, instead of online ones"
    )
    datasets: Annotated[
        tuple[DatasetSpec, ...], Field(strict=False, min_length=1, max_length=MOST), AfterValidator(no_twins)
    ] = Field(description="presets by name, changed presets (`{name: mine, base: rts, rotation: 20}`), or all keys")
    controls: bool = Field(
        False,
        description="add three controls to each model with a transformer at the input: frozen, supervised by the true "
        "pose, and given it",
    )
    models: Annotated[
        tuple[ModelSpec, ...], Field(strict=False, min_length=1, max_length=MOST), AfterValidator(no_twins)
    ] = Field(description="presets by name, changed presets, or all keys")
    parameters: Parameters | None = Field(None, description="budget that each model's width is fitted to, within 2 %")
    recipe: Literal["default", "paper"] = Field("default", description="how all models are trained")
    training: TrainingSpec = Field(description="changes to the recipe")
    epoch_multiplier: _EpochMultiplier | None = Field(
        None,
        description="how many times as many epochs models train: one number, or a mapping by classifier, such as "
        "`{fcn: 5}`; `other` is every classifier that is not ours",
    )
    seeds: Seeds = Field((0,), description="one training for each; they decide weights, order and distortions")
    robustness: bool = Field(
        False,
        description="ask each trained network about all angles, scales and places, as `stn-train robustness` does",
    )
    validation: bool = Field(False, description="hold out a sixth of the training digits and report on them: to tune")

    @model_validator(mode="before")
    @classmethod
    def _recipe_under_training(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        recipe, training = value.get("recipe", "default"), value.get("training", {})
        if not isinstance(recipe, str) or recipe not in RECIPES or not isinstance(training, Mapping):
            return value
        return {**value, "training": {**RECIPES[recipe], **training}}

    @model_validator(mode="after")
    def _goes_together(self) -> "ExperimentSpec":
        if self.prebuilt is not None:
            drawn = [key for key in ("elastic_augmentation", "curriculum", "train_size") if getattr(self.training, key)]
            turned = any(model.rotation_augmentation for model in self.models)
            bent = any(model.tuned and model.tuned.elastic_augmentation for model in self.models)
            augmented = ["rotation_augmentation"] * turned + ["tuned.elastic_augmentation"] * bent
            for key in [f"training.{key}" for key in drawn] + ["validation"] * self.validation + augmented:
                raise ValueError(
                    f"{key} does not go with prebuilt data sets, whose digits and images are fixed; leave one out"
                )
        for dataset in self.datasets:
            if self.source.classes and (dataset.addition or dataset.clutter is not None):
                check_source(dataset, self.source)
        ends = (*self.training.restarts, self.training.epochs)
        if list(ends) != sorted(set(ends)):
            raise ValueError("training.restarts has to ascend, and to stay below training.epochs")
        trials = trials_of(self.model_copy(update={"seeds": self.seeds[:1]}))
        for trial in trials:
            if trial.training.epochs > MOST_EPOCHS:
                raise ValueError(
                    f"epoch_multiplier gives {trial.model.name} {trial.training.epochs:,} epochs, and at most "
                    f"{MOST_EPOCHS:,} are allowed; lower epoch_multiplier or training.epochs"
                )
        if not trials:
            models, datasets = (", ".join(entry.name for entry in entries) for entries in (self.models, self.datasets))
            raise ValueError(
                f"no trial is left: {models} need the true pose, and images of {datasets} have none that is known "
                "and a matrix; add another model or dataset"
            )
        return self

    @field_validator("models")
    @classmethod
    def _with_controls(cls, models: tuple[ModelSpec, ...], info: ValidationInfo) -> tuple[ModelSpec, ...]:
        """Each model followed by its controls, where `controls` asks for them and none is named yet.

        Raises ValueError where a model cannot read a dataset.
        """
        added = [dataset.name for dataset in info.data.get("datasets", ()) if dataset.addition]
        for model in models:
            if added and model.transformer and model.transformer.localisation in READ_OFF:
                raise ValueError(
                    f"{model.name} turns an image by its one digit (localisation: {model.transformer.localisation}), "
                    f"and images of {added[0]} show two; leave one of them out"
                )
        if not info.data.get("controls"):
            return models
        names = {model.name for model in models}
        controls = (controls_of(model) for model in models)
        new = (() if any(one.name in names for one in of_model) else of_model for of_model in controls)
        everything = tuple(entry for model, its in zip(models, new, strict=True) for entry in (model, *its))
        if len(everything) > MOST:
            raise ValueError(f"with their controls these are {len(everything)} models, and at most {MOST} are allowed")
        return no_twins(everything)


class TrialSpec(Spec):
    """One training: a model on a dataset with a seed. What is written here is the trial's identity."""

    source: Source
    prebuilt: bool
    dataset: DatasetSpec
    model: ModelSpec
    parameters: Parameters | None
    training: TrainingSpec
    seed: Seed
    validation: bool

    @property
    def channels(self) -> int:
        """Channels of an image that a network reads."""
        return 2 if self.dataset.addition else self.source.channels

    @property
    def classes(self) -> int:
        """How many labels there are."""
        known = len(self.source.classes)
        return 2 * known - 1 if self.dataset.addition else known

    @property
    def class_names(self) -> tuple[str, ...]:
        """What tables and pictures call the classes."""
        return tuple(map(str, range(self.classes))) if self.dataset.addition else self.source.classes

    @property
    def key(self) -> str:
        """The trial's place below `trials/`, for instance `rts/st_cnn/seed-0`."""
        return f"{self.dataset.name}/{self.model.name}/seed-{self.seed}"

    @property
    def split(self) -> Literal["test", "validation"]:
        """The digits that it is measured on."""
        return "validation" if self.validation else "test"


def has_true_pose(dataset: DatasetSpec, source: SourceSpec) -> bool:
    """Whether the pose of an image is known, and a matrix, so that a transformer can be given it.

    Not that of rotated MNIST's and of one's own images, taken as they are: they may have come distorted.
    """
    return dataset.has_true_pose and pose_is_known(dataset, source)


def pose_is_known(dataset: DatasetSpec, source: SourceSpec) -> bool:
    """Whether all that has been done to an image is known; of rotated MNIST and one's own, as they are, nothing is."""
    return (source.name != "" and not source.is_rotated_mnist) or dataset.distorts


def check_source(dataset: DatasetSpec, source: SourceSpec) -> None:
    """Raise ValueError where a distortion is not for the images of this source."""
    if dataset.addition and (source.channels > 1 or source.classes != tuple(map(str, range(len(source.classes))))):
        raise ValueError(f"{dataset.name} adds grey digits, and {source.label} has others; leave one of them out")
    if dataset.addition and 2 * len(source.classes) > MOST_CLASSES:
        raise ValueError(f"{dataset.name} adds labels, and those of {source.label} have too many sums; leave it out")
    if dataset.clutter is not None and dataset.clutter.size > min(source.size):
        raise ValueError(
            f"{dataset.name} has patches of {dataset.clutter.size} pixels, and the images of {source.label} have "
            f"{source.size[0]} x {source.size[1]}; lower clutter.size"
        )


def trials_of(experiment: ExperimentSpec, only: str = "*") -> list[TrialSpec]:
    """The trials of an experiment whose `dataset/model` matches the pattern `only`.

    A model that needs the true pose has none on a dataset without such a thing. Seeds come outermost, so that a run
    stopped half-way has whole comparisons. What a model was tuned to is in its trials' `training`.
    """
    trials, multiplier = [], cast(dict[str, int], experiment.epoch_multiplier or {})
    for seed, dataset, model in product(experiment.seeds, experiment.datasets, experiment.models):
        if not fnmatchcase(f"{dataset.name}/{model.name}", only):
            continue
        if model.pose in ("supervised", "oracle") and not has_true_pose(dataset, experiment.source):
            continue
        # What concerns localisation networks is no part of the recipe of a model without one.
        changes: dict[str, Any] = {"localisation_lr": 1.0, "classifier_delay": 0.0} if model.transformer is None else {}
        tuned = {} if model.tuned is None else model.tuned.model_dump(exclude={"trials"}, exclude_none=True)
        classifier = model.classifier if model.classifier in CLASSIFIERS else "other"
        times = multiplier.get(classifier, 1)
        changes |= {"epochs": times * experiment.training.epochs}
        changes |= {"restarts": tuple(times * epoch for epoch in experiment.training.restarts)}
        trials.append(
            TrialSpec(
                source=experiment.source,
                prebuilt=experiment.prebuilt is not None,
                dataset=dataset,
                model=model.model_copy(update={"tuned": None}),
                parameters=experiment.parameters,
                training=experiment.training.model_copy(update={**tuned, **changes}),
                seed=seed,
                validation=experiment.validation,
            )
        )
    return trials
