"""`stn-train bench`: how fast this machine trains, as ratios against named opponents."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stn_train.cli.options import AsJson, DataRoot, Device, Quiet, Threads
from stn_train.errors import UserError
from stn_train.storage import json_text

if TYPE_CHECKING:
    from stn_train.benchmark.rows import Measurement


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
    """Measure how fast images are made, networks trained and evaluated: ratios against opponents timed side by side.

    Without MNIST at hand it takes the bundled digits. A few minutes on two idle CPU cores.

    For instance: stn-train bench --only 'images/*'
    """
    from stn_train.benchmark.rows import Setting, measure, source_at_hand
    from stn_train.benchmark.table import ROWS, rows_of
    from stn_train.experiment.session import environment, open_session

    rows = rows_of(only)
    if not rows:
        raise UserError(f"--only {only} matches no row; there are {', '.join(row.name for row in ROWS)}")
    session = open_session(device, threads, data_root, None)
    setting = Setting(session, source_at_hand(data_root))
    measurements: list[Measurement] = []
    for number, row in enumerate(rows, start=1):
        if not quiet:
            typer.echo(f"row {number} of {len(rows)}  {row.name}  ", nl=False, err=True)
        measurements.append(measure(row, setting))
        if not quiet:
            typer.echo(_spread(measurements[-1]), err=True)
    where = environment(session)
    if as_json:
        found = {"environment": where, "source": setting.source, "rows": [_values(one) for one in measurements]}
        typer.echo(json_text(found, only_ascii=True))
    else:
        typer.echo(_table(measurements))
        typer.echo(f"\non {where['device']}, CPU threads: {where['threads']}, digits: {setting.source}")


def _values(measurement: "Measurement") -> dict[str, Any]:
    row = measurement.row
    return {
        "name": row.name,
        "opponent": row.opponent,
        "median": measurement.median,
        "low": min(measurement.values),
        "high": max(measurement.values),
        "values": measurement.values,
        "unit": row.target.unit,
        "target": {"bound": row.target.bound, "limit": row.target.limit},
        "reached": measurement.reached,
    }


def _table(measurements: "list[Measurement]") -> str:
    from stn_train.reporting.text import aligned

    lines = [["row", "against", "median [lowest, highest]", "target", "reached"]]
    for one in measurements:
        reached = "yes" if one.reached else "no"
        lines.append([one.row.name, one.row.opponent, _spread(one), str(one.row.target), reached])
    return aligned(lines, names=2)


def _spread(measurement: "Measurement") -> str:
    low, high = min(measurement.values), max(measurement.values)
    return f"{measurement.median:.2f} [{low:.2f}, {high:.2f}] {measurement.row.target.unit}"
