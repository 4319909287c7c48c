"""`stn-train run`: train what a configuration says, and report."""

import shlex
import textwrap
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stn_train.cli.common import (
    AllowImports,
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
from stn_train.cli.workers import CpusPerTrial, Devices, GpusPerTrial, Jobs, Ray, SideBySide
from stn_train.errors import Stopped, UserError

if TYPE_CHECKING:
    from stn_train.cli.progress import ProgressDisplay
    from stn_train.data.images import ImageSet
    from stn_train.experiment.runtime import Runtime
    from stn_train.run_folder import RunFolder
    from stn_train.specs import ExperimentSpec, TrialSpec


Seeds = Annotated[str | None, typer.Option("--seeds", metavar="N,N", help="Seeds in place of the configuration's.")]
Only = Annotated[
    str, typer.Option("--only", metavar="PATTERN", help="Only the trials whose dataset/model matches, as 'rts/st_*'.")
]
Track = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Log every epoch to tensorboard, wandb or trackio."),
]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="The same as --track tensorboard.")]
Extend = Annotated[
    bool,
    typer.Option(
        "--extend", help="Train a finished run on, to more training.epochs: the learning rate's schedule begins anew."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be trained, estimate for how long, and stop.")]
PlanAsJson = Annotated[bool, typer.Option("--json", help="With --dry-run: print JSON.")]


def run(
    config: Config,
    output_dir: OutputDir = None,
    overrides: Overrides = None,
    seeds: Seeds = None,
    only: Only = "*",
    validate: Validate = False,
    data_root: DataRoot = None,
    device: Device = None,
    threads: Threads = None,
    track: Track = None,
    tensorboard: TensorBoard = False,
    extend: Extend = False,
    allow_imports: AllowImports = False,
    dry_run: DryRun = False,
    as_json: PlanAsJson = False,
    quiet: Quiet = False,
    jobs: Jobs = None,
    devices: Devices = None,
    ray: Ray = None,
    cpus_per_trial: CpusPerTrial = None,
    gpus_per_trial: GpusPerTrial = None,
) -> None:
    """Train with and without transformers, and compare.

    Trains every model of a configuration on every dataset and seed, and writes a report.

    The same command again skips what is finished and goes on where it was stopped.

    For instance: stn-train run --config quickstart
    """
    from stn_train.experiment.run import check_imports

    track = "tensorboard" if tensorboard else track
    side_by_side = None
    if (jobs or 1) > 1 or devices or ray is not None or cpus_per_trial or gpus_per_trial:
        side_by_side = SideBySide(jobs, devices, ray, cpus_per_trial, gpus_per_trial, device, threads)
    if extend or dry_run or as_json or track:
        _check_options(extend, dry_run, as_json, only, ray, track)
    experiment, trials, images = _planned(config, overrides or [], seeds, only, validate, data_root)
    if not allow_imports:
        check_imports(experiment, config)
    from stn_train.experiment.runtime import open_runtime
    from stn_train.run_folder import RunFolder

    folder = RunFolder(output_dir or Path("runs") / experiment.name)
    found = data_root or experiment.data_root, experiment.prebuilt
    runtime = side_by_side.runtime(*found) if side_by_side else open_runtime(device, threads, *found)
    runtime = replace(runtime, robustness=experiment.robustness)
    runtime.loaded.update(images)
    if dry_run:
        workers = side_by_side.count if side_by_side else 1
        typer.echo(_plan(experiment, trials, folder, runtime, workers, as_json, quiet))
        return
    everything, display = _train(experiment, trials, folder, runtime, side_by_side, quiet, track, extend)
    _conclude(everything, folder, display)


def _conclude(experiment: "ExperimentSpec", folder: "RunFolder", display: "ProgressDisplay") -> None:
    """Write the report of a folder, unless another command will, and tell what has failed (exit code 1)."""
    if display.busy:
        left = f"{len(display.busy)} of the trials are left to another command"
        typer.echo(f"{left}, which writes the report at its end", err=True)
    elif folder.finished(experiment):
        from stn_train.report.page import summary
        from stn_train.report.write import report_run

        typer.echo(f"{summary(report_run(folder, experiment))}\n\nreport: {folder.path / 'report.html'}")
        typer.echo(f"move a digit by hand, and watch: stn-train demo {shlex.quote(str(folder.path))}")
    if display.failed:
        typer.echo(f"failed: {', '.join(display.failed)}; the same command tries again", err=True)
        raise typer.Exit(1)


def _check_options(
    extend: bool,
    dry_run: bool,
    as_json: bool,
    only: str,
    ray: str | None,
    track: str | None,
) -> None:
    """Raise UserError for options that do not go together, or a tracker that there is not."""
    if extend and (dry_run or only != "*"):
        raise UserError(f"--extend trains all of a run on; leave out {'--dry-run' if dry_run else '--only'}")
    if dry_run and ray is not None:
        raise UserError("--dry-run measures on this machine: --jobs N in place of --ray tells the time of N workers")
    if as_json and not dry_run:
        raise UserError("--json goes with --dry-run; `stn-train status RUN` and report.json tell of what was trained")
    if track is not None:
        from stn_train.experiment.tracking import check_tracker

        check_tracker(track)


def _planned(
    config: str, overrides: list[str], seeds: str | None, only: str, validate: bool, data_root: str | None
) -> "tuple[ExperimentSpec, list[TrialSpec], dict[object, ImageSet]]":
    """The experiment that the options ask for, those of its trials that are to be run, and images that were read."""
    from stn_train.config import load_config
    from stn_train.experiment.runtime import read_config
    from stn_train.specs import trials_of

    options: dict[str, str] = {}
    if seeds is not None:
        options[f"seeds={_seed_list(seeds)}"] = f"--seeds {seeds}"
    if validate:
        options["validation=true"] = "--validate"
    experiment = load_config(config, [*overrides, *options], options)
    images: dict[object, ImageSet] = {}
    if not experiment.source.classes:
        experiment, images = read_config(config, [*overrides, *options], options, data_root)
    trials = trials_of(experiment, only)
    if not trials:
        first = trials_of(experiment)[0]
        known = f"{first.dataset.name}/{first.model.name}"
        raise UserError(f"--only {only} matches no dataset/model of {config}, which has for instance {known}")
    return experiment, trials, images


def _train(
    experiment: "ExperimentSpec",
    trials: "list[TrialSpec]",
    folder: "RunFolder",
    runtime: "Runtime",
    side_by_side: SideBySide | None,
    quiet: bool,
    track: str | None,
    extend: bool,
) -> "tuple[ExperimentSpec, ProgressDisplay]":
    """Run trials, with progress on stderr; the whole experiment of the folder, and what was shown."""
    from stn_train.cli.progress import ProgressDisplay
    from stn_train.experiment.run import open_run, run_trials

    if extend:
        from stn_train.experiment.extend import extend as prepared
        from stn_train.specs import trials_of

        experiment = prepared(experiment, folder, runtime)
        trials = trials_of(experiment)
    display = ProgressDisplay(quiet, f"on {runtime.device}, into {folder.path}")
    if side_by_side:
        from stn_train.cli.workers_display import WorkersDisplay

        display = WorkersDisplay(quiet, f"on {side_by_side.where}, into {folder.path}")
    with stop_on_signal() as received, ExitStack() as opened:

        def after_step(epochs: float) -> bool:
            display.after_step(epochs)
            return bool(received)

        try:
            everything = open_run(experiment, trials, folder, runtime, lambda: bool(received))
            if side_by_side:
                from stn_train.experiment.executors import run_side_by_side

                workers = opened.enter_context(closing(side_by_side.workers(trials, folder, runtime)))
                running = run_side_by_side(workers, trials, folder, lambda: bool(received))
            else:
                running = run_trials(trials, folder, runtime, after_step)
            if track is not None:
                from stn_train.experiment.tracking import tracked

                running = tracked(running, folder, track)
            for progress in running:
                display.show(progress)
        except Stopped:
            display.close()
            raise stopped("what was trained is saved", received[0]) from None
        finally:
            display.close()
    return everything, display


def _seed_list(text: str) -> list[int]:
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise UserError(f"--seeds {text}: expected whole numbers separated by commas, such as 0,1,2") from None


def _plan(
    experiment: "ExperimentSpec",
    trials: "list[TrialSpec]",
    folder: "RunFolder",
    runtime: "Runtime",
    workers: int,
    as_json: bool,
    quiet: bool,
) -> str:
    """What --dry-run says: a line for each dataset and model, and for how long so many workers would train all of them;
    or the same as JSON."""
    from dataclasses import asdict

    import torch

    from stn_train.cli.progress import ProgressDisplay
    from stn_train.experiment.estimate import duration, plan
    from stn_train.experiment.run import check_trials, in_folder
    from stn_train.report.page import WIDTH, aligned
    from stn_train.storage import json_text

    check_trials(trials, runtime.prebuilt)
    in_folder(experiment, folder)
    cells = []
    display = ProgressDisplay(quiet, "")
    display.begin(
        "measuring a few steps of each model", len({trial.key.rpartition("/")[0] for trial in trials}), "models"
    )
    for cell in plan(trials, folder, runtime):
        cells.append(cell)
        display.after_step(len(cells))
    display.close()
    left, finished = duration(cells, workers), sum(cell.finished for cell in cells)
    where = {"device": str(runtime.device), "threads": torch.get_num_threads(), "workers": workers}
    if as_json:
        total = {"trials": len(trials), "finished": finished, "seconds_left": left}
        return json_text(where | total | {"cells": [asdict(cell) for cell in cells]}).rstrip()
    lines = [["dataset", "model", "width", "parameters", "MACs", "epochs", "a trial"]]
    for cell in cells:
        width = "-" if cell.width is None else f"{cell.width:g}"
        numbers = [width, f"{cell.parameters:,}", f"{cell.macs / 1e6:.1f} M", str(cell.epochs)]
        lines.append([cell.dataset, cell.model, *numbers, _duration(cell.seconds_per_trial)])
    counted = f"{len(trials)} {'trial' if len(trials) == 1 else 'trials'}"
    said = f"{counted}, {finished} of them finished" if finished else counted
    on = f"{where['device']} with {where['threads']} {'thread' if where['threads'] == 1 else 'threads'}"
    sentence = f"{said}: nothing is left to train."
    if workers > 1:
        on = f"{workers} workers, each {on}"
    if left:
        sentence = (
            f"{said}: about {_duration(left)} left on {on}. This is an estimate, from a few steps of each model; with "
            "other work on the machine it takes longer."
        )
    return f"{aligned(lines, names=2)}\n\n{textwrap.fill(sentence, WIDTH)}"


def _duration(seconds: float) -> str:
    """A duration to about two figures: 45 s, 12 min, 3.5 h, 12 days."""
    units = ("s", 1, 90), ("min", 60, 90 * 60), ("h", 3600, 48 * 3600)
    unit, length = next(((unit, length) for unit, length, most in units if seconds < most), ("days", 86_400))
    number = seconds / length
    return f"{number:.0f} {unit}" if number >= 10 else f"{number:.1f} {unit}"
