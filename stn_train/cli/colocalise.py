"""`stn-train colocalise`: train localisers without labels, and report how often they find the digit."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stn_train.cli.common import (
    Config,
    DataRoot,
    Device,
    OutputDir,
    Overrides,
    Quiet,
    Threads,
    Validate,
    stop_on_signal,
    stopped,
)
from stn_train.cli.workers import Devices, Jobs, asked
from stn_train.errors import Stopped, UserError

if TYPE_CHECKING:
    from stn_train.cli.workers_display import WorkersDisplay
    from stn_train.colocalisation.run import ColocalisationProgress


def colocalise(
    config: Config,
    output_dir: OutputDir = None,
    overrides: Overrides = None,
    only: Annotated[
        str, typer.Option(metavar="PATTERN", help="Only the cells whose dataset/class matches, as 'tc/*'.")
    ] = "*",
    validate: Validate = False,
    data_root: DataRoot = None,
    device: Device = None,
    threads: Threads = None,
    quiet: Quiet = False,
    jobs: Jobs = None,
    devices: Devices = None,
) -> None:
    """Learn without labels where the digit is.

    Trains a transformer to find the digit that all images show, class by class, and writes a report.

    The same command again skips the cells that are finished.

    For instance: stn-train colocalise --config paper/colocalisation --only 't/*'
    """
    from stn_train.colocalisation.spec import ColocalisationSpec, cells_of
    from stn_train.config import load_config

    overrides = [*(overrides or ()), *(["validation=true"] if validate else [])]
    spec = load_config(config, overrides, kind=ColocalisationSpec)
    cells = cells_of(spec, only)
    if not cells:
        known = cells_of(spec)[0].key
        raise UserError(f"--only {only} matches no dataset/class of {config}, which has for instance {known}")

    from stn_train.cli.workers_display import WorkersDisplay
    from stn_train.colocalisation.report import ColocalisationFolder, write_colocalisation_report
    from stn_train.colocalisation.run import run_colocalisation

    folder = ColocalisationFolder(output_dir or Path("runs") / spec.name)
    with (
        stop_on_signal() as received,
        asked(jobs, devices, device, threads, data_root or spec.data_root) as (runtime, workers),
        closing(WorkersDisplay(quiet, "")) as display,
    ):
        where = f"{workers.count} processes, {', '.join(workers.devices)}" if workers else runtime.device
        display.where = f"on {where}, into {folder.path}"
        try:
            for progress in run_colocalisation(spec, cells, folder, runtime, lambda: bool(received), workers):
                _show(progress, display, len(cells))
        except Stopped:
            display.close()
            raise stopped("the finished cells are kept, others begin anew", received[0]) from None
    if any(folder.result(cell).exists() for cell in cells_of(spec)):
        typer.echo(write_colocalisation_report(spec, folder).table)
        if spec.validation:
            typer.echo("\nmeasured on validation digits, held out of the training digits: not test digits")
        typer.echo(f"\nreport: {folder.path / 'report.html'}")
    if display.failed:
        typer.echo(f"failed: {', '.join(display.failed)}; the same command tries again", err=True)
        raise typer.Exit(1)


def _show(progress: "ColocalisationProgress", display: "WorkersDisplay", cells: int) -> None:
    """A part begins, goes on, has ended, or has failed."""
    part, of_whole = f"{progress.part:8}", 0 if progress.part == "encoder" else 1 / cells
    if progress.warning is not None:
        display.line(f"warning: {progress.warning}")
    if progress.failure is not None:
        display.fail(progress.part, f"{part}  failed: {progress.failure}")
    if progress.failure is not None or display.quiet:
        return
    display.tell_where(cells, "cell")
    found = None
    if progress.found is not None:
        found = f"{part}  {'right' if progress.part == 'encoder' else 'found'} {progress.found:.1f} %"
    display.tell_part(progress.part, progress.done, of_whole, found, progress.skipped)
