"""`stn-train data`: write the datasets of an experiment to disk, or look at them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stn_train.cli.common import Config, DataRoot, Overrides, a_path, a_picture

if TYPE_CHECKING:
    from stn_train.data.images import ImageSet
    from stn_train.specs import ExperimentSpec

app = typer.Typer(help="Build or preview the distorted digits.", no_args_is_help=True)


@app.command()
def build(
    config: Config,
    output_dir: Annotated[
        Path, typer.Option(metavar="DIR", parser=a_path, help="Where the datasets go, one folder each.")
    ],
    overrides: Overrides = None,
    data_root: DataRoot = None,
) -> None:
    """Write the images of a configuration to disk.

    Images, labels and true parameters of every dataset, both splits.

    For instance: stn-train data build --config rts --output-dir built

    To train on them: stn-train run --config rts --set prebuilt=built --output-dir runs/rts-built
    """
    from stn_train.data.prebuilt import build_prebuilt

    experiment, train, test = _load(config, overrides, data_root)
    for dataset in experiment.datasets:
        typer.echo(f"wrote {build_prebuilt(dataset, experiment.source, {'train': train, 'test': test}, output_dir)}")


@app.command()
def preview(
    config: Config,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", parser=a_picture, help="The picture: .png, .svg, .pdf, ..."),
    ] = Path("preview.png"),
    overrides: Overrides = None,
    data_root: DataRoot = None,
) -> None:
    """Draw digits before and after their distortion.

    Of every dataset of a configuration.

    For instance: stn-train data preview --config rts -o rts.png
    """
    from stn_train.report.plots import save_figure
    from stn_train.report.preview import contact_sheet

    experiment, _, test = _load(config, overrides, data_root)
    save_figure(contact_sheet(list(experiment.datasets), test, experiment.source.classes), output)
    typer.echo(f"wrote {output}")


def _load(
    config: str, overrides: list[str] | None, data_root: str | None
) -> "tuple[ExperimentSpec, ImageSet, ImageSet]":
    from stn_train.data.sources import load_images
    from stn_train.experiment.runtime import read_config

    experiment, images = read_config(config, overrides or (), data_root=data_root)
    train, test = images.values() or load_images(experiment.source, data_root or experiment.data_root)
    return experiment, train, test
