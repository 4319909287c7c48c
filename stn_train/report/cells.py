"""Rows as cells: the tables that the terminal and the report have in common. A table's first line is its header."""

from collections.abc import Callable, Sequence

from stn_train.evaluation.metrics import LEAST, label
from stn_train.report.alignment import SHARES, AlignmentSummary, CurveSummary, ResidualSummary
from stn_train.report.results import Row
from stn_train.report.robustness import Curve, Robust
from stn_train.specs import ExperimentSpec
from stn_train.statistics import Comparison, Estimate, p_value

Column = tuple[str, Callable[[Row], str]]
"""A header, and what stands in a row's cell."""

EACH_SEED = "error % of each seed"
MACS = "MACs"
PAPER = "paper %"
SPEED = "training img/s"
TRAINING_DIGITS = "training digits"
TTA_ANGLES = "TTA angles"

COLUMNS: tuple[Column, ...] = (
    ("dataset", lambda row: row.dataset),
    ("model", lambda row: row.model),
    ("seeds", lambda row: str(len(row.seeds))),
    (TRAINING_DIGITS, lambda row: f"{row.training_digits:,}"),
    (TTA_ANGLES, lambda row: ", ".join(f"{degrees:g}" for degrees in row.tta_angles) or "-"),
    ("parameters", lambda row: f"{row.parameters:,}"),
    (MACS, lambda row: _shortened(row.macs)),
    ("error % [95 %]", lambda row: estimate(row.error)),
    (EACH_SEED, lambda row: each_seed(row)),
    (PAPER, lambda row: "-" if row.paper_error is None else f"{row.paper_error:.1f}"),
    ("vs baseline [95 %]", lambda row: estimate(row.comparison.difference) if row.comparison else "-"),
    (SPEED, lambda row: f"{row.training_images_per_second:,.0f}"),
)


def details(rows: Sequence[Row], columns: Sequence[Column]) -> list[list[str]]:
    """A line for each row.

    The paper's figures are left out where it has none for any of them, the error of each seed where all have a single
    one, the training digits and the turns where all have the same.
    """
    left_out = {PAPER} if all(row.paper_error is None for row in rows) else set()
    left_out |= {EACH_SEED} if all(len(row.seed_errors) == 1 for row in rows) else set()
    left_out |= {TRAINING_DIGITS} if len({row.training_digits for row in rows}) == 1 else set()
    left_out |= {TTA_ANGLES} if len({row.tta_angles for row in rows}) == 1 else set()
    shown = [column for column in columns if column[0] not in left_out]
    return [[header for header, _ in shown], *([cell(row) for _, cell in shown] for row in rows)]


def in_the_papers_layout(experiment: ExperimentSpec, rows: Sequence[Row]) -> list[list[str]]:
    """A line for each model and a column for each dataset, as far as they have rows: `error (the paper's)`.

    What stands in one column is padded so that the errors are aligned.
    """
    cells = {(row.dataset, row.model): row for row in rows}
    datasets, models = ({key[side] for key in cells} for side in (0, 1))
    names = [model.name for model in experiment.models if model.name in models]
    counts = [_range([len(row.seeds) for row in rows if row.model == name]) for name in names]
    columns = [["model", *names], ["seeds", *counts]]
    for dataset in (dataset.name for dataset in experiment.datasets if dataset.name in datasets):
        columns.append(_errors(dataset, [cells.get((dataset, name)) for name in names]))
    return [list(line) for line in zip(*columns, strict=True)]


def comparisons(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each row that can be compared with its baseline; p is adjusted for all of them."""
    lines = [["dataset", "model", "baseline", "verdict", "seeds", "difference [95 %]", "p (Holm)"]]
    for row in rows:
        if row.baseline and row.comparison:
            names = [row.dataset, row.model, row.baseline, _verdict(row.comparison)]
            numbers = [estimate(row.comparison.difference), p_value(row.comparison.adjusted)]
            lines.append([*names, str(row.comparison.seeds), *numbers])
    return lines


def residuals(rows: Sequence[Row], pose_of: Callable[[AlignmentSummary], Sequence[ResidualSummary]]) -> list[list[str]]:
    """A line for each row whose transformers' poses can be told, a column for each component: `31 % (26.0 to 18.0 °)`.

    Without a percentage where there was next to nothing to remove; empty where there is no such row.
    """
    poses = [(row, pose_of(row.alignment)) for row in rows if row.alignment]
    told = [(row, {one.component: one for one in pose}) for row, pose in poses if pose]
    components = [component for component in LEAST if any(component in poses for _, poses in told)]
    lines = [
        [row.dataset, row.model, *(residual_cell(poses[name]) if name in poses else "-" for name in components)]
        for row, poses in told
    ]
    return [["dataset", "model", *map(label, components)], *lines] if lines else []


def residual_curves(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each row of which it is known how much is removed of how much, a column for each component.

    A cell is `66 % up to 45.0 °, 45 % beyond`; empty where there is no such row.
    """
    told = [(row, {one.component: one for one in row.alignment.residual_curves}) for row in rows if row.alignment]
    components = [component for component in LEAST if any(component in course for _, course in told)]
    lines = [
        [row.dataset, row.model, *(_curve(course[name]) if name in course else "-" for name in components)]
        for row, course in told
        if course
    ]
    return [["dataset", "model", *map(label, components)], *lines] if lines else []


def within_class(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each row of whose images it was measured how alike those of a class are; empty where there is none."""
    told = [(row, row.alignment.within_classes) for row in rows if row.alignment and row.alignment.within_classes]
    lines = [[row.dataset, row.model, *map(percent, (one.images, one.output, one.digits))] for row, one in told]
    return [["dataset", "model", "images", "what the classifier reads", "undistorted digits"], *lines] if lines else []


def found(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each row whose sampled regions can be told, in percent; empty where there is none."""
    header = ["dataset", "model", "IoU", "IoU > 0.5", "IoU after mean-pose alignment", "then > 0.5", "ink covered"]
    lines = [
        [row.dataset, row.model, *(percent(getattr(row.alignment.overlap, name)) for name in SHARES)]
        for row in rows
        if row.alignment
    ]
    return [header, *lines] if lines else []


def diagnostics(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each transformer; empty where there is none."""
    lines = [
        [
            *(row.dataset, row.model, str(number), f"{one.outside:.1%}", f"{one.scale:.2f}", f"{one.folded:.1%}"),
            *(f"{one.moved:.2f}", f"{one.std:.2f}", f"{one.gradient:.2g}"),
        ]
        for row in rows
        for number, one in enumerate(row.diagnostics, start=1)
    ]
    header = ["dataset", "model", "transformer", "out of bounds", "size", "folded", "moved", "std", "gradient"]
    return [header, *lines] if lines else []


def percent(number: Estimate) -> str:
    """A whole percentage, with its interval behind where there is one: `62 % [58, 66]`."""
    interval = f" [{number.low:z.0f}, {number.high:z.0f}]" if number.low < number.high else ""
    return f"{number.value:z.0f} %{interval}"


def residual_cell(one: ResidualSummary) -> str:
    """How much of the variation in a component is removed, and its spread before and after: `31 % (26.0 to 18.0 °)`."""
    spread = f"{one.before:.{_digits(one.unit)}f} to {_measure(one.after, one.unit)}"
    return spread if one.score is None else f"{percent(one.score)} ({spread})"


def _curve(one: CurveSummary) -> str:
    return f"{percent(one.small)} up to {_measure(one.limit, one.unit)}, {percent(one.large)} beyond"


def _measure(value: float, unit: str) -> str:
    return f"{value:.{_digits(unit)}f} {unit}".rstrip()


def _digits(unit: str) -> int:
    return 1 if unit in ("°", "px") else 2


def each_seed(row: Row) -> str:
    """The error of each seed: `0.71, 0.72, 88.65`."""
    return ", ".join(map(or_dash, row.seed_errors))


def estimate(number: Estimate) -> str:
    """A value with its interval behind: `0.57 [0.43, 0.74]`."""
    return f"{number.value:z.2f} [{number.low:z.2f}, {number.high:z.2f}]"


def or_dash(error: float | None) -> str:
    """An error in percent; a dash where there is none."""
    return "-" if error is None else f"{error:.2f}"


def _errors(dataset: str, rows: Sequence[Row | None]) -> list[str]:
    """The column of one dataset; None for a model that has no row there."""
    ours = [dataset, *(or_dash(row.error.value if row else None) for row in rows)]
    papers = [f" ({row.paper_error:.1f})" if row and row.paper_error is not None else "" for row in rows]
    papers = [" (paper)" if any(papers) else "", *papers]
    width = max(map(len, papers))
    return [f"{error}{paper.ljust(width)}" for error, paper in zip(ours, papers, strict=True)]


def _range(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return str(least) if least == most else f"{least}-{most}"


def crossed(robust: Robust) -> list[list[str]]:
    """A line for each model and dataset of training, and a column for each dataset of testing."""
    tested = list(robust.crossed[0].errors)
    lines = [["trained on", "model", *(f"tested on {name}, %" for name in tested)]]
    return lines + [[one.trained_on, one.model, *map(or_dash, one.errors.values())] for one in robust.crossed]


def held(curves: Sequence[Curve]) -> list[list[str]]:
    """A line for each model, and a column for each level of what is held; errors in percent, means over the seeds."""
    header = ["model", *(f"{level:g}" for level in curves[0].levels)]
    return [header, *([curve.model, *(f"{error:.1f}" for error in curve.means)] for curve in curves)]


def _verdict(comparison: Comparison) -> str:
    if not comparison.is_shown:
        return "no difference shown"
    return "fewer errors" if comparison.difference.value < 0 else "more errors"


def _shortened(count: int) -> str:
    """A count to three figures: 31.2 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
