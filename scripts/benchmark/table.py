"""All rows, in the order of the table."""

from fnmatch import fnmatchcase

from benchmark import images, processes, steps, tutorial
from benchmark.rows import Row

ROWS: tuple[Row, ...] = (*images.ROWS, *steps.ROWS, *tutorial.ROWS, *processes.ROWS)
"""Every row."""


def rows_of(only: str) -> list[Row]:
    """The rows whose name matches a pattern."""
    return [row for row in ROWS if fnmatchcase(row.name, only)]
