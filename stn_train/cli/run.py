"""`stn-train run`: train what a configuration says, and report."""

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
from stn_train.errors import Stopped, UserError

if TYPE_CHECKING:
    from stn_train.experiment.runtime import Runtime
    from stn_train.run_folder import RunFolder
    from stn_train.specs import ExperimentSpec, TrialSpec


def run(
    config: Config,
    output_dir: OutputDir = None,
    overrides: Overrides = None,
    seeds: Annotated[str | None, typer.Option(metavar="N,N", help="Seeds in place of the configuration's.")] = None,
    only: Annotated[
        str, typer.Option(metavar="PATTERN", help="Only the trials whose dataset/model matches, as 'rts/st_*'.")
    ] = "*",
    validate: Validate = False,
    data_root: DataRoot = None,
    device: Device = None,
    threads: Threads = None,
    tensorboard: Annotated[
        bool,
        typer.Option("--tensorboard", help="Log every epoch for TensorBoard, below tensorboard/ in the results."),
    ] = False,
    allow_imports: AllowImports = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be trained, and stop.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train with and without transformers, and compare.

    Trains every model of a configuration on every dataset and seed, and writes a report.

    The same command again skips what is finished and goes on where it was stopped.

    For instance: stn-train run --config quickstart
    """
    from stn_train.experiment.run import check_imports

    experiment, trials = _planned(config, overrides or [], seeds, only, validate)
    if not allow_imports:
        check_imports(experiment, config)
    if tensorboard:
        from stn_train.experiment.tensorboard import check_installed

        check_installed()

    from stn_train.experiment.run import check_trials
    from stn_train.experiment.runtime import open_runtime
    from stn_train.run_folder import RunFolder

    if dry_run:
        check_trials(trials, experiment.prebuilt)
        typer.echo(_plan(trials))
        return
    runtime = open_runtime(device, threads, data_root or experiment.data_root, experiment.prebuilt)
    folder = RunFolder(output_dir or Path("runs") / experiment.name)
    everything, failed = _train(experiment, trials, folder, runtime, quiet, tensorboard)
    if folder.finished(everything):
        from stn_train.report.page import summary
        from stn_train.report.write import report_run

        typer.echo(summary(report_run(folder, everything).results))
        typer.echo(f"\nreport: {folder.path / 'report.html'}")
    if failed:
        typer.echo(f"failed: {', '.join(failed)}; the same command tries again", err=True)
        raise typer.Exit(1)


def _planned(
    config: str, overrides: list[str], seeds: str | None, only: str, validate: bool
) -> "tuple[ExperimentSpec, list[TrialSpec]]":
    """The experiment that the options ask for, and those of its trials that are to be run."""
    from stn_train.config import load_config
    from stn_train.specs import trials_of

    options: dict[str, str] = {}
    if seeds is not None:
        options[f"seeds={_seed_list(seeds)}"] = f"--seeds {seeds}"
    if validate:
        options["validation=true"] = "--validate"
    experiment = load_config(config, [*overrides, *options], called=options)
    trials = trials_of(experiment, only)
    if not trials:
        first = trials_of(experiment)[0]
        known = f"{first.dataset.name}/{first.model.name}"
        raise UserError(f"--only {only} matches no dataset/model of {config}, which has for instance {known}")
    return experiment, trials


def _train(
    experiment: "ExperimentSpec",
    trials: "list[TrialSpec]",
    folder: "RunFolder",
    runtime: "Runtime",
    quiet: bool,
    tensorboard: bool,
) -> "tuple[ExperimentSpec, list[str]]":
    """Run trials, with progress on stderr; the whole experiment of the folder, and the keys of trials that failed."""
    from stn_train.cli.progress import ProgressDisplay
    from stn_train.experiment.run import open_run, run_trials

    display = ProgressDisplay(quiet, f"on {runtime.device}, into {folder.path}")
    with stop_on_signal() as received:

        def after_step(epochs: float) -> bool:
            display.after_step(epochs)
            return bool(received)

        try:
            everything = open_run(experiment, trials, folder, runtime, lambda: bool(received))
            running = run_trials(trials, folder, runtime, after_step)
            if tensorboard:
                from stn_train.experiment.tensorboard import logged

                running = logged(running, folder)
            for progress in running:
                display.show(progress)
        except Stopped:
            display.close()
            raise stopped("what was trained is saved", received[0]) from None
        finally:
            display.close()
    return everything, display.failed


def _seed_list(text: str) -> list[int]:
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError:
        raise UserError(f"--seeds {text}: expected whole numbers separated by commas, such as 0,1,2") from None


def _plan(trials: "list[TrialSpec]") -> str:
    """The table of --dry-run: a line for each dataset and model."""
    from stn_train.experiment.trial import size_of
    from stn_train.report.page import aligned

    lines = [["dataset", "model", "canvas", "output", "width", "parameters", "MACs", "epochs", "seeds"]]
    seeds: dict[tuple[str, str], list[str]] = {}
    for trial in trials:
        seeds.setdefault((trial.dataset.name, trial.model.name), []).append(str(trial.seed))
    for trial in {(trial.dataset.name, trial.model.name): trial for trial in trials}.values():
        size = size_of(trial)
        transformer = trial.model.transformer
        lines.append(
            [
                trial.dataset.name,
                trial.model.name,
                _pixels(trial.dataset.canvas),
                _pixels(transformer.output_size) if transformer and 0 in transformer.before else "-",
                "-" if size.width is None else f"{size.width:g}",
                f"{size.parameters:,}",
                f"{size.macs:,}",
                str(trial.training.epochs),
                ",".join(seeds[trial.dataset.name, trial.model.name]),
            ]
        )
    return f"{aligned(lines, names=2)}\n\n{len(trials)} {'trial' if len(trials) == 1 else 'trials'}"


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
