"""How trained networks do on images that differ from those that they were trained on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from stn_train import storage
from stn_train.data.datasets import FixedDataset, make_fixed_dataset
from stn_train.data.distortion import true_poses
from stn_train.data.sources import Digits
from stn_train.errors import Stopped, UserError
from stn_train.evaluation.classify import classify
from stn_train.evaluation.robustness import LEVELS, Crossed, Factor, Point, Robustness, held, others
from stn_train.experiment.load import Trained, faults_told, load_trained
from stn_train.experiment.runtime import Runtime, load_splits
from stn_train.models.precision import precision_on
from stn_train.report.results import finished_trials
from stn_train.run_folder import RunFolder, TrialFolder
from stn_train.specs import DatasetSpec, TrialSpec, is_given_poses
from stn_train.storage import check_links, clear_leftovers, folder_lock

_IMAGES = 1000


@dataclass(frozen=True)
class RobustnessProgress:
    """Trial `number` of `total` has been measured, now or (`skipped`) before, or could not be (`failure`)."""

    trial: TrialSpec
    number: int
    total: int
    skipped: bool = False
    failure: UserError | None = None


def measure_robustness(
    folder: RunFolder, runtime: Runtime, stop: Callable[[], bool] = lambda: False
) -> Iterator[RobustnessProgress]:
    """Measure every finished trial of a run and write its robustness.json; skips those that have been measured.

    The fixed images' digits (at most 1,000 of them) are drawn anew with one quantity held at each of its LEVELS; and
    all of them as each other dataset of the run has them, on the canvas that the network knows. Where `stop` says so
    after a trial, raises Stopped. A trial whose checkpoint is missing or damaged stops no other.
    """
    experiment = folder.load_experiment()
    check_links(folder.path)
    finished = finished_trials(folder, experiment)
    number = 0
    for dataset in experiment.datasets:
        crossed = others(dataset, experiment.datasets)
        exams: _Exams | None = None
        for trial in (trial for trial in finished if trial.dataset.name == dataset.name):
            number += 1
            files = folder.trial(trial)
            asked = [other for other in crossed if other.has_true_pose or not is_given_poses(trial.model)]
            if _is_measured(files, asked):
                yield RobustnessProgress(trial, number, len(finished), skipped=True)
                continue
            exams = exams or _Exams.of(trial, crossed, runtime)
            with folder_lock(files.path):
                clear_leftovers(files.path)
                try:
                    found = exams.take(files, asked, runtime)
                except UserError as error:  # of this checkpoint alone
                    yield RobustnessProgress(trial, number, len(finished), failure=error)
                    continue
                storage.write_record(files.robustness, found.model_dump(mode="json"))
            yield RobustnessProgress(trial, number, len(finished))
            if stop():
                raise Stopped


def _is_measured(files: TrialFolder, asked: list[DatasetSpec]) -> bool:
    found = files.load_robustness()
    known = [crossed.dataset for crossed in found.crossed] if found else []
    return found is not None and all(other in known for other in asked)


@dataclass(frozen=True)
class _Exams:
    """Images for all networks of one dataset: by the quantity that is held and its level; and of other datasets."""

    points: dict[tuple[Factor, float], FixedDataset]
    crossed: list[tuple[DatasetSpec, FixedDataset]]

    @staticmethod
    def of(trial: TrialSpec, crossed: list[DatasetSpec], runtime: Runtime) -> "_Exams":
        """For the networks of a trial's dataset."""
        _, digits, split = load_splits(trial, runtime)
        few = Digits(digits.images, digits.labels).subset(torch.arange(0, len(digits), -(-len(digits) // _IMAGES)))
        points = {
            (factor, level): make_fixed_dataset(held(trial.dataset, factor, level), few, split)[0]
            for factor, levels in LEVELS.items()
            for level in levels
        }
        return _Exams(points, [(other, make_fixed_dataset(other, digits, split)[0]) for other in crossed])

    def take(self, files: TrialFolder, asked: list[DatasetSpec], runtime: Runtime) -> Robustness:
        """What the network of a trial gets wrong, of other datasets as far as they are `asked` about."""
        trained = load_trained(files.checkpoint, runtime)
        own = trained.trial.dataset
        points = tuple(
            Point(
                factor=factor,
                level=level,
                errors=_errors(trained, held(own, factor, level), variant, runtime),
                clipped=variant.clipped,
            )
            for (factor, level), variant in self.points.items()
        )
        crossed = tuple(
            Crossed(dataset=other, images=len(variant.labels), errors=_errors(trained, other, variant, runtime))
            for other, variant in self.crossed
            if other in asked
        )
        return Robustness(
            images=len(next(iter(self.points.values())).labels),
            points=points,
            crossed=crossed,
        )


def _errors(trained: Trained, dataset: DatasetSpec, variant: FixedDataset, runtime: Runtime) -> int:
    """How many of a variant's images a network gets wrong."""
    poses = true_poses(dataset, variant.theta) if is_given_poses(trained.trial.model) else None
    precision = precision_on(runtime.device, trained.trial.training)
    with faults_told(trained):
        found = classify(
            trained.network, variant.images, runtime.device, precision, poses, trained.trial.model.tta_angles
        )
    return int((found.predicted != variant.labels).sum())
