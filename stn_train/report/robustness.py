"""How robust models are: what `stn-train robustness` has measured of a run, over the seeds. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass

from stn_train.evaluation.metrics import LEVELS, Factor, Robustness, others, trained_range
from stn_train.run_folder import RunFolder, TrialResult
from stn_train.specs import ExperimentSpec, TrialSpec

_CLIPPED = 0.05
"""The share of images that may lose ink at the canvas's edge beyond the dataset's own: where more do, a level is left
out."""


@dataclass(frozen=True)
class Curve:
    """The error of a model, in percent, against one quantity of the distortion."""

    dataset: str
    model: str
    factor: Factor
    trained: tuple[float, float]
    """From where to where training has seen the quantity."""
    levels: tuple[float, ...]
    errors: tuple[tuple[float, ...], ...]
    """At each level, of each seed."""

    @property
    def means(self) -> tuple[float, ...]:
        """At each level, over the seeds."""
        return tuple(sum(seeds) / len(seeds) for seeds in self.errors)


@dataclass(frozen=True)
class Crossed:
    """The mean error over seeds of a model trained on one dataset and tested on each of the run, in percent.

    None where it cannot be asked.
    """

    trained_on: str
    model: str
    errors: dict[str, float | None]


@dataclass(frozen=True)
class Robust:
    """All that has been measured in a run; `images` of each point of the curves."""

    images: int
    curves: tuple[Curve, ...]
    crossed: tuple[Crossed, ...]

    def of(self, dataset: str) -> dict[Factor, list[Curve]]:
        """The curves of one dataset's models, by quantity."""
        return {
            factor: [curve for curve in self.curves if (curve.dataset, curve.factor) == (dataset, factor)]
            for factor in LEVELS
        }


def robust(folder: RunFolder, experiment: ExperimentSpec, finished: Sequence[TrialSpec]) -> Robust | None:
    """What has been measured of the finished trials; None where nothing has. Raises UserError for a damaged file."""
    measured: dict[tuple[str, str], list[tuple[TrialResult, Robustness]]] = {}
    for trial in finished:
        found = folder.trial(trial).load_robustness()
        if found is not None:
            one = folder.trial(trial).load_result(), found
            measured.setdefault((trial.dataset.name, trial.model.name), []).append(one)
    if not measured:
        return None
    images = next(iter(measured.values()))[0][1].images
    curves = (_curve(seeds, factor) for seeds in measured.values() for factor in LEVELS)
    several = len(experiment.datasets) > 1
    crossed = tuple(_crossed(seeds, experiment) for seeds in measured.values()) if several else ()
    return Robust(images, tuple(curves), crossed)


def _curve(seeds: Sequence[tuple[TrialResult, Robustness]], factor: Factor) -> Curve:
    trial = seeds[0][0].trial
    of_seeds = [[point for point in found.points if point.factor == factor] for _, found in seeds]
    images, own = seeds[0][1].images, seeds[0][0].clipped / seeds[0][0].images
    levels = [points for points in zip(*of_seeds, strict=True) if points[0].clipped / images <= own + _CLIPPED]
    return Curve(
        dataset=trial.dataset.name,
        model=trial.model.name,
        factor=factor,
        trained=trained_range(trial.dataset, factor),
        levels=tuple(points[0].level for points in levels),
        errors=tuple(tuple(100 * point.errors / images for point in points) for points in levels),
    )


def _crossed(seeds: Sequence[tuple[TrialResult, Robustness]], experiment: ExperimentSpec) -> Crossed:
    own, model = seeds[0][0].trial.dataset, seeds[0][0].trial.model.name
    meant = others(own, experiment.datasets)  # a record of another dataset of the same name says nothing of this one
    of_seeds = [
        {own.name: result.error}
        | {other.dataset.name: 100 * other.errors / other.images for other in found.crossed if other.dataset in meant}
        for result, found in seeds
    ]
    asked = [dataset.name for dataset in experiment.datasets]
    return Crossed(
        own.name,
        model,
        {
            name: sum(errors[name] for errors in of_seeds) / len(of_seeds)
            if all(name in errors for errors in of_seeds)
            else None
            for name in asked
        },
    )
