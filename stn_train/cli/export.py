"""`stn-train export`: a trained network as a file for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from stn_train.cli.common import AllowImports, a_path
from stn_train.errors import UserError

FORMATS = (".onnx", ".pt2", ".safetensors")


def a_format(text: str | Path) -> Path:
    """The path of a file, whose ending says its format."""
    if a_path(text).suffix not in FORMATS:
        raise typer.BadParameter(f"{text} has to end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    return Path(text)


def export(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CHECKPOINT]",
            parser=a_path,
            help="A checkpoint.pt, or the folder of its trial; the ST-CNN that ships if not given.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            parser=a_format,
            help="Its ending says the format: .onnx, .pt2 (torch.export) or .safetensors; MODEL.onnx if not given.",
        ),
    ] = None,
    allow_imports: AllowImports = False,
) -> None:
    """Write a trained network as a file for other programs.

    As ONNX, as a program of torch.export, or its weights alone as safetensors. The file gives logits and, of each
    transformer, theta and the warped image, for any number of images. It is compared with the network before it is
    written.

    For instance: stn-train export runs/rts/trials/rts/st_cnn/seed-0 -o st_cnn.onnx
    """
    import torch

    from stn_train.experiment.export import export as export_to
    from stn_train.experiment.load import SHIPPED, checkpoints_in, load_trained
    from stn_train.experiment.runtime import Runtime

    checkpoint = checkpoint or SHIPPED / "trials" / "rts" / "st_cnn_keypoints"
    found = checkpoints_in(checkpoint)
    if len(found) > 1:
        raise UserError(
            f"{checkpoint} holds {len(found)} checkpoints; name one of them, for instance {found[0].parent}"
        )
    trained = load_trained(found[0], Runtime(torch.device("cpu"), allow_imports=allow_imports))
    path = output or Path(f"{trained.trial.model.name}.onnx")
    exported = export_to(trained, path)
    for name, shape in exported.shapes.items():
        typer.echo(f"{name:<8}  {' x '.join(map(str, shape))}")
    typer.echo(
        f"\nwrote {path}: on {exported.images} random images it differs from the network by {exported.difference:.1g} "
        "at most"
    )
    if trained.trial.model.tta_angles:
        typer.echo("It reads each image once, without the model's test-time augmentation.")
