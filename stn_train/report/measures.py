"""The measures of a report: each is defined, named, described and formatted here. Torch-free.

To add one, add a line to MEASURES, and its number to what `measured` reads off a trial's files: it is then a column of
`trials` and `summary`, and so of report.csv and report.json; in the group "details" it also stands in the table of
details. What the paper reports stands here too, to be shown beside ours.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stn_train.evaluation.metrics import LEAST, AlignmentMetrics, Component, Robustness, Spread
from stn_train.run_folder import EpochRecord, Timing, TrialResult
from stn_train.specs import DATASETS, DatasetSpec, TrialSpec
from stn_train.specs.datasets import MOST_CLASSES

TRANSFORMERS = 8
"""The most transformers that a network has."""

COMPONENTS: dict[Component, str] = {one: one.replace("non_affine", "non-affine residual") for one in LEAST}
"""What the components of a pose are called where people read."""

HEADLINE = {one: name for one, name in COMPONENTS.items() if one != "non_affine"}
"""Of these, what the first screen and the terminal show: not what older records alone have."""

OverSeeds = Literal["same", "mean", "mean_with_interval", "pooled_error", "pooled_accuracy", "pooled_class_error"]
"""How several seeds are brought together.

- same: what is the same for every seed;
- mean: over the seeds that have a number, without an interval;
- mean_with_interval: with a 95 % interval, over the seeds that have a number;
- pooled_error, pooled_accuracy: the mean, with an interval for other trainings and other digits;
- pooled_class_error: of a class, over the images of all seeds together, without an interval.
"""


# --- how numbers are written ------------------------------------------------------------------------------------


two_decimals, signed_decimals, one_decimal = "{:z.2f}".format, "{:+z.2f}".format, "{:.1f}".format
whole, percent, short, share = "{:,.0f}".format, "{:z.0f} %".format, "{:g}".format, "{:.1%}".format
degrees = "{:.1f} °".format
"""`0.57`, `+0.57`, `0.6`; `60,000`, `57 %`, `1e-05`, `3.1%`; `12.3 °`."""


def three_figures(value: float) -> str:
    """A count to three figures: `31.2 M`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return str(value)


def p_value(p: float) -> str:
    """A p to three decimals."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


# --- the measures -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measure:
    """A number that is read off a trial, brought together over seeds, and shown.

    `key`: its column in `trials` and `summary`, there with `key_low` and `key_high` where it has an interval.
    `text`: how the number is written. `group`: the table of the report in which it stands. `among`: over the seeds
    that have a number of this other measure, instead of this one; where one of those has none of this, there is none.
    `least`, `most`: no number is beyond, and so no interval of a mean.
    """

    key: str
    heading: str
    description: str
    over_seeds: OverSeeds
    text: Callable[[float], str]
    group: str = "details"
    among: str | None = None
    least: float = -math.inf
    most: float = math.inf


def _measures_of_components() -> list[Measure]:
    """What is removed of each component of the pose, and what there was and is of it."""
    measures = []
    for component, name in COMPONENTS.items():
        unit = LEAST[component][1]
        text = (f"{{:.{1 if unit in ('°', 'px') else 2}f}} {unit}".rstrip()).format  # `26.0 °`, `0.16 log`
        for group, where in (
            ("removed", "among all digits"),
            ("removed_of_a_digit", "between two random distortions of the same digit"),
        ):
            groups = [group.replace("removed", moment) for moment in ("before", "after")]
            before, after = (f"{one}_{component}" for one in groups)
            told = f"percent of the variation in {name} that is removed, {where}"
            measures += [
                Measure(f"{group}_{component}", name, told, "mean_with_interval", percent, group, before, most=100),
                Measure(before, name, f"variation in {name} {where}, as distorted", "mean", text, groups[0]),
                Measure(
                    after,
                    name,
                    f"variation in {name} {where}, in what the transformer puts out",
                    "mean",
                    text,
                    groups[1],
                ),
            ]
        for size in ("small", "large"):
            key, told = f"removed_of_{size}_{component}", f"percent removed of {size} distortions in {name}, on average"
            measures.append(Measure(key, name, told, "mean_with_interval", percent, "halves", most=100))
        told = f"from where on a distortion in {name} counts as large"
        measures.append(Measure(f"limit_{component}", name, told, "mean", text, "limit"))
    return measures


_OVERLAP = {
    "iou": ("IoU", "intersection over union of the sampled region and the digit's frame"),
    "iou_found": ("IoU > 0.5", "images in which that is above 0.5"),
    "aligned": ("IoU after mean-pose alignment", "the same, once the common pose is taken off"),
    "aligned_found": ("then > 0.5", "images in which that is above 0.5"),
    "ink": ("ink covered", "of the digit's ink that lies inside the sampled region"),
}

_TURNS: dict[str, tuple[str, str, OverSeeds, Callable[[float], str], float]] = {
    "turn_median": (
        "between two: median",
        "two distortions of one digit differ by so much",
        "mean_with_interval",
        degrees,
        math.inf,
    ),
    "turn_large": (
        "above 20°",
        "digits of which two distortions differ by more than 20 degrees",
        "mean_with_interval",
        percent,
        100,
    ),
    "turn_before": ("within a class, before", "spread within a class, as distorted", "mean", degrees, math.inf),
    "turn_within": (
        "within a class, after",
        "spread within a class, in what the classifier reads",
        "mean_with_interval",
        degrees,
        math.inf,
    ),
}

_RELIANCE = {
    "swapped_error": ("theta swapped", "misclassified when each image is warped by another distortion's theta"),
    "class_from_theta": ("class from theta", "images whose class can be read off theta alone"),
}

_ROTATED = {
    "rotated_error": ("mean of 24 angles", "percent misclassified of images turned by 24 angles, on average"),
    "rotated_error_worst": ("at the worst", "the same at the angle at which it is highest"),
    "rotated_error_any": ("wrong at any", "percent of the images that are misclassified at one of the angles or more"),
}

_WITHIN = {"images": "images", "output": "what the classifier reads", "digits": "undistorted digits"}

_DIAGNOSTICS: dict[str, tuple[str, str, Callable[[float], str]]] = {
    "outside": ("out of bounds", "share of the sampling points outside the image", share),
    "scale": ("size", "size of what it shows; 1: as large as what it reads", two_decimals),
    "folded": ("folded", "share of the images that it folds or mirrors", share),
    "moved": ("moved", "distance of its points from the identity's; 2 is the whole image", two_decimals),
    "std": ("std", "distance of its points from their mean over the images", two_decimals),
    "gradient": ("gradient", "norm of the localisation network's gradient, relative to the rest", "{:.2g}".format),
}

MEASURES: tuple[Measure, ...] = (
    Measure(
        "accuracy", "accuracy % [95 %]", "percent classified correctly", "pooled_accuracy", two_decimals, "accuracy"
    ),
    Measure("error", "error % [95 %]", "percent misclassified: 100 - accuracy", "pooled_error", two_decimals),
    Measure("paper_error", "paper %", "the paper's test error in percent", "same", one_decimal),
    Measure("training_digits", "training digits", "trained on so many", "same", whole),
    Measure("parameters", "parameters", "trainable parameters", "same", whole),
    Measure("macs", "MACs", "multiply-accumulate operations, for one image", "same", three_figures),
    Measure("training_images_per_second", "training img/s", "images per second of training", "mean", whole),
    Measure("width", "width", "factor of the classifier's layer widths", "same", short),
    Measure("training_seconds", "training s", "seconds of training of one trial", "mean", whole),
    Measure(
        "cpu_share",
        "CPU %",
        "percent of the processor time that training could have had, other work aside",
        "mean",
        whole,
    ),
    Measure(
        "accuracy_at_equal_time",
        "accuracy % at equal time",
        "percent classified correctly after as many seconds of training as the shortest on the dataset took",
        "mean",
        two_decimals,
    ),
    Measure("evaluation_images_per_second", "evaluation img/s", "images per second of evaluation", "mean", whole),
    Measure(
        "balanced_accuracy",
        "balanced accuracy %",
        "percent of a class that is classified correctly, in the mean over the classes",
        "mean_with_interval",
        two_decimals,
        least=0,
        most=100,
    ),
    Measure(
        "late_fall",
        "fall in the last quarter",
        "percent of its error that a network lost in the last quarter of its epochs; 0 where that can be chance",
        "mean",
        percent,
        "training",
    ),
    Measure("images", "images", "images that were classified", "same", whole, "images"),
    Measure("digits", "digits", "distinct digits among the images", "same", whole, "images"),
    Measure("clipped", "clipped", "images that lost ink at the edge", "same", whole, "images"),
    *_measures_of_components(),
    *(
        Measure(key, heading, f"percent: {told}", "mean_with_interval", percent, "overlap", least=0, most=100)
        for key, (heading, told) in _OVERLAP.items()
    ),
    *(
        Measure(key, heading, f"rotation that is left: {told}", how, text, "turns", least=0, most=most)
        for key, (heading, told, how, text, most) in _TURNS.items()
    ),
    *(
        Measure(key, heading, f"percent: {told}", "mean_with_interval", two_decimals, "reliance", least=0, most=100)
        for key, (heading, told) in _RELIANCE.items()
    ),
    *(
        Measure(key, heading, told, "mean_with_interval", two_decimals, "rotated", least=0, most=100)
        for key, (heading, told) in _ROTATED.items()
    ),
    *(
        Measure(
            f"within_classes_{key}",
            heading,
            f"percent of the variance that lies within classes: {heading}",
            "mean_with_interval",
            percent,
            "within",
            least=0,
            most=100,
        )
        for key, heading in _WITHIN.items()
    ),
    *(
        Measure(f"{key}_{number}", heading, f"{told}, transformer {number}", "mean", text, f"diagnostics_{number}")
        for number in range(1, TRANSFORMERS + 1)
        for key, (heading, told, text) in _DIAGNOSTICS.items()
    ),
    *(
        Measure(
            f"error_of_class_{label}",
            str(label),
            f"percent of the images of class {label} that are misclassified",
            "pooled_class_error",
            two_decimals,
            "classes",
        )
        for label in range(MOST_CLASSES)
    ),
)
"""In the order of the columns."""

BY_KEY = {measure.key: measure for measure in MEASURES}


def cell(row: Mapping[str, Any], key: str) -> str:
    """A number of a row of `summary` or `comparisons`, with its interval behind, where that has any width:
    `62 % [58, 66]`; empty where there is no number."""
    text = BY_KEY[key].text if key in BY_KEY else two_decimals
    value, low, high = (row.get(f"{key}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return ""
    if low is None or high is None or not low < high:
        return text(value)
    return f"{text(value)} [{text(low).removesuffix(' %')}, {text(high).removesuffix(' %')}]"


# --- from a trial's files to numbers, and from seeds to one -----------------------------------------------------


def measured(
    result: TrialResult,
    timing: Timing | None,
    alignment: AlignmentMetrics | None,
    epochs: Sequence[EpochRecord],
    robustness: Robustness | None = None,
) -> dict[str, float | None]:
    """All measures of a trial, by key; None for what it does not have. `timing`, `epochs`: as far as they are known."""
    confusion = np.array(result.confusion)
    shown, right = confusion.sum(axis=1), confusion.diagonal()
    errors = [100 * int(count - kept) / int(count) if count else None for count, kept in zip(shown, right, strict=True)]
    found: dict[str, float | None] = dict.fromkeys(BY_KEY)
    for key in ("error", "training_digits", "parameters", "macs", "width", "images", "digits", "clipped"):
        found[key] = getattr(result, key)
    found |= {
        "accuracy": 100 - result.error,
        "late_fall": _late_fall([epoch.error for epoch in epochs], result.images),
        "paper_error": paper_error(result.trial),
        "balanced_accuracy": float(np.mean([100 - error for error in errors if error is not None])),
        **{f"error_of_class_{label}": error for label, error in enumerate(errors)},
    }
    if timing is not None:
        found["training_seconds"] = timing.seconds
        found["cpu_share"] = None if timing.cpu_share is None else 100 * timing.cpu_share
        found["training_images_per_second"] = timing.training_images_per_second
        found["evaluation_images_per_second"] = timing.evaluation_images_per_second
    for number, diagnostics in enumerate(epochs[-1].transformers if epochs else (), start=1):
        found |= {f"{name}_{number}": getattr(diagnostics, name) for name in _DIAGNOSTICS}
    if robustness is not None:
        turned = [point for point in robustness.points if point.factor == "rotation"]
        of_angles = [100 * point.errors / point.images for point in turned]
        found |= {"rotated_error": sum(of_angles) / len(of_angles), "rotated_error_worst": max(of_angles)}
        found["rotated_error_any"] = 100 * robustness.wrong_at_some_angle / turned[0].images
    if alignment is None:
        return found
    for name in (*_OVERLAP, *_RELIANCE):
        of_images: float | None = getattr(alignment, name)
        found[name] = None if of_images is None else 100 * of_images
    for name in _TURNS:
        turn: float | None = getattr(alignment, name)
        found[name] = turn if turn is None or name != "turn_large" else 100 * turn
    for name in _WITHIN:
        within: float | None = getattr(alignment, f"within_classes_{name}")
        found[f"within_classes_{name}"] = None if within is None else 100 * within
    for among, pose in (("", alignment.pose), ("_of_a_digit", alignment.pose_of_a_digit)):
        for one in pose:
            found[f"removed{among}_{one.component}"] = removed(one)  # as `removed_of_a_digit_rotation`
            found[f"before{among}_{one.component}"] = one.before
            found[f"after{among}_{one.component}"] = one.after
    for curve in alignment.residual_curves:
        nearest = np.argsort(np.abs(curve.before), kind="stable").tolist()  # parts, from the mean distortion outwards
        halves = {"small": nearest[: len(nearest) // 2], "large": nearest[len(nearest) // 2 :]}
        ends = abs(curve.before[halves["small"][-1]]), abs(curve.before[halves["large"][0]])
        found[f"limit_{curve.component}"] = sum(ends) / 2
        for size, parts in halves.items():  # what is left in the direction of what there was is not removed
            there = sum(abs(curve.before[part]) for part in parts)
            left = sum(math.copysign(1, curve.before[part]) * curve.after[part] for part in parts)
            found[f"removed_of_{size}_{curve.component}"] = 100 * (1 - left / there)
    return found


def removed(spread: Spread) -> float | None:
    """Percent of a spread that is removed: 100 all, 0 none, below 0 more than before; None where there was none.

    Then `after` by itself tells what the transformer has added.
    """
    least, _ = LEAST[spread.component]
    return 100 * (1 - spread.after / spread.before) if spread.before >= least else None


def _late_fall(errors: Sequence[float], images: int) -> float | None:
    """The fall of the errors of so many images over the last quarter of the epochs, in percent of what they were.

    0 where it is less than two standard deviations of a count of errors; None of fewer than two epochs.
    """
    if len(errors) < 2:
        return None
    before, after = (images * errors[index] / 100 for index in (-1 - math.ceil(len(errors) / 4), -1))
    return 100 * (before - after) / before if before - after > 2 * math.sqrt(before) else 0.0


# --- the paper's figures ----------------------------------------------------------------------------------------


_Network = tuple[str, str | None, int]
"""A classifier, the family of its transformers, and how many of them stand side by side at the input."""

_DISTORTED = ("r", "rts", "p", "e", "tc")
_ON_DISTORTED: dict[_Network, tuple[float, ...]] = {
    ("fcn", None, 0): (2.1, 5.2, 3.1, 3.2, 13.2),
    ("cnn_paper", None, 0): (1.2, 0.8, 1.5, 1.4, 3.5),
    ("fcn", "affine", 1): (1.2, 0.8, 1.5, 2.7, 2.0),
    ("fcn", "projective", 1): (1.3, 0.9, 1.4, 2.6),
    ("fcn", "tps", 1): (1.1, 0.8, 1.4, 2.4),
    ("cnn_paper", "affine", 1): (0.7, 0.5, 0.8, 1.2, 1.7),
    ("cnn_paper", "projective", 1): (0.8, 0.6, 0.8, 1.3),
    ("cnn_paper", "tps", 1): (0.7, 0.5, 0.8, 1.1),
}
"""By dataset, in the order of _DISTORTED. On tc the paper has one transformer for each classifier and does not say of
which family it is: here, affine."""

_ON_ADDITION: dict[_Network, float] = {
    ("fcn", None, 0): 47.7,
    ("cnn_paper", None, 0): 14.7,
    ("cnn_paper", "affine", 1): 22.6,
    ("cnn_paper", "projective", 1): 18.5,
    ("cnn_paper", "tps", 1): 19.1,
    ("cnn_paper", "affine", 2): 9.0,
    ("cnn_paper", "projective", 2): 5.9,
    ("cnn_paper", "tps", 2): 5.8,
}

_ERRORS: dict[tuple[str, _Network], float] = {
    **{
        (dataset, network): error
        for network, errors in _ON_DISTORTED.items()
        for dataset, error in zip(_DISTORTED, errors, strict=False)
    },
    **{("addition", network): error for network, error in _ON_ADDITION.items()},
}

_LOCALISATION = {"fcn": "fc_paper", "cnn_paper": "conv_paper"}


def paper_error(trial: TrialSpec) -> float | None:
    """The paper's test error, in percent, for what a trial measures; None where the paper has no such experiment.

    From Jaderberg, Simonyan, Zisserman, Kavukcuoglu, Spatial Transformer Networks (arXiv:1506.02025), section 4.1,
    table 1, and the appendix for MNIST addition: means over three seeds. It has one where the digits are MNIST's test
    digits, the dataset is the preset of the paper's name, unchanged, and the network is the paper's: its classifier,
    with its localisation network and its family at the input; without rotation augmentation or coordinates, and not
    asked about turned images. Parameters, recipe,
    seeds and the transformer's output are the trial's own.
    """
    dataset, transformer, classifier = trial.dataset, trial.model.transformer, trial.model.classifier
    if trial.source.name != "mnist" or trial.validation or trial.model.tta_angles or trial.model.rotation_augmentation:
        return None
    if dataset.name not in DATASETS or dataset != DatasetSpec.model_validate(dataset.name):
        return None
    if transformer is None:
        return _ERRORS.get((dataset.name, (classifier, None, 0)))
    own = (transformer.localisation, transformer.before, transformer.control_points, transformer.pose)
    changed = (transformer.padding, transformer.bounds, transformer.localisation_from) != ("zeros", None, None)
    if changed or transformer.coordinates or own != (_LOCALISATION.get(classifier), (0,), 4, "predicted"):
        return None
    return _ERRORS.get((dataset.name, (classifier, transformer.family, transformer.parallel)))
