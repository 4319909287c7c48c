"""The measures of a report: each is defined, named, described and formatted here, and nowhere else. Torch-free.

To add one, add a line to MEASURES: it is then a column of `trials` and `summary`, and so of report.csv and report.json;
in the group "details" it also stands in the table of details.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter as of
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stn_train.evaluation.metrics import LEAST, AlignmentMetrics, Component, ResidualCurve, Spread
from stn_train.report.paper import paper_error
from stn_train.run_folder import EpochRecord, Timing, TrialResult
from stn_train.statistics import Estimate, error_over_seeds, mean_over_seeds

if TYPE_CHECKING:
    from stn_train.report.results import Trial

MOST_CLASSES = 19
"""The most classes that a dataset has: sums of two digits."""

TRANSFORMERS = 8
"""The most transformers that a network has."""

COMPONENTS: dict[Component, str] = {one: one.replace("non_affine", "non-affine residual") for one in LEAST}
"""What the components of a pose are called where people read."""


@dataclass(frozen=True)
class TrialFiles:
    """What measures are read off: the files of one finished trial. `latest`: of its last epoch, where that is known."""

    result: TrialResult
    timing: Timing
    alignment: AlignmentMetrics | None
    latest: EpochRecord | None


# --- how seeds are brought together -----------------------------------------------------------------------------

OverSeeds = Callable[[str, "Sequence[Trial]"], Estimate | float | None]
"""What several seeds have of a measure, by its key: a number, or one with its 95 % interval; None where none has it."""


def same(key: str, seeds: Sequence["Trial"]) -> float | None:
    """What is the same for every seed."""
    value: float | None = seeds[0].row[key]
    return value


def mean(key: str, seeds: Sequence["Trial"]) -> float | None:
    """Without an interval, over the seeds that have it."""
    values = [one.row[key] for one in seeds if one.row[key] is not None]
    return sum(values) / len(values) if values else None


def mean_with_interval(key: str, seeds: Sequence["Trial"], among: str | None = None) -> Estimate | None:
    """Over the seeds that have a value of `among` (else of the measure); None where one of those has none of this."""
    values = [one.row[key] for one in seeds if one.row[among or key] is not None]
    return mean_over_seeds(values) if values and None not in values else None


def mean_share(key: str, seeds: Sequence["Trial"]) -> Estimate | None:
    """The same, of percentages between 0 and 100."""
    share = mean_with_interval(key, seeds)
    return share and Estimate(share.value, max(share.low, 0.0), min(share.high, 100.0))


def pooled_error(key: str, seeds: Sequence["Trial"]) -> Estimate:
    """The mean error, with an interval for other trainings and other digits."""
    return error_over_seeds(np.stack([one.wrong for one in seeds]), seeds[0].digit)


def pooled_class_error(label: int, key: str, seeds: Sequence["Trial"]) -> float | None:
    """Of a class, over the images of all seeds together."""
    return class_error(np.sum([one.confusion for one in seeds], axis=0), label)


# --- how numbers are written ------------------------------------------------------------------------------------


two_decimals, signed_decimals, one_decimal = "{:z.2f}".format, "{:+z.2f}".format, "{:.1f}".format
whole, percent, short, share = "{:,.0f}".format, "{:z.0f} %".format, "{:g}".format, "{:.1%}".format
"""`0.57`, `+0.57`, `0.6`; `60,000`, `57 %`, `1e-05`, `3.1%`."""


def shortened(value: float) -> str:
    """A count to three figures: `31.2 M`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return str(value)


def p_value(p: float) -> str:
    """A p to three decimals."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def measured_in(unit: str, value: float) -> str:
    """`26.0 °`, `0.16 log`."""
    return f"{value:.{1 if unit in ('°', 'px') else 2}f} {unit}".rstrip()


def with_interval(row: Mapping[str, Any], key: str, text: Callable[[float], str] = two_decimals) -> str:
    """A value with its interval behind, where that has any width: `62 % [58, 66]`; empty where there is no value."""
    value, low, high = (row.get(f"{key}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return ""
    if low is None or high is None or not low < high:
        return text(value)
    return f"{text(value)} [{text(low).removesuffix(' %')}, {text(high).removesuffix(' %')}]"


# --- the measures -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measure:
    """A number that is read off a trial, brought together over seeds, and shown.

    `key`: its column in `trials` and `summary`, there with `key_low` and `key_high` where it has an interval.
    `read` gives None where a trial has no such number. `group`: the table of the report in which it stands.
    """

    key: str
    heading: str
    description: str
    read: Callable[[TrialFiles], float | None]
    over_seeds: OverSeeds
    text: Callable[[float], str]
    group: str = "details"

    @property
    def ends(self) -> tuple[str, str]:
        """The columns of its interval, where it has one."""
        return f"{self.key}_low", f"{self.key}_high"

    @property
    def has_interval(self) -> bool:
        """Whether `summary` has its 95 % interval."""
        brought_by = self.over_seeds.func if isinstance(self.over_seeds, partial) else self.over_seeds
        return brought_by in (pooled_error, mean_with_interval, mean_share)

    def cell(self, row: Mapping[str, Any]) -> str:
        """A row of `summary`, written: with the interval where there is one; empty where there is no number."""
        return with_interval(row, self.key, self.text)

    def columns(self, seeds: Sequence["Trial"]) -> dict[str, float | None]:
        """What these seeds have in `summary`."""
        found = self.over_seeds(self.key, seeds)
        if not self.has_interval:
            return {self.key: found}  # type: ignore[dict-item]
        numbers = (found.value, found.low, found.high) if isinstance(found, Estimate) else (None, None, None)
        return dict(zip((self.key, *self.ends), numbers, strict=True))


def class_error(confusion: NDArray[np.integer], label: int) -> float | None:
    """The error of a true class (row), in percent; None for a class without images."""
    if label >= len(confusion) or not confusion[label].sum():
        return None
    return float(100 * (confusion[label].sum() - confusion[label, label]) / confusion[label].sum())


def balanced_accuracy(confusion: NDArray[np.integer]) -> float:
    """The mean over the classes that have images of the share classified correctly, in percent."""
    errors = [class_error(confusion, label) for label in range(len(confusion))]
    return float(np.mean([100 - error for error in errors if error is not None]))


def _of_confusion(read: Callable[[NDArray[np.integer]], float | None]) -> Callable[[TrialFiles], float | None]:
    return lambda files: read(np.array(files.result.confusion))


def _paper_error(files: TrialFiles) -> float | None:
    return paper_error(files.result.trial)


def _speed(phase: str) -> Measure:
    key = f"{phase}_images_per_second"
    return Measure(key, f"{phase} img/s", f"images per second of {phase}", of(f"timing.{key}"), mean, whole)


def _aligned(read: Callable[[AlignmentMetrics], float | None]) -> Callable[[TrialFiles], float | None]:
    """Of a trial whose pose can be told."""
    return lambda files: read(files.alignment) if files.alignment else None


def _of_spread(name: str, of_a_digit: bool, component: Component) -> Callable[[TrialFiles], float | None]:
    def read(alignment: AlignmentMetrics) -> float | None:
        pose: Sequence[Spread] = (alignment.pose_of_a_digit or ()) if of_a_digit else alignment.pose
        found: float | None = next((getattr(one, name) for one in pose if one.component == component), None)
        return found

    return _aligned(read)


def _of_curve(read: Callable[[ResidualCurve], float], component: Component) -> Callable[[TrialFiles], float | None]:
    def of_component(alignment: AlignmentMetrics) -> float | None:
        curves = alignment.residual_curves or ()
        return next((read(one) for one in curves if one.component == component), None)

    return _aligned(of_component)


def _halves(curve: ResidualCurve) -> tuple[list[int], list[int]]:
    """The parts that lie nearer to the mean distortion, and those that lie farther."""
    nearest = sorted(range(len(curve.before)), key=lambda part: abs(curve.before[part]))
    return nearest[: len(nearest) // 2], nearest[len(nearest) // 2 :]


def _limit(curve: ResidualCurve) -> float:
    small, large = _halves(curve)
    return (abs(curve.before[small[-1]]) + abs(curve.before[large[0]])) / 2


def _share_removed(half: int, curve: ResidualCurve) -> float:
    """Percent: what is left in the direction of what there was is not removed."""
    parts = _halves(curve)[half]
    there = sum(abs(curve.before[part]) for part in parts)
    left = sum(math.copysign(1, curve.before[part]) * curve.after[part] for part in parts)
    return 100 * (1 - left / there)


def _diagnostic(name: str, number: int) -> Callable[[TrialFiles], float | None]:
    """Of the transformer of this number, from 1 on."""

    def read(files: TrialFiles) -> float | None:
        transformers = files.latest.transformers if files.latest else ()
        return getattr(transformers[number - 1], name) if number <= len(transformers) else None

    return read


def _of_components() -> list[Measure]:
    """What is removed of each component of the pose, and what there was and is of it."""
    measures = []
    for component, name in COMPONENTS.items():
        unit = partial(measured_in, LEAST[component][1])
        for group, of_a_digit, where in (
            ("removed", False, "among all digits"),
            ("removed_of_a_digit", True, "between two random distortions of the same digit"),
        ):
            before = group.replace("removed", "before") + f"_{component}"
            over_seeds = partial(mean_with_interval, among=before)
            told = f"percent of the variation in {name} that is removed, {where}"
            read = partial(_of_spread, of_a_digit=of_a_digit, component=component)
            measures.append(Measure(f"{group}_{component}", name, told, read("score"), over_seeds, percent, group))
            for moment, told in (("before", "as distorted"), ("after", "in what the transformer puts out")):
                key, told = group.replace("removed", moment), f"variation in {name} {where}, {told}"
                measures.append(Measure(f"{key}_{component}", name, told, read(moment), mean, unit, "variation"))
        for half, size in enumerate(("small", "large")):
            key, told = f"removed_of_{size}_{component}", f"percent removed of {size} distortions in {name}, on average"
            removed = _of_curve(partial(_share_removed, half), component)
            measures.append(Measure(key, name, told, removed, mean_with_interval, percent, "halves"))
        told = f"from where on a distortion in {name} counts as large"
        measures.append(
            Measure(f"limit_{component}", name, told, _of_curve(_limit, component), mean, unit, "variation")
        )
    return measures


def _overlap(key: str, heading: str, description: str) -> Measure:
    read = _aligned(lambda alignment: 100 * float(getattr(alignment, key)))
    return Measure(key, heading, f"percent: {description}", read, mean_share, percent, "overlap")


def _within(name: str, heading: str) -> Measure:
    def read(alignment: AlignmentMetrics) -> float | None:
        found: float | None = getattr(alignment, f"within_classes_{name}")
        return None if found is None else 100 * found

    told = f"percent of the variance that lies within classes: {heading}"
    return Measure(f"within_classes_{name}", heading, told, _aligned(read), mean_with_interval, percent, "within")


_DIAGNOSTICS: dict[str, tuple[str, str, Callable[[float], str]]] = {
    "outside": ("out of bounds", "share of the sampling points outside the image", share),
    "scale": ("size", "size of what it shows; 1: as large as what it reads", two_decimals),
    "folded": ("folded", "share of the images that it folds or mirrors", share),
    "moved": ("moved", "distance of its points from the identity's; 2 is the whole image", two_decimals),
    "std": ("std", "distance of its points from their mean over the images", two_decimals),
    "gradient": ("gradient", "norm of the localisation network's gradient, relative to the rest", "{:.2g}".format),
}


def _diagnostic_measure(name: str, number: int) -> Measure:
    heading, told, text = _DIAGNOSTICS[name]
    told, group = f"{told}, transformer {number}", f"diagnostics_{number}"
    return Measure(f"{name}_{number}", heading, told, _diagnostic(name, number), mean, text, group)


def _class(label: int) -> Measure:
    key, told = f"error_of_class_{label}", f"percent of the images of class {label} that are misclassified"
    read = _of_confusion(partial(class_error, label=label))
    return Measure(key, str(label), told, read, partial(pooled_class_error, label), two_decimals, "classes")


MEASURES: tuple[Measure, ...] = (
    Measure("error", "error % [95 %]", "percent misclassified", of("result.error"), pooled_error, two_decimals),
    Measure("paper_error", "paper %", "the paper's test error in percent", _paper_error, same, one_decimal),
    Measure("training_digits", "training digits", "trained on so many", of("result.training_digits"), same, whole),
    Measure("parameters", "parameters", "trainable parameters", of("result.parameters"), same, whole),
    Measure("macs", "MACs", "multiply-accumulate operations, for one image", of("result.macs"), same, shortened),
    _speed("training"),
    Measure("width", "width", "factor of the classifier's layer widths", of("result.width"), same, short),
    Measure("training_seconds", "training s", "seconds of training of one trial", of("timing.seconds"), mean, whole),
    _speed("evaluation"),
    Measure(
        "balanced_accuracy",
        "balanced accuracy %",
        "percent of a class that is classified correctly, in the mean over the classes",
        _of_confusion(balanced_accuracy),
        mean_share,
        two_decimals,
    ),
    Measure("images", "images", "images that were classified", of("result.images"), same, whole, "images"),
    Measure("digits", "digits", "distinct digits among the images", of("result.digits"), same, whole, "images"),
    Measure("clipped", "clipped", "images that lost ink at the edge", of("result.clipped"), same, whole, "images"),
    *_of_components(),
    _overlap("iou", "IoU", "intersection over union of the sampled region and the digit's frame"),
    _overlap("iou_found", "IoU > 0.5", "images in which that is above 0.5"),
    _overlap("aligned", "IoU after mean-pose alignment", "the same, once the common pose is taken off"),
    _overlap("aligned_found", "then > 0.5", "images in which that is above 0.5"),
    _overlap("ink", "ink covered", "of the digit's ink that lies inside the sampled region"),
    _within("images", "images"),
    _within("output", "what the classifier reads"),
    _within("digits", "undistorted digits"),
    *(_diagnostic_measure(name, number) for number in range(1, TRANSFORMERS + 1) for name in _DIAGNOSTICS),
    *(_class(label) for label in range(MOST_CLASSES)),
)
"""In the order of the columns."""

BY_KEY = {measure.key: measure for measure in MEASURES}


def in_group(group: str) -> list[Measure]:
    """The measures of one table of the report, in its order."""
    return [measure for measure in MEASURES if measure.group == group]
