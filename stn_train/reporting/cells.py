"""Rows as cells: the tables that the terminal and report.md have in common. A table's first line is its header."""

from collections.abc import Callable, Sequence

from stn_train.reporting.tables import Row
from stn_train.specs import ExperimentSpec
from stn_train.statistics import Estimate, is_shown, p_value

Column = tuple[str, Callable[[Row], str]]
"""A header, and what stands in a row's cell."""

MULTIPLY_ADDS = "multiply-adds"
PAPER = "paper %"
SPEED = "training img/s"

COLUMNS: tuple[Column, ...] = (
    ("dataset", lambda row: row.dataset),
    ("model", lambda row: row.model),
    ("seeds", lambda row: str(len(row.seeds))),
    ("parameters", lambda row: f"{row.parameters:,}"),
    (MULTIPLY_ADDS, lambda row: _shortened(row.multiply_adds)),
    ("error % [95 %]", lambda row: estimate(row.error)),
    (PAPER, lambda row: "-" if row.paper_error is None else f"{row.paper_error:.1f}"),
    ("vs baseline [95 %]", lambda row: estimate(row.difference) if row.difference else "-"),
    (SPEED, lambda row: f"{row.training_images_per_second:,.0f}"),
)


def details(rows: Sequence[Row], columns: Sequence[Column]) -> list[list[str]]:
    """A line for each row; the paper's figures are left out where it has none for any of them."""
    shown = [column for column in columns if column[0] != PAPER or any(row.paper_error is not None for row in rows)]
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
    """A line for each row that can be compared with its baseline; p where one is known for any of them."""
    lines = [["dataset", "model", "baseline", "verdict", "seeds", "difference [95 %]", "McNemar p"]]
    for row in rows:
        if row.baseline and row.difference:
            names = [row.dataset, row.model, row.baseline, _verdict(row.difference, row.mcnemar)]
            p = "-" if row.mcnemar is None else p_value(row.mcnemar)
            lines.append([*names, str(len(row.paired_seeds)), estimate(row.difference), p])
    return lines if any(row.mcnemar is not None for row in rows) else [line[:-1] for line in lines]


def estimate(number: Estimate) -> str:
    """A value with its interval behind: `0.57 [0.43, 0.74]`."""
    return f"{number.value:z.2f} [{number.low:z.2f}, {number.high:z.2f}]"


def _errors(dataset: str, rows: Sequence[Row | None]) -> list[str]:
    """The column of one dataset; None for a model that has no row there."""
    ours = [dataset, *(f"{row.error.value:.2f}" if row else "-" for row in rows)]
    papers = [f" ({row.paper_error:.1f})" if row and row.paper_error is not None else "" for row in rows]
    papers = [" (paper)" if any(papers) else "", *papers]
    width = max(map(len, papers))
    return [f"{error}{paper.ljust(width)}" for error, paper in zip(ours, papers, strict=True)]


def _range(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return str(least) if least == most else f"{least}-{most}"


def _verdict(difference: Estimate, p: float | None) -> str:
    if not is_shown(difference, p):
        return "no difference shown"
    return "errs less" if difference.value < 0 else "errs more"


def _shortened(count: int) -> str:
    """A count to three figures: 31.2 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
