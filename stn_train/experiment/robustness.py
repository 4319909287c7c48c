"""How trained networks do on images that differ from those that they were trained on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stn_train.data.datasets import FixedDataset, make_fixed_dataset
from stn_train.data.distortion import Split
from stn_train.data.sources import ImageSet
from stn_train.errors import Stopped, UserError
from stn_train.evaluation.metrics import LEVELS, Crossed, Factor, Point, Robustness, held, others
from stn_train.experiment.load import load_trained, predict
from stn_train.experiment.runtime import Runtime, load_digits_of
from stn_train.run_folder import RunFolder, TrialFolder
from stn_train.specs import DatasetSpec, ExperimentSpec, TrialSpec, has_true_pose
from stn_train.storage import folder_lock, write_record

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
    folder: RunFolder, experiment: ExperimentSpec, runtime: Runtime, stop: Callable[[], bool] = lambda: False
) -> Iterator[RobustnessProgress]:
    """Measure every finished trial of a run and write its robustness.json; skips those that have been measured.

    The fixed images' digits are drawn anew with one quantity held at each of its LEVELS: all of them for the rotation,
    at most 1,000 for the others; and all of them as each other dataset of the run has them, on the canvas that the
    network knows. Where `stop` says so after a trial, raises Stopped. A trial whose checkpoint is missing or damaged
    stops no other.
    """
    with folder_lock(folder.path, stop):
        finished = folder.finished(experiment)
    number = 0
    for dataset in experiment.datasets:
        crossed = others(dataset, experiment.datasets)
        images: _Images | None = None
        for trial in (trial for trial in finished if trial.dataset.name == dataset.name):
            number += 1
            files = folder.trial(trial)
            asked = [other for other in crossed if trial.model.pose != "oracle" or has_true_pose(other, trial.source)]
            if _is_measured(files, asked):
                yield RobustnessProgress(trial, number, len(finished), skipped=True)
                continue
            images = images or _Images.of(trial, crossed, runtime)
            with folder_lock(files.path):
                try:
                    found = images.errors_of(files, asked, runtime)
                except UserError as error:  # of this checkpoint alone
                    yield RobustnessProgress(trial, number, len(finished), failure=error)
                    continue
                write_record(files.robustness, found.model_dump(mode="json"))
            yield RobustnessProgress(trial, number, len(finished))
            if stop():
                raise Stopped


def _is_measured(files: TrialFolder, asked: list[DatasetSpec]) -> bool:
    if not files.robustness.exists():
        return False
    known = [crossed.dataset for crossed in files.load(Robustness, files.robustness).crossed]
    return all(other in known for other in asked)


@dataclass(frozen=True)
class _Images:
    """Images for all networks of one dataset: by the quantity that is held and its level; and of other datasets.

    Those of each rotation are all of the `digits`, and made when they are asked for: together they are too many.
    """

    digits: ImageSet
    split: Split
    points: dict[tuple[Factor, float], FixedDataset]
    crossed: list[tuple[DatasetSpec, FixedDataset]]

    @staticmethod
    def of(trial: TrialSpec, crossed: list[DatasetSpec], runtime: Runtime) -> "_Images":
        """For the networks of a trial's dataset."""
        digits = load_digits_of(trial, "fixed", runtime)
        split: Split = "validation" if trial.validation else "test"
        few = ImageSet(digits.images, digits.labels).subset(torch.arange(0, len(digits), -(-len(digits) // _IMAGES)))
        points: dict[tuple[Factor, float], FixedDataset] = {
            (factor, level): make_fixed_dataset(held(trial.dataset, factor, level), few, split)[0]
            for factor, levels in LEVELS.items()
            if factor != "rotation"
            for level in levels
        }
        return _Images(digits, split, points, [(each, make_fixed_dataset(each, digits, split)[0]) for each in crossed])

    def errors_of(self, files: TrialFolder, asked: list[DatasetSpec], runtime: Runtime) -> Robustness:
        """What the network of a trial gets wrong, of other datasets as far as they are `asked` about."""
        trained = load_trained(files.checkpoint, runtime)

        def wrong(dataset: DatasetSpec, fixed: FixedDataset) -> Tensor:
            return predict(trained, dataset, fixed, runtime).predicted != fixed.labels

        own = trained.trial.dataset
        turned, wrong_at_some_angle = at_every_angle(own, self.digits, self.split, wrong)
        points = (
            _point(factor, level, fixed, wrong(held(own, factor, level), fixed))
            for (factor, level), fixed in self.points.items()
        )
        return Robustness(
            points=(*turned, *points),
            wrong_at_some_angle=wrong_at_some_angle,
            crossed=tuple(
                Crossed(dataset=other, images=len(fixed.labels), errors=int(wrong(other, fixed).sum()))
                for other, fixed in self.crossed
                if other in asked
            ),
        )


def at_every_angle(
    dataset: DatasetSpec, digits: ImageSet, split: Split, wrong: Callable[[DatasetSpec, FixedDataset], Tensor]
) -> tuple[list[Point], int]:
    """What is `wrong` (M, bool) of images that are all turned by each level of the rotation, and otherwise alike.

    The errors at each angle, and how many images are wrong at one angle or more: the rest are right at all of them.
    """
    points, somewhere = [], torch.zeros(1, dtype=torch.bool)
    for angle in LEVELS["rotation"]:
        turned = held(dataset, "rotation", angle)
        fixed, *_ = make_fixed_dataset(turned, digits, split)
        wrong_here = wrong(turned, fixed)
        points.append(_point("rotation", angle, fixed, wrong_here))
        somewhere = somewhere | wrong_here
    return points, int(somewhere.sum())


def _point(factor: Factor, level: float, fixed: FixedDataset, wrong: Tensor) -> Point:
    return Point(factor=factor, level=level, images=len(fixed), errors=int(wrong.sum()), clipped=fixed.clipped)
