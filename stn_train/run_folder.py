"""The files of a run's folder, as types: what a trial writes and a report reads.

runs/<experiment>/
  config.yaml                          the resolved configuration
  environment.json                     versions, device, threads and commit of the latest session
  trials/<dataset>/<model>/seed-<k>/
    result.json       TrialResult      the same bytes for the same trial, resumed or not
    metrics.jsonl     EpochRecord      one line an epoch
    timing.json       Timing
    environment.json                   versions, device, threads and commit that it was trained with, at last
    predictions.npz                    predicted, label, digit (each M; digit M x 2 where images show two);
                                       theta (M x p), theta_1, theta_2, ... of the transformers, where there are any,
                                       in the order of the forward pass
    examples.npz, means.npz, rotation_sweep.npz, training.npz
                                       what pictures are drawn from, only with a localisation network at the input
    alignment.json    AlignmentMetrics (evaluation/metrics.py) only with one digit an image, and a transformer at the
                                       input or several in a row
    robustness.json   Robustness       (evaluation/metrics.py) only after `stn-train robustness` or with
                                       `robustness: true`
    checkpoint.pt, checkpoint-before.pt              the last two; of a finished trial only the last
    failure.json      TrialFailure     only where its last training could not go on
  tensorboard/<dataset>/<model>/seed-<k>/            only after `stn-train run --track tensorboard`
  tracking/<tracker>/<dataset>/<model>/seed-<k>.json, wandb/       likewise, of wandb and trackio
  report.json report.csv trials.csv report.md report.html figures/
  demo.html                                          only after `stn-train demo`

A trial's files, and environment.json, are sealed: see stn_train.storage.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from stn_train import storage
from stn_train.config import load_config
from stn_train.errors import UserError
from stn_train.specs import Count, ExperimentSpec, Spec, TrialSpec, trials_of

Gallery = Literal["examples", "means", "rotation_sweep", "training"]
"""The pictures of a trial's transformers, and the files of what they are drawn from.

All hold image (S x C x H x W, uint8); output (S x C x h x w, uint8), output_1, ... of the transformers at the input;
outline (S x V x 2, (x, y) in pixels of the image), outline_1, ... of the edge of each output, as far as they read the
image itself; label and predicted (S). Besides:

- examples: kind (S) is 0 for the best images, 1 for typical ones, 2 for the worst mistakes;
- means: only image and output, a class a row: the mean of its images and of what the classifier reads;
- rotation_sweep: one digit, turned by angle (S) degrees;
- training: output, outline and predicted have an axis of E frames before the others; epoch (E) says after which epoch
  each was taken, 0 before training. Grows with every epoch.
"""

_AXES: dict[Gallery, dict[str, str]] = {
    "examples": {"kind": "i S"},
    "means": {},
    "rotation_sweep": {"angle": "i S"},
    "training": {"output": "u EScyx", "outline?": "f ESvT", "predicted": "i ES", "epoch": "i E"},
}
"""What differs from the axes of all kinds, as `check_axes` has them."""
_IMAGES = {"image": "u Schw", "output": "u Scyx"}
_SEEN = {**_IMAGES, "outline?": "f SvT", "label": "i S", "predicted": "i S"}

Array = TypeVar("Array")
Record = TypeVar("Record", bound=Spec)
_Row = Annotated[tuple[Count, ...], Field(strict=False)]


class TrialResult(Spec):
    """What a finished trial found, on the test split (or on the held-out digits, where it was asked to validate)."""

    format: Literal[3] = 3
    trial: TrialSpec
    parameters: Count
    width: float | None = Field(description="of the classifier; none where it has no such parameter")
    macs: Count = Field(description="of convolutions and matrix products, for one image at all TTA angles")
    precision: Literal["bfloat16", "float32"]
    split: Literal["test", "validation"]
    training_digits: Count
    digits: Count = Field(description="distinct digits that were classified")
    images: Count = Field(ge=1, description="images that were classified; a digit can stand in several")
    clipped: Count = Field(description="of these images, those that lost ink at the canvas's edge")
    errors: Count = Field(description="images classified wrongly")
    confusion: Annotated[tuple[_Row, ...], Field(strict=False, description="rows: true class, columns: predicted")]

    @model_validator(mode="after")
    def _adds_up(self) -> "TrialResult":
        classes = self.trial.classes
        if [len(row) for row in self.confusion] != [classes] * classes:
            raise ValueError(f"its confusion is not {classes} x {classes}")
        images = sum(map(sum, self.confusion))
        right = sum(self.confusion[label][label] for label in range(classes))
        if (images, images - right) != (self.images, self.errors):
            raise ValueError("its confusion is not that of its images and errors")
        return self

    @property
    def error(self) -> float:
        """Images classified wrongly, in percent."""
        return 100 * self.errors / self.images


class Diagnostics(Spec):
    """How a transformer does on a batch of training images; distances are normalised: 2 is the whole image."""

    outside: float = Field(description="share of the sampling points that lie outside the image")
    scale: float = Field(description="size of what it shows; 1: as large as all of the image, along each side")
    folded: float = Field(description="share of the images that it folds over or mirrors")
    moved: float = Field(description="root mean square distance of the sampling points from the identity's")
    std: float = Field(description="the same from their mean over the images: 0 where it treats all of them alike")
    gradient: float = Field(description="norm of the localisation network's gradient, as a share of the rest's")


class EpochRecord(Spec):
    """One epoch of training, as the learning curve shows it."""

    epoch: Count
    loss: float = Field(description="the classifier's, mean over the epoch's training images")
    error: float = Field(description="percent, of the weights that are evaluated, on the trial's split")
    lr: float = Field(description="learning rate at the epoch's end")
    transformers: Annotated[tuple[Diagnostics, ...], Field(strict=False)] = Field(
        (), description="the health of each, in the order of the forward pass"
    )


class Timing(Spec):
    """How long a trial took; kept apart from its result, which is the same every time."""

    format: Literal[2] = 2
    device: str
    threads: Count
    seconds: float = Field(description="of training alone, over every session")
    training_images_per_second: float
    evaluation_images_per_second: float
    cpu_share: float | None = Field(
        None,
        description="of the processor time that its threads could have had since it was begun, or last taken up again, "
        "the share that they got: 1 where nothing else ran; None on a GPU",
    )


class TrialFailure(Spec):
    """Why a trial could not go on; it is gone when the trial is begun again."""

    format: Literal[1] = 1
    why: str
    traceback: str | None = Field(default=None, exclude=True, description="of a mistake of ours; shown, not kept")


class TrialFolder:
    """The files of one trial, by name; see above."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.result = path / "result.json"
        self.metrics = path / "metrics.jsonl"
        self.timing = path / "timing.json"
        self.environment = path / "environment.json"
        self.predictions = path / "predictions.npz"
        self.alignment = path / "alignment.json"
        self.robustness = path / "robustness.json"
        self.checkpoint = path / "checkpoint.pt"
        self.failure = path / "failure.json"
        delete = f"delete {self.result} and " if self.result.exists() else ""
        self.anew = f"{delete}give the run's command again, which writes it anew"
        """How to mend what is damaged."""

    def load(self, kind: type[Record], path: Path) -> Record:
        """The record in one of the files in JSON, such as `load(Timing, files.timing)`.

        Raises UserError where the file is missing or damaged.
        """
        measure_again = "delete it and measure again by `stn-train robustness`"
        return storage.read_record(kind, path, measure_again if path == self.robustness else self.anew)

    def load_metrics(self) -> list[EpochRecord]:
        """The epochs so far; none where training has not begun. Raises UserError where the file is damaged."""
        if not self.metrics.exists():
            return []
        lines = storage.read_verified(self.metrics, storage.LINES, self.anew).splitlines()
        try:
            return [EpochRecord.model_validate_json(line) for line in lines]
        except ValidationError as error:
            raise UserError(f"{self.metrics} is damaged: {error.errors()[0]['msg']}; {self.anew}") from None

    def load_predictions(self, addition: bool) -> dict[str, NDArray[np.generic]]:
        """Of images that show one digit, or two to be added. Raises UserError where the file is missing or damaged."""
        digit = "i MD" if addition else "i M"
        axes = {"predicted": "i M", "label": "i M", "digit": digit, "theta?": "f Mp"}
        return storage.read_arrays(self.predictions, self.anew, axes, {"D": 2})

    def load_gallery(
        self, kinds: Sequence[Gallery] = get_args(Gallery)
    ) -> dict[Gallery, dict[str, NDArray[np.generic]]]:
        """What there is to draw pictures of these kinds from, by kind. Raises UserError where a file is damaged."""
        found: dict[Gallery, dict[str, NDArray[np.generic]]] = {}
        for kind in kinds:
            path = self.path / f"{kind}.npz"
            if path.exists():
                axes = (_IMAGES if kind == "means" else _SEEN) | _AXES[kind]
                found[kind] = storage.read_arrays(path, self.anew, axes, {"T": 2})
                finite = all(np.isfinite(array).all() for array in found[kind].values())
                if not finite or not np.isin(found[kind].get("kind", 0), range(3)).all():
                    raise UserError(f"{path} is damaged: it holds numbers or kinds that there are not; {self.anew}")
        return found


class RunFolder:
    """The files of one run, by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.environment = path / "environment.json"
        self.figures = path / "figures"
        self.demo = path / "demo.html"

    def trial(self, spec: TrialSpec) -> TrialFolder:
        """The folder of one trial."""
        return TrialFolder(self.path / "trials" / spec.key)

    def finished(self, experiment: ExperimentSpec) -> list[TrialSpec]:
        """The trials of `experiment` that have a result here, in the experiment's order."""
        return [trial for trial in trials_of(experiment) if self.trial(trial).result.exists()]

    def load_experiment(self) -> ExperimentSpec:
        """Raises UserError where the folder holds no run, or its configuration is damaged."""
        if self.path.is_file():
            raise UserError(f"{self.path} is not a run's folder but a file; name a run's folder")
        if not self.config.is_file():
            raise UserError(f"{self.path} is not a run's folder: it has no config.yaml")
        return load_config(str(self.config))


def numbered(name: str, arrays: Iterable[Array]) -> dict[str, Array]:
    """Arrays of one kind under the names that they have in a file: name, name_1, name_2 and so on."""
    return {f"{name}_{number}" if number else name: array for number, array in enumerate(arrays)}


def unnumbered(name: str, arrays: Mapping[str, Array]) -> list[Array]:
    """The arrays that `numbered` gave these names, in their order."""
    names = [name, *(f"{name}_{number}" for number in range(1, len(arrays)))]
    return [arrays[each] for each in names if each in arrays]
