"""Co-localisation: a transformer learns, without labels, to find what all images show (paper, appendix A.2)."""

from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from stn_train.specs.datasets import DatasetSpec, SourceSpec
from stn_train.specs.experiments import MOST, RECIPES, SOURCE_FIELD, Seed, Source, TrainingSpec, TrialSpec
from stn_train.specs.fields import DIGIT, Folder, LearningRate, Name, Parameters, Spec, no_twins
from stn_train.specs.models import Localisation, ModelSpec

_Class = Annotated[int, Field(ge=0, le=9)]


_PLACED = {"name", "canvas", "translation", "placement", "whole_pixels", "clutter"}
"""What does not distort a digit, of the keys of a dataset."""


def _only_moved(dataset: DatasetSpec) -> DatasetSpec:
    distorted = {key for key, value in dataset if value} - _PLACED
    if distorted or dataset.canvas[0] != dataset.canvas[1]:
        raise ValueError(
            "what is scored is a digit's upright box, so a dataset of a co-localisation has translation and clutter on "
            "a square canvas, and nothing else"
        )
    return dataset


_Moved = Annotated[DatasetSpec, AfterValidator(_only_moved)]


class EncoderSpec(Spec):
    """The network whose activations say how alike two crops are: the paper's CNN, trained with labels beforehand."""

    dataset: DatasetSpec = Field(description="the digits that it is trained on, each on a canvas of a digit's size")
    parameters: Parameters = Field(description="budget that its width is fitted to, within 2 %")
    epochs: int = Field(ge=1, le=10_000, description="how many times all training digits are shown")

    @field_validator("dataset")
    @classmethod
    def _as_large_as_a_crop(cls, dataset: DatasetSpec) -> DatasetSpec:
        if dataset.canvas != (DIGIT, DIGIT) or dataset.addition:
            raise ValueError(f"the encoder reads crops of {DIGIT} x {DIGIT} pixels; give it one digit on such a canvas")
        return dataset


class LocaliserSpec(Spec):
    """How a localiser is trained."""

    localisation: Localisation = Field(description="the localisation network")
    margin: float = Field(ge=0, le=4, description="of the triplet loss; the squared distance is 4 at most")
    steps: int = Field(ge=1, le=1_000_000, description="steps of the optimizer")
    batch_size: int = Field(ge=2, le=4096, description="images in a step; each is compared with every other")
    lr: LearningRate = Field(description="the highest learning rate; up and down once")


class ColocalisationSpec(Spec):
    """The product of datasets and classes: for each, a localiser that is shown images of this class alone."""

    task: Literal["colocalisation"] = Field(description="tells it from an experiment")
    name: Name = Field(description="what the folder of its results is called; the file's name if not given")
    source: Source = SOURCE_FIELD
    data_root: Folder | None = Field(None, description="folder of the source, as torchvision lays it out")
    datasets: Annotated[tuple[_Moved, ...], Field(strict=False, min_length=1, max_length=MOST)] = Field(
        description="presets, changed or not; only `translation` and `clutter` may distort, on a square canvas"
    )
    classes: Annotated[tuple[_Class, ...], Field(strict=False, min_length=1, max_length=10)] = Field(
        description="the digits to look for, each by itself"
    )
    encoder: EncoderSpec = Field(description="the network that compares crops")
    localiser: LocaliserSpec = Field(description="the network that finds the crop")
    seed: Seed = Field(0, description="decides weights, order and distortions")
    validation: bool = Field(False, description="hold out a sixth of the training digits and report on them: to tune")

    @field_validator("source")
    @classmethod
    def _as_the_papers(cls, source: SourceSpec) -> SourceSpec:
        if source.path is not None or (source.size, source.channels) != ((DIGIT, DIGIT), 1):
            raise ValueError(
                f"a co-localisation compares crops of {DIGIT} x {DIGIT} grey pixels; choose a source by name that has "
                f"such images, as mnist, instead of {source.label}"
            )
        return source

    @field_validator("datasets", "classes")
    @classmethod
    def _no_twins(cls, entries: tuple[Any, ...]) -> tuple[Any, ...]:
        no_twins(entries)
        return entries

    @property
    def encoder_trial(self) -> TrialSpec:
        """The training of the encoder, as any other trial, by the recipe `default`."""
        return TrialSpec(
            source=self.source,
            prebuilt=False,
            dataset=self.encoder.dataset,
            model=ModelSpec.model_validate("cnn_paper"),
            parameters=self.encoder.parameters,
            training=TrainingSpec(**{**RECIPES["default"], "epochs": self.encoder.epochs, "localisation_lr": 1.0}),
            seed=self.seed,
            validation=self.validation,
        )


class CellSpec(Spec):
    """One localiser: of a class on a dataset. What is written here is its identity."""

    dataset: DatasetSpec
    label: _Class
    localiser: LocaliserSpec
    encoder: TrialSpec
    seed: Seed

    @property
    def key(self) -> str:
        """The cell's place below `cells/`, for instance `tc/3`."""
        return f"{self.dataset.name}/{self.label}"

    @property
    def split(self) -> Literal["test", "validation"]:
        """The digits that it is measured on."""
        return self.encoder.split


def cells_of(spec: ColocalisationSpec, only: str = "*") -> list[CellSpec]:
    """The cells of a co-localisation whose `dataset/class` matches the pattern `only`, dataset by dataset."""
    cells = [
        CellSpec(dataset=dataset, label=label, localiser=spec.localiser, encoder=spec.encoder_trial, seed=spec.seed)
        for dataset in spec.datasets
        for label in spec.classes
    ]
    return [cell for cell in cells if fnmatchcase(cell.key, only)]
