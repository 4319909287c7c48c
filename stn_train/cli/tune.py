"""`stn-train tune`: find each model's learning rates and weight decay on validation digits, with equal effort."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stn_train.cli.common import (
    AllowImports,
    DataRoot,
    Device,
    Overrides,
    Quiet,
    Threads,
    a_path,
    stop_on_signal,
    stopped,
)
from stn_train.errors import Stopped

if TYPE_CHECKING:
    from stn_train.experiment.runtime import Runtime
    from stn_train.experiment.tune import Setting
    from stn_train.specs import ExperimentSpec


def tune(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML file, or a shipped configuration's name.")],
    trials: Annotated[int, typer.Option(min=2, max=1000, metavar="N", help="Settings to try of each model.")] = 12,
    output_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", parser=a_path, help="Where results go; runs/NAME-tuning if not given."),
    ] = None,
    overrides: Overrides = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="The configuration's dataset to tune on, where it has several.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, max=10_000, metavar="N", help="Epochs of each trial; the configuration's.")
    ] = None,
    data_root: DataRoot = None,
    device: Device = None,
    threads: Threads = None,
    allow_imports: AllowImports = False,
    quiet: Quiet = False,
) -> None:
    """Tune every model with equal effort.

    Finds each model's learning rates and weight decay on validation digits.

    Each model gets as many trials, the first with the configuration's own values. Varied are training.lr,
    training.weight_decay and, where a localisation network learns, training.localisation_lr. A sixth of the training
    digits is held out to choose by; the test digits are not read.

    The best values are written to tuned.yaml in --output-dir, a configuration for `stn-train run`. The same command
    again goes on where it was stopped; with more --trials, it searches on.

    For instance: stn-train tune quickstart --trials 8 --epochs 2
    """
    from stn_train.experiment.run import check_imports
    from stn_train.experiment.runtime import open_runtime, read_config
    from stn_train.experiment.tune import on_one_dataset

    experiment, images = read_config(config, overrides or (), data_root=data_root)
    experiment = on_one_dataset(experiment, dataset)
    if not allow_imports:
        check_imports(experiment, config)
    runtime = open_runtime(device, threads, data_root or experiment.data_root)
    runtime.loaded.update(images)
    folder = output_dir or Path("runs") / f"{experiment.name}-tuning"
    tried = _search(experiment, trials, epochs, folder, runtime, quiet)
    typer.echo(f"{trials} settings of each model on {experiment.datasets[0].name}; error in % on validation digits:\n")
    typer.echo(_table(tried))
    command = shlex.join(["stn-train", "run", "--config", str(folder / "tuned.yaml")])
    typer.echo(f"\nto train with the best: {command}")


def _search(
    experiment: "ExperimentSpec", trials: int, epochs: int | None, folder: Path, runtime: "Runtime", quiet: bool
) -> "list[Setting]":
    """Run the search, with progress on stderr; all that was tried."""
    from stn_train.cli.progress import ProgressDisplay
    from stn_train.experiment.tune import Setting
    from stn_train.experiment.tune import tune as search

    display = ProgressDisplay(quiet, f"on {runtime.device}, into {folder}")
    tried: list[Setting] = []
    with stop_on_signal() as received:

        def after_step(done: float) -> bool:
            display.after_step(done)
            return bool(received)

        try:
            for step in search(experiment, trials, epochs, folder, runtime, after_step):
                if not isinstance(step, Setting):
                    display.show(step)
                    continue
                tried.append(step)
                if not quiet:
                    error = "failed" if step.error is None else f"validation error {step.error:.2f} %"
                    display.line(f"{step.model}  {_values(step)}  {error}")
        except Stopped:
            display.close()
            raise stopped("what was tried is saved", received[0]) from None
        finally:
            display.close()
    return tried


def _values(setting: "Setting") -> str:
    """`lr 0.003  localisation_lr 0.05  weight_decay 0.01`."""
    named = [(key, getattr(setting, key)) for key in ("lr", "localisation_lr", "weight_decay")]
    return "  ".join(f"{key} {value:g}" for key, value in named if value is not None)


def _table(tried: "Sequence[Setting]") -> str:
    """The best setting of each model, and its error beside that of the configuration's own, which was tried first."""
    from stn_train.experiment.tune import winners
    from stn_train.report.page import aligned

    lines = [["model", "lr", "localisation_lr", "weight_decay", "before", "after"]]
    own = {setting.model: setting for setting in tried if setting.number == 0}
    for model, best in winners(tried).items():
        values = [f"{value:g}" if value is not None else "–" for value in (best.lr, best.localisation_lr)]
        errors = [f"{one.error:.2f}" if one.error is not None else "failed" for one in (own[model], best)]
        lines.append([model, *values, f"{best.weight_decay:g}", *errors])
    return aligned(lines, names=1)
