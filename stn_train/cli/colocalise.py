"""`stn-train colocalise`: train localisers without labels, and report how often they find the digit."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Never

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
    from tqdm import tqdm

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
    """Train a transformer without labels to find the digit that all images show, class by class, and report.

    The same command again skips the cells that are finished.

    For instance: stn-train colocalise --config paper/colocalisation --only 't/*'
    """
    from stn_train.colocalisation.spec import cells_of
    from stn_train.config import load_colocalisation

    spec = load_colocalisation(config, [*(overrides or ()), *(["validation=true"] if validate else [])])
    cells = cells_of(spec, only)
    if not cells:
        known = cells_of(spec)[0].key
        raise UserError(f"--only {only} matches no dataset/class of {config}, which has for instance {known}")

    from stn_train.colocalisation.report import ColocalisationFolder, write_colocalisation_report
    from stn_train.colocalisation.run import run_colocalisation
    from stn_train.experiment.runtime import open_runtime

    runtime = open_runtime(device, threads, data_root or spec.data_root, None)
    folder = ColocalisationFolder(output_dir or Path("runs") / spec.name)
    where = f"{len(cells)} {'cell' if len(cells) == 1 else 'cells'} on {runtime.device}, into {folder.path}"
    display = _Display(quiet, where)
    with stop_on_signal() as stopping:
        try:
            for progress in run_colocalisation(spec, cells, folder, runtime, lambda: bool(stopping())):
                display.show(progress)
        except Stopped:
            display.close()
            raise stopped("the finished cells are kept, the running one begins anew", stopping()) from None
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


class _Display:
    """Progress on stderr: a bar on a terminal, and a line for each part that has ended; only warnings when quiet.

    `where` says on what and into which folder, and is told first.
    """

    def __init__(self, quiet: bool, where: str) -> None:
        self.quiet = quiet
        self.where = where
        self.bar: tqdm[Never] | None = None
        self.began = time.monotonic()
        self.failed: list[str] = []

    def show(self, progress: "ColocalisationProgress") -> None:
        """A part begins, goes on, has ended, or has failed."""
        if progress.warning is not None:
            self._line(f"warning: {progress.warning}")
        if progress.failure is not None:
            self.close()
            self.failed.append(progress.part)
            self._line(f"{progress.part:8}  failed: {progress.failure}")
        if self.quiet or progress.failure is not None:
            return
        if self.where:
            self._line(self.where)
            self.where = ""
        if progress.found is not None:
            self.close()
            what = "right" if progress.part == "encoder" else "found"
            took = "was finished before" if progress.skipped else f"{time.monotonic() - self.began:.1f} s"
            self._line(f"{progress.part:8}  {what} {progress.found:.1f} %  {took}")
        elif progress.done == 0:
            self.began = time.monotonic()
            if sys.stderr.isatty():
                from tqdm import tqdm

                self.bar = tqdm(total=1.0, desc=progress.part, bar_format=_FORMAT, file=sys.stderr, leave=False)
        elif self.bar is not None:
            self.bar.update(progress.done - self.bar.n)

    def close(self) -> None:
        """Leave the terminal as it should be."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    @staticmethod
    def _line(text: str) -> None:
        print(text, file=sys.stderr, flush=True)


_FORMAT = "{desc} |{bar}| {remaining} left"
