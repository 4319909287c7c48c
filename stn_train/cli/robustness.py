"""`stn-train robustness`: measure a run's networks on images unlike those of their training."""

from contextlib import closing

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
from stn_train.cli.workers import Devices, Jobs, asked
from stn_train.errors import Stopped


def robustness(
    run: Run,
    data_root: DataRoot = None,
    device: Device = None,
    threads: Threads = None,
    allow_imports: AllowImports = False,
    quiet: Quiet = False,
    jobs: Jobs = None,
    devices: Devices = None,
) -> None:
    """Measure errors beyond the range of training.

    The error against rotation, scale, translation and clutter, also beyond what training has seen; and of networks
    trained on one dataset of the run and tested on another. Each finished trial is measured once; the report then
    shows it.

    For instance: stn-train robustness runs/rts
    """
    from stn_train.cli.progress import ProgressDisplay
    from stn_train.experiment.robustness import measure_robustness
    from stn_train.report.page import robustness as in_words
    from stn_train.report.write import report_run
    from stn_train.run_folder import RunFolder

    folder = RunFolder(run)
    experiment = folder.load_experiment()
    failed: list[Exception] = []
    with (
        stop_on_signal() as received,
        asked(jobs, devices, device, threads, data_root or experiment.data_root, allow_imports) as (runtime, workers),
        closing(ProgressDisplay(quiet, "")) as display,
    ):
        display.begin("measuring", len(folder.finished(experiment)), "trials")
        try:
            for done, progress in enumerate(
                measure_robustness(folder, experiment, runtime, lambda: bool(received), workers), start=1
            ):
                if progress.failure is not None:
                    failed.append(progress.failure)
                elif not quiet:
                    words = "was measured before" if progress.skipped else "measured"
                    display.line(f"trial {progress.number} of {progress.total}  {progress.trial.key}  {words}")
                display.after_step(done)
        except Stopped:
            display.close()
            raise stopped("what was measured is saved", received[0]) from None
    found = report_run(folder, experiment)
    if found.robustness is None:
        raise failed[0]
    typer.echo(in_words(found))
    typer.echo(f"\nreport: {folder.path / 'report.html'}")
    tell_failed(failed)
