"""`stn-train robustness`: measure a run's networks on images unlike those of their training."""

from typing import TYPE_CHECKING

import typer

from stn_train.cli.common import (
    AllowImports,
    DataRoot,
    Device,
    Quiet,
    Run,
    Threads,
    stop_on_signal,
    stopped,
    tell_failed,
)
from stn_train.errors import Stopped, UserError

if TYPE_CHECKING:
    from stn_train.experiment.robustness import RobustnessProgress


def robustness(
    run: Run,
    data_root: DataRoot = None,
    device: Device = None,
    threads: Threads = None,
    allow_imports: AllowImports = False,
    quiet: Quiet = False,
) -> None:
    """Measure errors beyond the range of training.

    The error against rotation, scale, translation and clutter, also beyond what training has seen; and of networks
    trained on one dataset of the run and tested on another. Each finished trial is measured once; the report then
    shows it.

    For instance: stn-train robustness runs/rts
    """
    from stn_train.experiment.robustness import measure_robustness
    from stn_train.experiment.runtime import open_runtime
    from stn_train.report.page import robustness as in_words
    from stn_train.report.write import report_run
    from stn_train.run_folder import RunFolder

    folder = RunFolder(run)
    experiment = folder.load_experiment()
    runtime = open_runtime(device, threads, data_root or experiment.data_root, allow_imports=allow_imports)
    failed: list[UserError] = []
    with stop_on_signal() as received:
        try:
            for progress in measure_robustness(folder, experiment, runtime, lambda: bool(received)):
                if progress.failure is not None:
                    failed.append(progress.failure)
                else:
                    _tell(progress, quiet)
        except Stopped:
            raise stopped("what was measured is saved", received[0]) from None
    found = report_run(folder, experiment)
    if found.robustness is None:
        raise failed[0]
    typer.echo(in_words(found))
    typer.echo(f"\nreport: {folder.path / 'report.html'}")
    tell_failed(failed)


def _tell(progress: "RobustnessProgress", quiet: bool) -> None:
    if not quiet:
        words = "was measured before" if progress.skipped else "measured"
        typer.echo(f"trial {progress.number} of {progress.total}  {progress.trial.key}  {words}", err=True)
