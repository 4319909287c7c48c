"""What the numbers of a report mean, in sentences."""

from collections.abc import Sequence

from stn_train.reporting.tables import Row
from stn_train.reporting.text import in_words
from stn_train.specs import ExperimentSpec, baseline_of, trials_of

POSE = (
    "How much of the digits' varying pose is gone in what the classifier reads: 100 % is all, 0 % is what a "
    "transformer does that treats every image alike, below 0 % it adds to it. In parentheses the spread (root mean "
    "square) of each component over the images, before and after; without a percentage where there was next to "
    "nothing to undo. A pose that all images have in common, such as a zoom, counts for nothing. Place is in the "
    "digit's own pixels; scale and aspect are logarithms (0.1 is about 10 %). Where maps bend or project, shape is "
    "all but place."
)
DRAWS = (
    "The same among images of one digit, which differ by their distortion alone (and by the clutter about them). Where "
    "more is undone here than above, the transformer gives each digit a pose of its own, as by evening out how a hand "
    "slants; above, that counts as if it had been left, or added."
)
COURSE = (
    "Half of the images lie no farther from the mean distortion than the amount given here, half lie farther (of the "
    "place, x and y by themselves): of either half, the share of the distance that is gone, on average. What a "
    "transformer does to some digits one way and to others the other way cancels out here; above, it counts. A figure "
    "below shows more than two steps."
)
FORM = (
    "Of what varies among images, how much lies within classes: 0 % where all images of a class are one, 100 % where "
    "no class has anything of its own. Where it is lower than among digits that are not distorted, the transformer has "
    "evened out more than the distortion, such as how a hand slants; but for a difference of some 6 points or less, "
    "which reading between pixels can make by itself, since it blurs."
)
REGIONS = (
    "The region that the transformer samples against the digit's 28 x 28 frame: intersection over union, its mean "
    "over the images and the share of images above 0.5. Aligned: the region that would hold the frame if every image "
    "had the mean pose; it tells a transformer that zooms, always alike, from one that misses. Last, how much of the "
    "digit's ink the sampled region holds."
)
HEALTHY = (
    "At the end of training, on training images, each transformer of a network by itself: the share of its sampling "
    "points outside the image; the size of what it shows (1: as large as what it reads); the share of images that it "
    "folds over or mirrors; how far its points lie from the identity's, and from where they lie in the mean over the "
    "images (2 is the whole image); and the norm of the localisation network's gradient beside that of the rest."
)


ROBUST = (
    "The curves below: {images} images, all with the same angle, scale, shift or number of clutter patches, and else "
    "distorted as the dataset is. Grey is what training has seen; beyond, the networks are asked for what they never "
    "learnt. A band reaches from the lowest to the highest seed. Levels are left out at which digits do not fit on the "
    "canvas."
)
CROSSED = (
    "Trained on the one, tested on the other: errors in %, means over the seeds. Each dataset is drawn on the canvas "
    "that the network knows, so a dataset stands here otherwise than where it has a canvas of its own."
)
UNMEASURED = (
    "Not measured yet. In this folder, this command adds the error against angle, scale, shift and clutter, also "
    "beyond what training has seen, and of networks trained on one dataset and tested on another:"
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
    for turns in dict.fromkeys(row.turns for row in rows if row.turns):
        degrees, models = [f"{one:g}" for one in turns], [row.model for row in rows if row.turns == turns]
        lines.append(
            f"Each image is read as it is and turned clockwise by {in_words(degrees)} degrees, and the mean of the "
            f"probabilities decides (test-time augmentation), by {in_words(models)}; multiply-adds and evaluation "
            f"speed are those of all {len(turns) + 1} readings."
        )
    alone = [
        model.name for model in experiment.models if model.transformer and not baseline_of(model, experiment.models)
    ]
    if alone:
        lines.append(
            f"Compared with nothing, for want of a model of the same classifier and turns without a transformer: "
            f"{in_words(alone)}."
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
            "finished; below zero, the model errs less."
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
            "twenty leaves out zero all the same. p and the verdicts are corrected for that by Holm's method."
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
