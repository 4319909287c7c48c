"""Draws docs/families.png: what each transform family does to a digit, and where its sampling grid reads it.

On the left of each pair lies the input with the sampling grid: lines that are straight and regular in the output, and
a dot where the output's upper left corner reads. On the right is the output.

    python scripts/family_grids.py docs/families.png
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from stn_train import FAMILIES, bilinear_sampler, load_images

SIZE = 28
TILT = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.4]


def wave(strength: float) -> list[float]:
    """The theta of a spline whose control points swing up and down along x."""
    points = np.array(FAMILIES["tps"].identity).reshape(-1, 2)
    points[:, 1] += strength * np.sin(math.pi * points[:, 0])
    return [float(number) for number in points.ravel()]


def bulge(strength: float) -> list[float]:
    """The theta of a spline whose inner control points move apart, so that the middle shrinks."""
    points = np.array(FAMILIES["tps"].identity).reshape(-1, 2)
    inner = np.abs(points).max(axis=1) < 1
    points[inner] *= 1 + strength
    return [float(number) for number in points.ravel()]


def swap() -> list[float]:
    """The theta of a spline in whose middle two neighbouring control points change places: it folds."""
    points = np.array(FAMILIES["tps"].identity).reshape(4, 4, 2)
    points[1, [1, 2]] = points[1, [2, 1]]
    return [float(number) for number in points.ravel()]


EXAMPLES: list[tuple[str, str, list[float]]] = [
    ("translation", "reads 0.4 further right: the digit goes left", [0.4, 0.0]),
    ("scale", "reads 0.6 of the width: zooms in", [0.6]),
    ("rotation", "reads turned clockwise: the digit turns back", [math.radians(30)]),
    ("shear", "h = 0.5, v = 0", [0.5, 0.0]),
    ("attention", "s = 0.6, t = (0.1, -0.3)", [0.6, 0.1, -0.3]),
    ("similarity", "a = 0.6, b = 0.35, t = (0.1, 0)", [0.6, 0.35, 0.1, 0.0]),
    ("affine", "all six numbers", [0.8, 0.4, 0.1, -0.2, 1.1, 0.0]),
    ("projective", "depth grows downwards", TILT),
    ("projective", "and to the left, too", [1.0, 0.2, 0.0, 0.0, 1.0, 0.1, -0.3, 0.3]),
    ("tps", "a wave", wave(0.25)),
    ("tps", "the middle shrunk", bulge(0.5)),
    ("tps", "folded: two control points have changed places", swap()),
]


def lines(family: str, theta: Tensor) -> list[Tensor]:
    """Lines of the output, each an eighth of its width apart, where they read the input: in pixels."""
    along = torch.linspace(-1, 1, 61, dtype=torch.float64)
    found = []
    for at in torch.linspace(-1, 1, 9, dtype=torch.float64):
        across = torch.full_like(along, float(at))
        for line in (torch.stack([along, across], dim=1), torch.stack([across, along], dim=1)):
            found.append(((FAMILIES[family].points(theta, line)[0] + 1) * SIZE - 1) / 2)
    return found


def draw(family: str, words: str, numbers: list[float], image: Tensor, before: Axes, after: Axes) -> None:
    """A pair: the input with the grid on it, and the output."""
    theta = torch.tensor([numbers], dtype=torch.float64)
    output = bilinear_sampler(image, FAMILIES[family].grid(theta, (SIZE, SIZE)))
    for axes, shown in ((before, image), (after, output)):
        axes.imshow(shown[0, 0].numpy(), cmap="gray", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
    for line in lines(family, theta):
        before.plot(*line.T.numpy(), color="C1", linewidth=0.6)
    corner = ((FAMILIES[family].points(theta, torch.tensor([[-1.0, -1.0]]).double())[0, 0] + 1) * SIZE - 1) / 2
    before.plot(*corner.numpy(), "o", color="C3", markersize=5)
    after.plot(-0.5, -0.5, "o", color="C3", markersize=5, clip_on=False)
    before.set(xlim=(-12, SIZE + 11), ylim=(SIZE + 11, -12), facecolor="0.25")
    before.set_title(f"{family} ({len(FAMILIES[family].identity)})", fontsize=9, weight="bold", loc="left")
    before.set_xlabel(words, fontsize=7.5, loc="left")


def main() -> None:
    """Draw all examples into the file that is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path, help="the PNG file to write")
    picture = parser.parse_args().picture
    digits, _ = load_images("digits")
    four = int((digits.labels == 4).int().argmax())
    image = digits.images[four][None].double() / 255
    figure = Figure(figsize=(11, 9), layout="constrained")
    axes = figure.subplots(4, 6)
    for index, example in enumerate(EXAMPLES):
        row, pair = divmod(index, 3)
        draw(*example, image, axes[row, 2 * pair], axes[row, 2 * pair + 1])
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main()
