"""Rows as plain text: the aligned table and the verdicts that a run ends with."""

import textwrap
from collections.abc import Callable, Sequence

from stn_train.reporting.tables import Row
from stn_train.statistics import Estimate, verdict

WIDTH = 110

COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("dataset", lambda row: row.dataset),
    ("model", lambda row: row.model),
    ("seeds", lambda row: str(len(row.seeds))),
    ("parameters", lambda row: f"{row.parameters:,}"),
    ("multiply-adds", lambda row: _shortened(row.multiply_adds)),
    ("error % [95 %]", lambda row: estimate(row.error)),
    ("vs baseline [95 %]", lambda row: estimate(row.difference) if row.difference else "-"),
    ("training img/s", lambda row: f"{row.training_images_per_second:,.0f}"),
)
"""The table's columns: a header, and what stands in a row's cell."""

_NAMES = ("dataset", "model")


def summary(rows: Sequence[Row]) -> str:
    """The aligned table, its datasets named where there are several, and a verdict for each comparison below."""
    columns = [column for column in COLUMNS if column[0] != "dataset" or len({row.dataset for row in rows}) > 1]
    table = aligned(
        [[header for header, _ in columns], *([cell(row) for _, cell in columns] for row in rows)],
        names=sum(header in _NAMES for header, _ in columns),
    )
    sentences = [textwrap.fill(sentence, WIDTH, subsequent_indent="  ") for sentence in verdicts(rows)]
    return "\n".join([table, "", *sentences])


def verdicts(rows: Sequence[Row]) -> list[str]:
    """A sentence for each model that can be compared with its baseline, or one that says that none can."""
    several = len({row.dataset for row in rows}) > 1
    sentences = [
        (f"{row.dataset}: " if several else "")
        + verdict(row.model, row.baseline, row.difference, len(row.paired_seeds), row.mcnemar)
        for row in rows
        if row.baseline and row.difference
    ]
    return sentences or ["nothing to compare: no model and its baseline have both finished a seed"]


def aligned(lines: Sequence[Sequence[str]], names: int) -> str:
    """Cells in columns two spaces apart: the first `names` columns flush left, the others flush right."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index < names else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def estimate(number: Estimate) -> str:
    """A value with its interval behind: `0.57 [0.43, 0.74]`."""
    return f"{number.value:z.2f} [{number.low:z.2f}, {number.high:z.2f}]"


def _shortened(count: int) -> str:
    """A count to three figures: 31.2 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
