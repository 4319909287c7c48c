"""What a report says: the question and the verdict, the evidence, and what is needed to run it again. As blocks."""

from collections.abc import Mapping, Sequence
from typing import Any

from stn_train.config import dump
from stn_train.report.cells import (
    COLUMNS,
    EACH_SEED,
    PAPER,
    Column,
    comparisons,
    crossed,
    details,
    diagnostics,
    found,
    in_the_papers_layout,
    or_dash,
    residual_curves,
    residuals,
    within_class,
)
from stn_train.report.page import Block, Bullets, Code, Heading, Picture, Table, Text
from stn_train.report.results import Row
from stn_train.report.robustness import Robust
from stn_train.report.text import alignment_sentences, gains, in_words, verdicts, warnings, without_controls
from stn_train.specs import CLASSIFIERS, ExperimentSpec, baseline_of, trials_of
from stn_train.statistics import p_value
from stn_train.storage import at_home

POSE = (
    "How much of the variation in the digits' pose is removed in what the classifier reads: 100 % is all of it, 0 % is "
    "what a transformer does that treats every image alike, below 0 % it adds variation. In parentheses the variation "
    "(root mean square over the images) before and after; without a percentage where there was next to nothing to "
    "remove. A pose that all images have in common, such as a zoom, counts for nothing. Translation is in the digit's "
    "own pixels; scale and aspect are logarithms (0.1 is about 10 %). Where maps bend or project, all that is not "
    "translation is the non-affine residual."
)
DRAWS = (
    "The same between two random distortions of the same digit, which differ by nothing else (but the clutter about "
    "them). Where more is removed here than above, the transformer gives each digit a pose of its own: it also evens "
    "out how a hand slants, for instance, which above counts as variation left or added."
)
COURSE = (
    "Half of the images lie no farther from the mean distortion than the amount given here, half lie farther (of the "
    "translation, x and y by themselves): of either half, the mean share of the distance that is removed. What a "
    "transformer does to some digits one way and to others the other way cancels out here; above, it counts. A figure "
    "below shows more than two steps."
)
FORM = (
    "The within-class share of the variance among images: 0 % where all images of a class are equal, 100 % where the "
    "mean images of all classes are equal. Where it is lower than among undistorted digits, the transformer has "
    "removed more than the distortion, such as how a hand slants. A difference of 6 points or less may come from "
    "reading between pixels, which blurs."
)
REGIONS = (
    "The sampled region against the digit's 28 x 28 frame: intersection over union (IoU), its mean over the images and "
    "the share of images above 0.5. After mean-pose alignment: of the region that would hold the frame if every image "
    "had the mean pose; this tells a transformer that always zooms from one that misses the digit. Last, the share of "
    "the digit's ink inside the sampled region."
)
DIAGNOSTICS = (
    "At the end of training, on training images, for each transformer of a network: the share of its sampling points "
    "outside the image; the size of what it shows (1: as large as what it reads); the share of images that it folds or "
    "mirrors; how far its points lie from the identity's, and from their mean over the images (2 is the whole image); "
    "and the norm of the localisation network's gradient, relative to the rest of the network."
)


ROBUST = (
    "The curves below: {images} images, all with the same rotation, scale, translation or number of clutter patches, "
    "and otherwise distorted as the dataset is. Grey is the range seen in training. A band reaches from the lowest to "
    "the highest seed. Levels at which digits do not fit on the canvas are left out."
)
CROSSED = (
    "Trained on the one, tested on the other: errors in %, means over the seeds. Each dataset is drawn on the canvas "
    "that the network was trained on."
)
UNMEASURED = (
    "Not measured yet. In this folder, this command adds the error against rotation, scale, translation and clutter, "
    "also beyond the range of training, and of networks trained on one dataset and tested on another:"
)


def meaning(experiment: ExperimentSpec, rows: Sequence[Row]) -> list[str]:
    """What there is to know about the errors and differences of these rows."""
    finished, trials = sum(len(row.seeds) for row in rows), len(trials_of(experiment))
    seeds = {len(row.seeds) for row in rows}
    paired = {len(row.paired_seeds) for row in rows}
    lines = (
        [f"Only {finished} of {trials} trials have finished; the rest is missing here."] if finished < trials else []
    )
    if experiment.validation:
        lines.append("These are errors on digits held out of the training set: to tune by, not to report.")
    for tta_angles in dict.fromkeys(row.tta_angles for row in rows if row.tta_angles):
        degrees, models = (
            [f"{one:g}" for one in tta_angles],
            [row.model for row in rows if row.tta_angles == tta_angles],
        )
        lines.append(
            f"Each image is read as it is and rotated clockwise by {in_words(degrees)} degrees, and the mean of the "
            f"probabilities decides (test-time augmentation), by {in_words(models)}; MACs and evaluation "
            f"speed are those of all {len(tta_angles) + 1} readings."
        )
    alone = [
        model.name for model in experiment.models if model.transformer and not baseline_of(model, experiment.models)
    ]
    if alone:
        lines.append(
            f"Without a baseline, that is a model of the same classifier and test-time augmentation without a "
            f"transformer: {in_words(alone)}."
        )
    if 1 in seeds:
        lines.append(
            "The error of one seed is that of one network; its 95 % interval says what other digits would give."
        )
    if max(seeds) > 1:
        lines.append(
            "The error of several seeds is their mean; its 95 % interval is for the mean over all trainings and "
            "all digits."
        )
    if paired != {0}:
        lines.append(
            "The difference to the baseline is in percentage points, on the same images and the seeds that both have "
            "finished; below zero, the model has fewer errors."
        )
    if 1 in paired:
        lines.append(
            "A difference over one seed is between two networks: its interval says what other digits would give, and "
            "nothing of other trainings. For a claim about the models, give several seeds."
        )
    if max(paired) > 1:
        lines.append(
            "A difference over several seeds, too, has an interval for other trainings and other digits together."
        )
    compared = sum(row.comparison is not None for row in rows)
    if compared > 1:
        lines.append(
            f"Each of the {compared} differences has an interval of its own: where nothing differs, one interval in "
            "twenty excludes zero by chance. p and the verdicts are corrected for that by Holm's method."
        )
    if any(row.paper_error is not None for row in rows):
        lines.append(
            "The paper's figures are test errors from arXiv:1506.02025, means over three seeds; they stand beside ours "
            "where dataset and network are the paper's."
        )
    if any(row.dataset == "tc" and row.paper_error is not None for row in rows):
        lines.append("On tc the paper does not say which family its transformers are of; ours are affine.")
    return lines + list(dict.fromkeys(_images(row) for row in rows))


def _images(row: Row) -> str:
    clipped = f", {100 * row.clipped / row.images:.2g} % of them clipped at the canvas's edge" if row.clipped else ""
    return (
        f"{row.dataset}: {row.images:,} {row.split} images of {row.digits:,} distinct digits{clipped}, "
        f"computed in {row.precision}."
    )


_FIRST = ("dataset", "model", "error % [95 %]", EACH_SEED, PAPER, "vs baseline [95 %]")
_DETAILS: tuple[Column, ...] = (
    *sorted(COLUMNS, key=lambda column: column[0] not in _FIRST),
    ("width", lambda row: "-" if row.width is None else f"{row.width:g}"),
    ("training s", lambda row: f"{row.training_seconds:,.0f}"),
    ("evaluation img/s", lambda row: f"{row.evaluation_images_per_second:,.0f}"),
)
"""What the question is about comes first, so that it is seen on a phone as well."""

_SENTENCES = 5
"""More verdicts than so many, on several datasets, are left to the table."""


def sections(
    experiment: ExperimentSpec,
    rows: Sequence[Row],
    found: Robust | None,
    figures: Mapping[str, Picture],
    environment: Mapping[str, Any] | None,
) -> list[Block]:
    """The report below its title.

    found: what was measured of robustness, if it was. figures: pictures by their titles. environment: what is in
    environment.json, or None where there is no such file.
    """
    datasets = in_words([row.dataset for row in rows])
    blocks: list[Block] = [
        Text(f"How much does a spatial transformer help on {datasets} ({experiment.source})?"),
        *_warnings(rows),
        *_findings(experiment, rows),
        *_where_from(rows),
        *_alignment(rows),
        *_robustness(found),
        *(block for title, picture in figures.items() for block in (Heading(title), picture)),
        *_network_by_network(rows),
        Heading("Errors by class"),
        Text("Percent of each true class's images, over all seeds; the confusion matrices are in report.json."),
        _class_errors(rows),
        Heading("What the numbers mean"),
        Bullets(meaning(experiment, rows)),
        Heading("To run it again"),
        Text(_again(experiment)),
        Code(f"stn-train run --config config.yaml{_allowed(experiment)}"),
        *_environment(environment),
        Code(dump(experiment)),
    ]
    return blocks if len({row.dataset for row in rows}) > 1 else list(map(_without_dataset, blocks))


def _again(experiment: ExperimentSpec) -> str:
    """Where the command that follows is to be given, and what it does."""
    paths = {"prebuilt": experiment.prebuilt, "data_root": experiment.data_root}
    relative = [f"{key}: {path}" for key, path in paths.items() if path and not at_home(path).is_absolute()]
    looked = f" Relative paths ({', '.join(relative)}) are relative to where it is run." if relative else ""
    return (
        "Run this in this folder, or save the configuration below as config.yaml and run it there. It trains "
        f"everything again, into runs/{experiment.name}; with --output-dir . in this folder it goes on with "
        f"what is here.{looked}"
    )


def _allowed(experiment: ExperimentSpec) -> str:
    """What a run's own configuration needs where classifiers are the user's: see experiment/plan."""
    ours = all(model.classifier in CLASSIFIERS for model in experiment.models)
    return "" if ours else " --allow-imports"


def _without_dataset(block: Block) -> Block:
    """A table without its column of datasets, where there is only one."""
    if not isinstance(block, Table) or block.lines[0][0] != "dataset":
        return block
    return Table([line[1:] for line in block.lines], block.names - 1)


def _warnings(rows: Sequence[Row]) -> list[Block]:
    sentences = warnings(rows)
    return [Bullets([f"Warning: {sentence}." for sentence in sentences])] if sentences else []


def _findings(experiment: ExperimentSpec, rows: Sequence[Row]) -> list[Block]:
    """The verdicts; of several datasets, a line for each comparison as well, which is enough where there are many."""
    said = verdicts(without_controls(rows))
    sentences = Bullets([f"{sentence}." for sentence in said], strong=True)
    everything = Table(details(rows, _DETAILS), names=2)
    if len({row.dataset for row in rows}) == 1:
        return [sentences, everything]
    compared = comparisons(rows)
    return [
        *([sentences] if len(said) <= _SENTENCES else []),
        Text(f"{rows[0].split.capitalize()} error in %, the mean over the seeds:"),
        Table(in_the_papers_layout(experiment, rows), names=1),
        *([Table(compared, names=4)] if len(compared) > 1 else []),
        Heading("Every model on every dataset"),
        everything,
    ]


def _where_from(rows: Sequence[Row]) -> list[Block]:
    """The section on the controls, where there are any."""
    sentences = gains(rows)
    if not sentences:
        return []
    told = [
        "Controls stand beside each model. One is the same network with its transformer frozen at the identity, whose "
        "classifier reads images of the same size."
    ]
    if any(row.gain and row.gain.supervised for row in rows):
        told.append("In another, the localisation network is supervised: it learns the true pose, and nothing else.")
    if any(row.gain and row.gain.oracle for row in rows):
        told.append(
            "The oracle is given the true pose, in training and test. The pose tells more than the picture: how "
            "upright a digit was written, and which way up it was."
        )
    return [Heading("Where does the gain come from?"), Bullets([f"{one}." for one in sentences]), Text(" ".join(told))]


def _alignment(rows: Sequence[Row]) -> list[Block]:
    """The sections on what the transformers do, where that can be told."""
    told: tuple[tuple[str, list[str], list[list[str]], str], ...] = (
        (
            "Does it remove the distortion?",
            alignment_sentences(rows),
            residuals(rows, lambda alignment: alignment.pose),
            POSE,
        ),
        (
            "Between two random distortions of the same digit",
            [],
            residuals(rows, lambda alignment: alignment.pose_of_a_digit),
            DRAWS,
        ),
        ("Does it remove large distortions as well as small ones?", [], residual_curves(rows), COURSE),
        ("Within-class share of the variance", [], within_class(rows), FORM),
        ("Does it find the digit?", [], found(rows), REGIONS),
        ("Diagnostics of the transformers", [], diagnostics(rows), DIAGNOSTICS),
    )
    blocks: list[Block] = []
    for question, sentences, lines, words in told:
        if lines:
            answers = [Bullets([f"{sentence}." for sentence in sentences])] if sentences else []
            blocks += [Heading(question), *answers, Table(lines, names=2), Text(words)]
    silent = [f"{row.model} on {row.dataset}" for row in rows if row.transforms and not row.alignment]
    if silent:
        blocks.append(
            Text(
                f"No pose metrics for {', '.join(silent)}: they need one digit per image, and a transformer at the "
                "input or several in a row."
            )
        )
    return blocks


def _robustness(robust: Robust | None) -> list[Block]:
    """What networks make of images unlike those of their training; where that was not measured, how to."""
    heading = Heading("How robust is it?")
    if robust is None:
        return [heading, Text(UNMEASURED), Code("stn-train robustness .")]
    blocks: list[Block] = [heading, Text(ROBUST.format(images=f"{robust.images:,}"))]
    return [*blocks, Table(crossed(robust), names=2), Text(CROSSED)] if robust.crossed else blocks


def _network_by_network(rows: Sequence[Row]) -> list[Block]:
    """McNemar's test of each seed, where several are compared."""
    lines = [
        [row.dataset, row.model, row.baseline, ", ".join(map(p_value, row.comparison.mcnemar))]
        for row in rows
        if row.baseline and row.comparison and len(row.comparison.mcnemar) > 1
    ]
    if not lines:
        return []
    header = ["dataset", "model", "baseline", "McNemar's exact p, seed by seed"]
    told = "The two networks of each seed by themselves; the verdict on the models is not pooled from them."
    return [Heading("Network by network"), Table([header, *lines], names=4), Text(told)]


def _class_errors(rows: Sequence[Row]) -> Table:
    classes = max(len(row.class_errors) for row in rows)
    lines = [
        [row.dataset, row.model, *map(or_dash, row.class_errors), *[""] * (classes - len(row.class_errors))]
        for row in rows
    ]
    return Table([["dataset", "model", *map(str, range(classes))], *lines], names=2)


def _environment(environment: Mapping[str, Any] | None) -> list[Block]:
    if environment is None:
        return []
    return [Bullets([f"{key}: {_plain(value)}" for key, value in environment.items() if value is not None])]


def _plain(value: Any) -> str:
    """`name value, name value` for a mapping, anything else as it stands."""
    return ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, Mapping) else str(value)
