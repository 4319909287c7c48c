"""Draw how pictures are prepared, docs/preparation.png: `python scripts/preparation.py FILE`."""

from pathlib import Path

import typer
from matplotlib.figure import Figure

from stn_train.data.pictures import ink_contrast, prepare, read_picture
from stn_train.experiment.load import SHIPPED, checkpoints_in
from stn_train.report.plots import save_figure
from stn_train.training.checkpoint import read_checkpoint

SHOWN = ("picture_02.jpg", "picture_06.jpg", "picture_09.jpg", "picture_15.png")
GREY = (0.299, 0.587, 0.114)


def main(output: Path) -> None:
    """A column for each picture: as it is, its ink, and what a network reads."""
    trial = read_checkpoint(checkpoints_in(SHIPPED)[0])["trial"]
    figure = Figure(figsize=(8, 6), layout="constrained")
    rows = figure.subplots(3, len(SHOWN))
    for column, name in zip(rows.T, SHOWN, strict=True):
        picture = read_picture(Path(__file__).parents[1] / "tests/twenty" / name)
        seen = (picture.pixels, ink_contrast(picture.pixels @ GREY), prepare(picture, trial).image[0])
        for axes, image, words in zip(column, seen, ("picture", "ink", "what a network reads"), strict=True):
            axes.imshow(image, cmap="gray")
            axes.set_title(words, fontsize=9)
            axes.set_axis_off()
    save_figure(figure, output)


if __name__ == "__main__":
    typer.run(main)
