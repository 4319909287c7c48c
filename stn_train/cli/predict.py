"""`stn-train predict`: classify pictures from outside."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stn_train.cli.common import AllowImports, AsJson, Device, Threads, a_path, a_picture, tell_failed
from stn_train.cli.export import FORMATS
from stn_train.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stn_train.data.pictures import Picture
    from stn_train.evaluation.prediction import Prediction

_MOST_DRAWN = 100
_Targets = Annotated[
    list[Path],
    typer.Argument(
        metavar="[RUN_OR_CHECKPOINT] IMAGE...",
        parser=a_path,
        help="A run's or a trial's folder or a checkpoint.pt, or the networks that ship with the package if not given; "
        "then pictures, folders of pictures, or - for standard input.",
    ),
]


def predict(
    targets: _Targets,
    invert: Annotated[
        bool | None,
        typer.Option("--invert/--no-invert", help="Ink is dark on bright, or not; found out if not given."),
    ] = None,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Neither crop nor centre: the pixels are what the network reads.")
    ] = False,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=a_picture,
            help="Also draw it (.png, .svg, .pdf, ...): what networks read, transform and predict.",
        ),
    ] = None,
    as_json: AsJson = False,
    device: Device = None,
    threads: Threads = None,
    allow_imports: AllowImports = False,
) -> None:
    """Classify pictures of your own.

    Any picture that Pillow reads. It is prepared as the training images were: a digit is cropped to its ink, centred,
    and drawn bright on dark. Shows each network's class, probability and runner-up, and what its transformer does.

    For instance: stn-train predict seven.jpg

    With networks of your own: stn-train predict runs/rts seven.jpg --picture seven_seen.png
    """
    from stn_train.data.pictures import thumbnail
    from stn_train.experiment.load import SHIPPED, checkpoints_in, load_trained
    from stn_train.experiment.predict import predict_picture
    from stn_train.experiment.runtime import open_runtime

    run, images = (targets[0], targets[1:]) if _is_trained(targets[0]) else (SHIPPED, targets)
    if not images:
        raise UserError(f"name a picture, too: stn-train predict {shlex.quote(str(run))} seven.jpg")
    files = [file for image in images for file in _files(image)]
    runtime = open_runtime(device, threads, None, allow_imports=allow_imports)
    trained = [load_trained(checkpoint, runtime) for checkpoint in checkpoints_in(run)]
    if picture is not None and len(files) * len(trained) > _MOST_DRAWN:
        raise UserError(f"--picture draws {_MOST_DRAWN} rows at most, one for each picture and network; name fewer")
    found: list[Prediction] = []
    drawn: list[NDArray[np.uint8]] = []
    failed: list[UserError] = []
    for file in files:
        try:
            read = _read(file)
            predictions = predict_picture(trained, read, invert, as_is)
            found += predictions
            if picture is not None:
                drawn += [thumbnail(read)] * len(predictions)
        except UserError as error:
            failed.append(error)
    if not found:
        raise failed[0]
    _show(found, drawn, picture, as_json)
    tell_failed(failed)


def _show(
    found: "Sequence[Prediction]", drawn: "Sequence[NDArray[np.uint8]]", picture: Path | None, as_json: bool
) -> None:
    """Print what networks make of pictures, and draw it beside these where `picture` names a file."""
    if picture is not None:
        from stn_train.report.plots import predictions as figure_of
        from stn_train.report.plots import save_figure

        save_figure(figure_of(list(zip(drawn, found, strict=True))), picture)
    if as_json:
        from stn_train.storage import json_text

        typer.echo(json_text([each.as_json() for each in found], only_ascii=True))
    else:
        from stn_train.report.page import predictions as as_text

        typer.echo(as_text(found) + (f"\n\nwrote {picture}" if picture else ""))


def _is_trained(target: Path) -> bool:
    """Whether a path is a run, a trial or a checkpoint, and no picture."""
    if target.is_dir():
        return (target / "config.yaml").exists() or next(target.rglob("checkpoint*.pt"), None) is not None
    return target.suffix == ".pt"


def _files(image: Path) -> Sequence[Path]:
    """The pictures that a path of the command line stands for. Raises UserError where there is none."""
    if not image.exists() and str(image) != "-":
        raise UserError(f"{image} does not exist; name a run, a checkpoint, a picture, a folder of pictures, or -")
    if image.suffix in FORMATS:
        raise UserError(f"{image} was exported, for other programs; name the run or the checkpoint that it was made of")
    if not image.is_dir():
        return [image]
    from PIL import Image

    endings = Image.registered_extensions()
    found = sorted(path for path in image.iterdir() if path.suffix.lower() in endings and path.is_file())
    if not found:
        raise UserError(f"{image} holds no pictures: no file in it ends in .png, .jpg or what else Pillow reads")
    return found


def _read(file: Path) -> "Picture":
    """The picture in a file, or on standard input. Raises UserError where there is none."""
    from stn_train.data.pictures import read_picture

    if str(file) == "-":
        if sys.stdin is None:
            raise UserError("standard input is closed; name a picture instead of -")
        return read_picture(sys.stdin.buffer.read(), "standard input")
    return read_picture(file)
