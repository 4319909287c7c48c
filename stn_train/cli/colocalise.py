"""`stn-train colocalise`: train localisers without labels, and report how often they find the digit."""

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
from stn_train.errors import Stopped, UserError

if TYPE_CHECKING:
    from stn_train.cli.progress import ProgressDisplay
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

    from stn_train.cli.progress import ProgressDisplay
    from stn_train.colocalisation.report import ColocalisationFolder, write_colocalisation_report
    from stn_train.colocalisation.run import run_colocalisation
    from stn_train.experiment.runtime import open_runtime

    runtime = open_runtime(device, threads, data_root or spec.data_root, None)
    folder = ColocalisationFolder(output_dir or Path("runs") / spec.name)
    display = ProgressDisplay(quiet, f"on {runtime.device}, into {folder.path}")
    ended: set[str] = set()
    with stop_on_signal() as received:
        try:
            for progress in run_colocalisation(spec, cells, folder, runtime, lambda: bool(received)):
                _show(progress, display, len(cells), len(ended))
                if progress.part != "encoder" and (progress.found is not None or progress.failure is not None):
                    ended.add(progress.part)
        except Stopped:
            display.close()
            raise stopped("the finished cells are kept, the running one begins anew", received[0]) from None
        finally:
            display.close()
    if any(folder.result(cell).exists() for cell in cells_of(spec)):
        typer.echo(write_colocalisation_report(spec, folder).table)
        if spec.validation:
            typer.echo("\nmeasured on validation digits, held out of the training digits: not test digits")
        typer.echo(f"\nreport: {folder.path / 'report.html'}")
    if display.failed:
        typer.echo(f"failed: {', '.join(display.failed)}; the same command tries again", err=True)
        raise typer.Exit(1)


def _show(progress: "ColocalisationProgress", display: "ProgressDisplay", cells: int, ended: int) -> None:
    """A part begins, goes on, has ended, or has failed; so many cells have ended before."""
    if progress.warning is not None:
        display.line(f"warning: {progress.warning}")
    if progress.failure is not None:
        display.fail(progress.part, f"{progress.part:8}  failed: {progress.failure}")
    if progress.failure is not None or display.quiet:
        return
    display.tell_where(cells, "cell")
    if progress.found is not None:
        what = "right" if progress.part == "encoder" else "found"
        took = "was finished before" if progress.skipped else f"{display.seconds:.1f} s"
        display.end(f"{progress.part:8}  {what} {progress.found:.1f} %  {took}")
    elif progress.done == 0:
        display.begin(progress.part, 100, "%", ended / cells, 0 if progress.part == "encoder" else 1 / cells)
    else:
        display.after_step(100 * progress.done)
