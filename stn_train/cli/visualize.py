"""`stn-train visualize`: draw pictures of checkpoints."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stn_train.cli.common import AllowImports, DataRoot, Device, Target, Threads, a_path, tell_failed
from stn_train.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from stn_train.experiment.runtime import Runtime
    from stn_train.report.snapshots import Drawing


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
    """Draw what checkpoints have learnt.

    Also of trainings that have not ended. Learning curves; the best, typical and worst images; the mean image of
    each class; a rotation sweep; an animation of the training; the confusion matrix.

    For instance: stn-train visualize runs/rts --only rotation_sweep,training
    """
    from stn_train.experiment.load import checkpoints_in
    from stn_train.experiment.runtime import open_runtime
    from stn_train.report.snapshots import KINDS
    from stn_train.storage import write

    pictures = ("curves", *KINDS, "confusion")
    wanted = only.split(",") if only is not None else pictures
    for name in wanted:
        if name not in pictures:
            raise UserError(f"--only {only}: there is no picture {name!r}{did_you_mean(name, pictures)}")
    checkpoints = checkpoints_in(target)
    runtime = open_runtime(device, threads, data_root, allow_imports=allow_imports)
    above = target.parent if target.is_file() else target
    drawn = False
    failed: list[UserError] = []
    for checkpoint in checkpoints:
        trial = checkpoint.parent
        folder = trial if output_dir is None else output_dir / trial.relative_to(above)
        try:
            for drawing in _drawings(checkpoint, wanted, runtime):
                write(folder / drawing.name, drawing.content)
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
            f"{target} has no such picture: {', '.join(wanted)}; transformers at the input have all of them, and the "
            "animation of a training lies beside its checkpoint"
        )


def _drawings(checkpoint: Path, wanted: Collection[str], runtime: "Runtime") -> "Iterator[Drawing]":
    """The pictures that are wanted, as far as there are any of this checkpoint.

    Raises UserError where it is missing or damaged.
    """
    from stn_train.experiment.load import load_trained, predict, run_of
    from stn_train.experiment.runtime import load_fixed
    from stn_train.experiment.snapshots import gallery
    from stn_train.report.plots import confusions, figure_file, learning_curves
    from stn_train.report.snapshots import KINDS, Drawing, drawings
    from stn_train.run_folder import TrialFolder

    trained, files = load_trained(checkpoint, runtime), TrialFolder(checkpoint.parent)
    trial = trained.trial
    model, dataset, split = trial.model.name, trial.dataset.name, trial.split
    if "curves" in wanted and (records := [one for one in files.load_metrics() if one.epoch <= trained.epoch]):
        title = f"Learning curves of {model} on {dataset}"
        figure = learning_curves(title, split, {model: [records]})
        yield Drawing(
            "curves",
            dataset,
            title,
            f"curves_{model}@{dataset}.png",
            f"{split} error and training loss",
            figure_file(figure),
        )
    seen = files.load_gallery(["training"]) if "training" in wanted else {}
    if {*KINDS, "confusion"} - {"training"} & set(wanted):
        runtime, _ = run_of(checkpoint, runtime)
        fixed = load_fixed(trial, trial.dataset, runtime)
        predictions = predict(trained, runtime, trial.dataset, fixed)
        if set(KINDS) & set(wanted):
            seen = gallery(trial, runtime, trained.network, fixed, predictions) | seen
    yield from drawings(trial, {kind: arrays for kind, arrays in seen.items() if kind in wanted})
    if "confusion" in wanted:
        title = f"Confusion of {model} on {dataset}"
        counts = predictions.confusion(fixed.labels, trial.classes).numpy()
        yield Drawing(
            "confusion",
            dataset,
            title,
            f"confusion_{model}@{dataset}.png",
            "percent of each true class",
            figure_file(confusions(title, {model: counts}, trial.class_names)),
        )
