"""`python scripts/benchmark`: how fast this machine trains, as ratios against named baselines."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that the parts of this folder find each other

from benchmark.rows import Measurement, Setting, measure, source_at_hand
from benchmark.table import ROWS, rows_of
from stn_train.cli.common import AsJson, DataRoot, Device, Quiet, Threads
from stn_train.experiment.runtime import environment, open_runtime
from stn_train.report.page import aligned
from stn_train.storage import json_text


def bench(
    only: Annotated[
        str, typer.Option(metavar="PATTERN", help="Only the rows whose name matches, as 'images/*'.")
    ] = "*",
    as_json: AsJson = False,
    data_root: DataRoot = None,
    device: Device = None,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Measure how fast images are made, networks trained and evaluated: ratios against baselines timed side by side.

    Without MNIST at hand it takes the bundled digits. A few minutes on two idle CPU cores.

    For instance: python scripts/benchmark --only 'images/*'
    """
    rows = rows_of(only)
    if not rows:
        raise typer.BadParameter(f"--only {only} matches no row; there are {', '.join(row.name for row in ROWS)}")
    runtime = open_runtime(device, threads, data_root, None)
    setting = Setting(runtime, source_at_hand(data_root))
    measurements: list[Measurement] = []
    for number, row in enumerate(rows, start=1):
        if not quiet:
            typer.echo(f"row {number} of {len(rows)}  {row.name}  ", nl=False, err=True)
        measurements.append(measure(row, setting))
        if not quiet:
            typer.echo(_spread(measurements[-1]), err=True)
    where = environment(runtime)
    if as_json:
        found = {"environment": where, "source": setting.source, "rows": [_values(one) for one in measurements]}
        typer.echo(json_text(found, only_ascii=True))
    else:
        typer.echo(_table(measurements))
        typer.echo(f"\non {where['device']}, CPU threads: {where['threads']}, digits: {setting.source}")


def _values(measurement: Measurement) -> dict[str, Any]:
    row = measurement.row
    return {
        "name": row.name,
        "baseline": row.baseline,
        "median": measurement.median,
        "low": min(measurement.values),
        "high": max(measurement.values),
        "values": measurement.values,
        "unit": row.target.unit,
        "target": {"bound": row.target.bound, "limit": row.target.limit},
        "reached": measurement.reached,
    }


def _table(measurements: list[Measurement]) -> str:
    lines = [["row", "against", "median [lowest, highest]", "target", "reached"]]
    for one in measurements:
        reached = "yes" if one.reached else "no"
        lines.append([one.row.name, one.row.baseline, _spread(one), str(one.row.target), reached])
    return aligned(lines, names=2)


def _spread(measurement: Measurement) -> str:
    low, high = min(measurement.values), max(measurement.values)
    return f"{measurement.median:.2f} [{low:.2f}, {high:.2f}] {measurement.row.target.unit}"


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(bench)
    app()
