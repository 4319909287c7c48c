"""Made-up runs: folders that hold what trainings would have written."""

from pathlib import Path
from typing import Any

import numpy as np

from stn_train import storage
from stn_train.config import dump
from stn_train.evaluation.metrics import AlignmentMetrics, ResidualCurve, Spread
from stn_train.report.page import records
from stn_train.report.results import results_of
from stn_train.run_folder import EpochRecord, Gallery, RunFolder, Timing, TrialResult
from stn_train.specs import ExperimentSpec, TrialSpec, trials_of

IMAGES = 1000
CLASSES = 10
EPOCHS = 4
LABEL = np.arange(IMAGES) % CLASSES
SQUARE = np.float32([(-0.5, -0.5), (41.5, -0.5), (41.5, 41.5), (-0.5, 41.5)])


def begin(path: Path, **keys: Any) -> tuple[RunFolder, list[TrialSpec]]:
    """A run's folder with nothing but its configuration, and its trials."""
    spec = ExperimentSpec.model_validate(
        {"name": "made_up", "datasets": ["rts"], "models": ["cnn", "st_cnn"], "training": {"epochs": EPOCHS}, **keys}
    )
    (path / "config.yaml").write_text(dump(spec))
    return RunFolder(path), trials_of(spec)


def made_up_alignment(seed: int) -> AlignmentMetrics:
    """Half of the angle and nine tenths of the place are undone, the more the higher the seed; there was no scale.

    Of angles of up to 25 degrees, 12 of 30 are turned back, of larger ones 21 of 70.
    """
    spreads = (
        Spread(component="rotation", before=26.0, after=13.0 - 2.6 * seed),
        Spread(component="scale", before=0.0, after=0.031),
        Spread(component="translation", before=10.0, after=1.0 - 0.1 * seed),
    )
    response = ResidualCurve(
        component="rotation",
        before=(-40.0, -20.0, 10.0, 30.0),
        after=(-38.0 + seed, -12.0 + seed, 6.0 - seed, 11.0 - seed),
        varies=(5.0, 4.0, 3.0, 4.0),
    )
    return AlignmentMetrics(
        pose=spreads,
        pose_of_a_digit=tuple(spread.model_copy(update={"after": spread.after / 2}) for spread in spreads),
        residual_curves=(response,),
        iou=0.25,
        iou_found=0.05,
        aligned=0.75,
        aligned_found=0.987,
        ink=0.999,
        turn_median=3.0 + seed,
        turn_large=0.05,
        turn_before=26.0,
        turn_within=14.0,
        within_classes_digits=0.75,
        within_classes_images=0.95,
        within_classes_output=0.8 - 0.05 * seed,
    )


def finish(folder: RunFolder, trial: TrialSpec, errors: int, digit: np.ndarray | None = None) -> None:
    """A finished trial's files; `errors` images of each class are taken for the next class."""
    files, classes = folder.trial(trial), trial.classes
    train(folder, trial, EPOCHS)
    label, wrong = np.arange(IMAGES) % classes, np.arange(IMAGES) // classes < errors
    predicted = np.where(wrong, (label + 1) % classes, label)
    confusion = np.zeros((classes, classes), dtype=int)
    np.add.at(confusion, (label, predicted), 1)
    if digit is None:
        digit = np.arange(IMAGES)
    if trial.dataset.addition:
        digit = np.stack([digit, digit[::-1]], axis=1)
    result = TrialResult(
        trial=trial,
        parameters=398_123,
        width=1.25,
        macs=31_200_000,
        precision="float32",
        split=trial.split,
        training_digits=trial.training.train_size or 60_000,
        digits=len(np.unique(digit)),
        images=IMAGES,
        clipped=31,
        errors=errors * classes,
        confusion=tuple(map(tuple, confusion.tolist())),
    )
    timing = Timing(
        device="cpu",
        threads=2,
        seconds=100.0 + trial.seed,
        training_images_per_second=9000.0,
        evaluation_images_per_second=20_000.0,
    )
    storage.write_record(files.result, result.model_dump(mode="json"))
    storage.write_record(files.timing, timing.model_dump(mode="json"))
    storage.write_arrays(files.predictions, {"predicted": predicted, "label": label, "digit": digit})
    if trial.model.transformer and trial.model.transformer.before == (0,):
        if not trial.dataset.addition:
            storage.write_record(files.alignment, made_up_alignment(trial.seed).model_dump(mode="json"))
        for kind, arrays in made_up_gallery().items():
            storage.write_arrays(files.path / f"{kind}.npz", arrays)


def made_up_gallery() -> dict[Gallery, dict[str, np.ndarray]]:
    """Three images, of which the last is a 3 that is taken for a 5."""
    image, output = np.zeros((3, 1, 42, 42), np.uint8), np.zeros((3, 1, 28, 28), np.uint8)
    outline, label, predicted = np.tile(SQUARE, (3, 1, 1)), np.array([1, 2, 3]), np.array([1, 2, 5])
    seen = {"image": image, "output": output, "outline": outline, "label": label, "predicted": predicted}
    each = {name: np.stack([seen[name]] * (EPOCHS + 1)) for name in ("output", "outline", "predicted")}
    each["epoch"] = np.arange(EPOCHS + 1)
    means = {
        "image": np.full((CLASSES, 1, 42, 42), 40, np.uint8),
        "output": np.full((CLASSES, 1, 28, 28), 80, np.uint8),
    }
    return {
        "examples": seen | {"kind": np.arange(3)},
        "means": means,
        "rotation_sweep": seen | {"angle": np.array([0, 120, 240])},
        "training": {"image": image, "label": label, **each},
    }


def summary_of(folder: RunFolder) -> list[dict[str, Any]]:
    """The rows of the run's table `summary`."""
    return records(results_of(folder).summary)


def compared(folder: RunFolder, part: str = "all") -> dict[str, dict[str, Any]]:
    """The rows of one part of the run's table `comparisons`, by the model whose they are."""
    return {row["of"]: row for row in records(results_of(folder).comparisons) if row["part"] == part}


def train(folder: RunFolder, trial: TrialSpec, epochs: int) -> None:
    """The learning curve of a trial that has come so far."""
    files = folder.trial(trial)
    records = [EpochRecord(epoch=epoch, loss=1 / epoch, error=5.0, lr=0.1) for epoch in range(1, epochs + 1)]
    storage.write(files.metrics, "".join(f"{record.model_dump_json()}\n" for record in records), storage.LINES)
