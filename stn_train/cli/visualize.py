"""`stn-train visualize`: draw pictures of checkpoints."""

from pathlib import Path
from typing import Annotated

import typer

from stn_train.cli.common import AllowImports, DataRoot, Device, Target, Threads, a_path, tell_failed
from stn_train.errors import UserError, did_you_mean


def visualize(
    target: Target,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help="Some of: curves, examples, means, rotation_sweep, training, confusion; all if not given.",
        ),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", parser=a_path, help="Where pictures go; beside each checkpoint if not given."),
    ] = None,
    data_root: DataRoot = None,
    device: Device = None,
    threads: Threads = None,
    allow_imports: AllowImports = False,
) -> None:
    """Draw what checkpoints have learnt, also of trainings that have not ended.

    Learning curves; the best, typical and worst images; the mean image of each class; a rotation sweep; an
    animation of the training; the confusion matrix.

    For instance: stn-train visualize runs/rts --only rotation_sweep,training
    """
    from stn_train.experiment.load import checkpoints_in
    from stn_train.experiment.runtime import open_runtime
    from stn_train.experiment.visualize import PICTURES, visualize
    from stn_train.storage import write_bytes

    wanted = only.split(",") if only is not None else list(PICTURES)
    for name in wanted:
        if name not in PICTURES:
            raise UserError(f"--only {only}: there is no picture {name!r}{did_you_mean(name, PICTURES)}")
    checkpoints = checkpoints_in(target)
    runtime = open_runtime(device, threads, data_root, allow_imports=allow_imports)
    above = target.parent if target.is_file() else target
    drawn = False
    failed: list[UserError] = []
    for checkpoint in checkpoints:
        trial = checkpoint.parent
        folder = trial if output_dir is None else output_dir / trial.relative_to(above)
        try:
            for drawing in visualize(checkpoint, wanted, runtime):
                write_bytes(folder / drawing.name, drawing.content)
                typer.echo(f"wrote {folder / drawing.name}")
                drawn = True
        except UserError as error:
            failed.append(error)
    if drawn:
        tell_failed(failed)
    elif failed:
        raise failed[0]
    else:
        raise UserError(
            f"{target} has no such picture: {', '.join(wanted)}; transformers at the input have all of them"
        )
