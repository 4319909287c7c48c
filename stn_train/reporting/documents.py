"""Rows as documents: JSON for programs, CSV for spreadsheets, Markdown for readers."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from stn_train.evaluation.evidence import LEAST
from stn_train.reporting.cells import COLUMNS, comparisons, details, found, health, in_the_papers_layout, undone
from stn_train.reporting.evidence import SHARES
from stn_train.reporting.tables import Row
from stn_train.reporting.text import gains, verdicts, warnings
from stn_train.specs import ExperimentSpec, trials_of
from stn_train.statistics import Comparison, Estimate, p_value

FORMAT = 2
"""The format version of report.json."""

_DETAILS = (
    *COLUMNS,
    ("width", lambda row: "-" if row.width is None else f"{row.width:g}"),
    ("training s", lambda row: f"{row.training_seconds:,.0f}"),
    ("evaluation img/s", lambda row: f"{row.evaluation_images_per_second:,.0f}"),
)


def json_document(experiment: ExperimentSpec, rows: Sequence[Row]) -> dict[str, Any]:
    """Everything the report knows, as plain values: what `report.json` holds."""
    return {
        "format": FORMAT,
        "experiment": experiment.name,
        "source": experiment.source,
        "finished": _finished(rows),
        "trials": len(trials_of(experiment)),
        "verdicts": verdicts(rows),
        "gains": gains(rows),
        "warnings": warnings(rows),
        "rows": [row_values(row) for row in rows],
    }


def row_values(row: Row) -> dict[str, Any]:
    """A row as plain values."""
    return {**asdict(row), "health": [health.model_dump() for health in row.health]}


def csv_document(rows: Sequence[Row]) -> str:
    """A line for each row: an interval's ends in columns of their own, values by seed separated by spaces."""
    lines = [_flat(row) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def markdown(
    experiment: ExperimentSpec, rows: Sequence[Row], figures: Mapping[str, str], environment: Mapping[str, Any] | None
) -> str:
    """The report to read.

    figures: titles of pictures, each with its path relative to the report. environment: what is in environment.json,
    or None where there is no such file.
    """
    datasets = _in_words([row.dataset for row in rows])
    blocks = [
        f"# {experiment.name}",
        f"How much does a spatial transformer help on {datasets} ({experiment.source})?",
        *([_bullets(f"Warning: {sentence}." for sentence in warnings(rows))] if warnings(rows) else []),
        *_findings(experiment, rows),
        _table(details(rows, _DETAILS), names=2),
        *_where_from(rows),
        *_network_by_network(rows),
        "## What the numbers mean",
        _bullets(_meaning(experiment, rows)),
        *_evidence(rows),
        *(f"## {title}\n\n![{title}]({path})" for title, path in figures.items()),
        "## Errors by class",
        "Percent of each true class's images, over all seeds; the confusion matrices are in report.json.",
        _class_errors(rows),
        "## To run it again",
        "In this folder:\n\n```\nstn-train run --config config.yaml\n```",
    ]
    if environment is not None:
        blocks += ["## Environment", _bullets(f"{key}: {_plain(value)}" for key, value in environment.items())]
    return "\n\n".join(blocks) + "\n"


def _findings(experiment: ExperimentSpec, rows: Sequence[Row]) -> list[str]:
    """The verdicts; of several datasets, the paper's layout before, and a line for each comparison in place of them."""
    sentences = _bullets(f"**{sentence}**" for sentence in verdicts(rows))
    if len({row.dataset for row in rows}) == 1:
        return [sentences]
    compared = comparisons(rows)
    return [
        f"{rows[0].split.capitalize()} error in %, the mean over the seeds:",
        _table(in_the_papers_layout(experiment, rows), names=1),
        _table(compared, names=4) if len(compared) > 1 else sentences,
        "## Every model on every dataset",
    ]


def _finished(rows: Sequence[Row]) -> int:
    return sum(len(row.seeds) for row in rows)


def _flat(row: Row) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in asdict(row).items():
        if key == "error":
            flat |= _flat_estimate(key, row.error)
        elif key == "comparison":
            flat |= _flat_comparison(row.comparison)
        elif key == "class_errors":
            flat |= {f"error_of_class_{label}": error for label, error in enumerate(value)}
        elif key in ("seeds", "seed_errors", "paired_seeds"):
            flat[key] = " ".join(map(str, value))
        elif key == "undoing":
            flat |= _flat_evidence(row)
        elif key == "troubles":
            flat["warnings"] = "; ".join(value)
        elif key not in ("confusion", "gain", "health"):
            flat[key] = value
    return flat


def _flat_estimate(name: str, number: Estimate | None) -> dict[str, Any]:
    ends = (number.value, number.low, number.high) if number else (None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))


def _flat_comparison(comparison: Comparison | None) -> dict[str, Any]:
    flat = _flat_estimate("difference", comparison.difference if comparison else None)
    if comparison is None:
        return flat | dict.fromkeys(("p", "adjusted_p", "mcnemar"))
    exact = " ".join(map(str, comparison.mcnemar))
    return flat | {"p": comparison.p, "adjusted_p": comparison.adjusted, "mcnemar": exact}


def _flat_evidence(row: Row) -> dict[str, Any]:
    """What is undone in percent, component by component, and the shares of regions; None where they cannot be told."""
    scores = {one.component: one.score for one in row.undoing.pose} if row.undoing else {}
    shares = row.undoing.overlap if row.undoing else None
    flat = {f"undone_{component}": score.value if (score := scores.get(component)) else None for component in LEAST}
    return flat | {name: getattr(shares, name).value if shares else None for name in SHARES}


def _where_from(rows: Sequence[Row]) -> list[str]:
    """The section on the controls, where there are any."""
    sentences = gains(rows)
    if not sentences:
        return []
    told = (
        "Two controls stand beside each model: the same network with its transformer frozen at the identity, whose "
        "classifier reads images of the same size; and the same classifier behind a transformer that is given the true "
        "pose, which is as good as a pose can be undone."
    )
    return ["## Where does the gain come from?", _bullets(f"{sentence}." for sentence in sentences), told]


def _network_by_network(rows: Sequence[Row]) -> list[str]:
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
    return ["## Network by network", _table([header, *lines], names=4), told]


def _evidence(rows: Sequence[Row]) -> list[str]:
    """The sections on what the transformers do, where that can be told."""
    blocks = []
    if poses := undone(rows):
        blocks += [
            "## Does it undo the distortion?",
            _table(poses, names=2),
            "How much of the digits' varying pose is gone in what the classifier reads: 100 % is all, 0 % is what a "
            "transformer does that treats every image alike, below 0 % it adds to it. In parentheses the spread (root "
            "mean square) of each component over the images, before and after; without a percentage where there was "
            "next to nothing to undo. A pose that all images have in common, such as a zoom, counts for nothing. "
            "Place is in the digit's own pixels; scale and aspect are logarithms (0.1 is about 10 %). Where maps bend "
            "or project, shape is all but place.",
        ]
    if regions := found(rows):
        blocks += [
            "## Does it find the digit?",
            _table(regions, names=2),
            "The region that the transformer samples against the digit's 28 x 28 frame: intersection over union, its "
            "mean over the images and the share of images above 0.5. Aligned: the region that would hold the frame if "
            "every image had the mean pose; it tells a transformer that zooms, always alike, from one that misses. "
            "Last, how much of the digit's ink the sampled region holds.",
        ]
    if states := health(rows):
        blocks += [
            "## Is it healthy?",
            _table(states, names=2),
            "At the end of training, on training images, each transformer of a network by itself: the share of its "
            "sampling points outside the image; the size of what it shows (1: as large as what it reads); the share of "
            "images that it folds over or mirrors; how far its points lie from the identity's, and from where they "
            "lie in the mean over the images (2 is the whole image); and the norm of the localisation network's "
            "gradient beside that of the rest.",
        ]
    silent = [row for row in rows if row.transforms and not row.undoing]
    if blocks and silent:
        names = ", ".join(f"{row.model} on {row.dataset}" for row in silent)
        blocks.append(
            f"Not told for {names}: there is one pose to tell only of images that show one digit, and of transformers "
            "at the input, one or several in a row."
        )
    return blocks


def _meaning(experiment: ExperimentSpec, rows: Sequence[Row]) -> list[str]:
    finished, trials = _finished(rows), len(trials_of(experiment))
    seeds = {len(row.seeds) for row in rows}
    paired = {len(row.paired_seeds) for row in rows}
    lines = (
        [f"Only {finished} of {trials} trials have finished; the rest is missing here."] if finished < trials else []
    )
    if experiment.validation:
        lines.append("These are errors on digits held out of the training set: to tune by, not to report.")
    if 1 in seeds:
        lines.append(
            "The error of one seed is that of one network; its 95 % interval says what other digits would give."
        )
    if max(seeds) > 1:
        lines.append(
            "The error of several seeds is their mean; its 95 % interval is the t interval over the seeds and says "
            "what other trainings would give on these images."
        )
    if paired != {0}:
        lines.append(
            "The difference to the baseline is in percentage points, on the same images and the seeds that both have "
            "finished; below zero, the model errs less."
        )
    if 1 in paired:
        lines.append(
            "A difference over one seed is between two networks: its interval says what other digits would give, and "
            "nothing of other trainings. For a claim about the models, give several `seeds`."
        )
    if max(paired) > 1:
        lines.append(
            "A difference over several seeds has an interval for other trainings and for other digits together."
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


def _class_errors(rows: Sequence[Row]) -> str:
    classes = max(len(row.class_errors) for row in rows)
    header = ["dataset", "model", *map(str, range(classes))]
    return _table(
        [
            header,
            *(
                [row.dataset, row.model, *("-" if error is None else f"{error:.2f}" for error in row.class_errors)]
                for row in rows
            ),
        ],
        names=2,
    )


def _table(lines: Sequence[Sequence[str]], names: int) -> str:
    """The first `names` columns flush left, the others flush right."""
    rule = ["---" if index < names else "---:" for index in range(len(lines[0]))]
    return "\n".join(f"| {' | '.join(map(str.strip, line))} |" for line in [lines[0], rule, *lines[1:]])


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _in_words(names: Sequence[str]) -> str:
    """Names in their order, each once: `r, rts and tc`."""
    *others, last = dict.fromkeys(names)
    return f"{', '.join(others)} and {last}" if others else last


def _plain(value: Any) -> str:
    """`name value, name value` for a mapping, anything else as it stands."""
    return ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, Mapping) else str(value)
