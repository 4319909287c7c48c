"""Experiments, and the trials that they are made of."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from stn_train.specs.datasets import DatasetSpec
from stn_train.specs.fields import Folder, Name, Parameters, Spec, merged
from stn_train.specs.models import ModelSpec, controls_of
from stn_train.specs.training import MOST_EPOCHS, RECIPES, EpochMultiplierSpec, TrainingSpec

Source = Literal["mnist", "fashion_mnist", "kmnist", "digits"]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]

MOST = 100
"""Datasets, or models, of an experiment."""


class ExperimentSpec(Spec):
    """The product of datasets, models and seeds, all trained by one recipe on one source of digits."""

    name: Name
    source: Source = Field("mnist", description="where the digits come from; `digits` needs no network")
    data_root: Folder | None = Field(None, description="folder of the digits, as torchvision lays it out")
    prebuilt: Folder | None = Field(
        None, description="folder of prebuilt data sets to train on, instead of online ones"
    )
    datasets: Annotated[tuple[DatasetSpec, ...], Field(strict=False, min_length=1, max_length=MOST)]
    controls: bool = Field(
        False,
        description="add three controls to each model with a transformer at the input: frozen, supervised by the true "
        "pose, and given it",
    )
    models: Annotated[tuple[ModelSpec, ...], Field(strict=False, min_length=1, max_length=MOST)]
    parameters: Parameters | None = Field(None, description="budget that each model's width is fitted to, within 2 %")
    recipe: Literal["default", "paper"] = "default"
    training: TrainingSpec = Field(description="changes to the recipe")
    epoch_multiplier: EpochMultiplierSpec | None = Field(
        None, description="by classifier: how many times as many epochs its models train, bare or transformed"
    )
    seeds: Annotated[tuple[Seed, ...], Field(strict=False, min_length=1, max_length=1000)] = (0,)
    validation: bool = Field(False, description="hold out a sixth of the training digits and report on them: to tune")

    @model_validator(mode="before")
    @classmethod
    def _recipe_under_training(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        recipe, training = value.get("recipe", "default"), value.get("training", {})
        if not isinstance(recipe, str) or recipe not in RECIPES or not isinstance(training, Mapping):
            return value
        return {**value, "training": merged(RECIPES[recipe], training)}

    @model_validator(mode="after")
    def _goes_together(self) -> "ExperimentSpec":
        if self.prebuilt is not None:
            drawn = [key for key in ("elastic_augmentation", "curriculum", "train_size") if getattr(self.training, key)]
            for key in [f"training.{key}" for key in drawn] + ["validation"] * self.validation:
                raise ValueError(
                    f"{key} does not go with prebuilt data sets, whose digits and images are fixed; leave one out"
                )
        for model in self.models:
            epochs = self.training.epochs * int(getattr(self.epoch_multiplier, model.classifier, 1))
            if epochs > MOST_EPOCHS:
                raise ValueError(
                    f"epoch_multiplier gives {model.name} {epochs:,} epochs, and at most {MOST_EPOCHS:,} are allowed; "
                    f"lower epoch_multiplier.{model.classifier} or training.epochs"
                )
        if not any(_has_pose(dataset, model) for dataset in self.datasets for model in self.models):
            models, datasets = (", ".join(entry.name for entry in entries) for entries in (self.models, self.datasets))
            raise ValueError(
                f"no trial is left: {models} need the true pose, and images of {datasets} have none that is a matrix; "
                "add another model or dataset"
            )
        return self

    @field_validator("models")
    @classmethod
    def _with_controls(cls, models: tuple[ModelSpec, ...], info: ValidationInfo) -> tuple[ModelSpec, ...]:
        """Each model followed by its controls, where `controls` asks for them and none is named yet."""
        if not info.data.get("controls"):
            return models
        names = {model.name for model in models}
        controls = (controls_of(model) for model in models)
        added = (() if any(one.name in names for one in of_model) else of_model for of_model in controls)
        everything = tuple(entry for model, new in zip(models, added, strict=True) for entry in (model, *new))
        if len(everything) > MOST:
            raise ValueError(f"with their controls these are {len(everything)} models, and at most {MOST} are allowed")
        return everything

    @field_validator("datasets", "models", "seeds")
    @classmethod
    def _no_twins(cls, entries: tuple[Any, ...]) -> tuple[Any, ...]:
        no_twins(entries)
        return entries


def no_twins(entries: tuple[Any, ...]) -> None:
    """Raise ValueError where an entry, or its name, stands in a list twice.

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
    def key(self) -> str:
        """The trial's place below `trials/`, for instance `rts/st_cnn/seed-0`."""
        return f"{self.dataset.name}/{self.model.name}/seed-{self.seed}"


def trials_of(experiment: ExperimentSpec, only: str = "*") -> list[TrialSpec]:
    """The trials of an experiment whose `dataset/model` matches the pattern `only`.

    A model that needs the true pose has none on a dataset without such a thing. Seeds come outermost, so that a run
    stopped half-way has whole comparisons.
    """
    return [
        TrialSpec(
            source=experiment.source,
            prebuilt=experiment.prebuilt is not None,
            dataset=dataset,
            model=model,
            parameters=experiment.parameters,
            training=_training_of(model, experiment),
            seed=seed,
            validation=experiment.validation,
        )
        for seed in experiment.seeds
        for dataset in experiment.datasets
        for model in experiment.models
        if fnmatchcase(f"{dataset.name}/{model.name}", only) and _has_pose(dataset, model)
    ]


def _has_pose(dataset: DatasetSpec, model: ModelSpec) -> bool:
    """Whether there is a true pose where a model needs one."""
    return dataset.has_true_pose or model.pose not in ("supervised", "oracle")


def _training_of(model: ModelSpec, experiment: ExperimentSpec) -> TrainingSpec:
    """The recipe as far as it concerns a model: without localisation networks, what concerns them is not part of it."""
    times = int(getattr(experiment.epoch_multiplier, model.classifier, 1))
    changes: dict[str, Any] = {"epochs": times * experiment.training.epochs}
    if model.transformer is None:
        changes |= {"localisation_lr": 1.0, "classifier_delay": 0.0}
    return experiment.training.changed(**changes)
