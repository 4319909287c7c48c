"""Draws the figures of the guide (docs/guide/), the same for both languages: symbols and English terms, no sentences.

python scripts/guide_figures.py docs/guide
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import torch
from family_grids import draw as draw_pair
from family_grids import wave
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from torch import Tensor

from stn_train import FAMILIES, bilinear_sampler, load_images

SIZE = 28
ORANGE, BLUE, RED, GREEN = "#d9730d", "#1f6fb4", "#c0392b", "#2e8b57"


def digit(label: int) -> Tensor:
    """The first of scikit-learn's digits with this label, 1 x 1 x 28 x 28, from 0 to 1."""
    digits, _ = load_images("digits")
    return digits.images[int((digits.labels == label).int().argmax())][None].double() / 255


def theta_of(*numbers: float) -> Tensor:
    """Theta of one map, 1 x p."""
    return torch.tensor([numbers], dtype=torch.float64)


def forward_mapping(image: Tensor, matrix: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Each pixel of `image` (1 x 1 x H x W) put where `matrix` (2 x 2, centred pixels) sends it, rounded, on a canvas
    of `size` (h, w): the canvas, and how many pixels came to each place."""
    height, width = image.shape[-2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centred = torch.stack([columns - (width - 1) / 2, rows - (height - 1) / 2], dim=-1).double()
    placed = centred @ matrix.mT + torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2]).double()
    column, row = placed.round().long().unbind(-1)
    inside = (column >= 0) & (column < size[1]) & (row >= 0) & (row < size[0])
    canvas, hits = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.long)
    canvas[row[inside], column[inside]] = image[0, 0][inside]
    hits.index_put_((row[inside], column[inside]), torch.ones(int(inside.sum()), dtype=torch.long), accumulate=True)
    return canvas, hits


def shown(axes: Axes, image: Tensor, title: str = "") -> None:
    """A grey image, H x W, without ticks."""
    axes.imshow(image.numpy(), cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=10)


def three_parts() -> Figure:
    """The parts of a transformer around a digit that they bring upright."""
    figure = Figure(figsize=(9, 3.2))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 9), ylim=(0, 3.2))
    axes.axis("off")
    similarity = FAMILIES["similarity"]
    turn, scale = math.radians(35), 0.62
    pose = theta_of(scale * math.cos(turn), scale * math.sin(turn), 0.16, -0.06)
    back = torch.linalg.inv(similarity.matrix(pose))[:, :2].flatten(1)  # type: ignore[attr-defined]
    image = bilinear_sampler(digit(4), FAMILIES["affine"].grid(back, (42, 42)))
    output = bilinear_sampler(image, similarity.grid(pose, (SIZE, SIZE)))
    left, right = figure.add_axes((0.03, 0.12, 0.24, 0.68)), figure.add_axes((0.77, 0.12, 0.2, 0.58))
    shown(left, image[0, 0], r"$U$")
    shown(right, output[0, 0], r"$V$")
    line = torch.linspace(-1, 1, 8, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1).flatten(0, 1)
    left.plot(*((similarity.points(pose, points)[0] + 1) * 21 - 0.5).T.numpy(), ".", markersize=4, color=ORANGE)
    left.set(xlim=(-0.5, 41.5), ylim=(41.5, -0.5))
    boxes = {"localisation\nnetwork": (3.1, 2.2), "grid\ngenerator": (5.1, 2.2), "sampler": (5.1, 0.75)}
    for name, (x, y) in boxes.items():
        axes.add_patch(Rectangle((x, y), 1.3, 0.65, facecolor="#eef3f8", edgecolor=BLUE))
        axes.text(x + 0.65, y + 0.32, name, ha="center", va="center", fontsize=10)
    arrows = [
        *((2.55, 2.2, 3.05, 2.5), (4.4, 2.52, 5.05, 2.52), (5.75, 2.2, 5.75, 1.45)),
        *((2.55, 1.07, 5.05, 1.07), (6.4, 1.07, 6.85, 1.07)),
    ]
    for x, y, to_x, to_y in arrows:
        axes.annotate("", (to_x, to_y), (x, y), arrowprops={"arrowstyle": "->", "color": "0.3"})
    axes.text(4.7, 2.65, r"$\theta$", fontsize=12, ha="center")
    axes.text(5.87, 1.75, r"$\mathcal{T}_\theta(G)$", fontsize=11, va="center")
    return figure


def affine_maps() -> Figure:
    """Translation, scaling, rotation and shear: the input with the grid, and the output."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots(2, 4)
    examples = [
        ("translation", "t = (0.4, 0)", [0.4, 0.0]),
        ("scale", "s = 0.6", [0.6]),
        ("rotation", "30°", [math.radians(30)]),
        ("shear", "h = 0.5, v = 0", [0.5, 0.0]),
    ]
    for index, example in enumerate(examples):
        row, pair = divmod(index, 2)
        draw_pair(*example, digit(4), axes[row, 2 * pair], axes[row, 2 * pair + 1])
    return figure


def square(matrix: Tensor) -> Tensor:
    """The corners of the unit square after a 2 x 2 matrix: 4 x 2."""
    return torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]]).double() @ matrix.double().mT


def outlined(axes: Axes, matrix: Tensor, color: str, label: str) -> None:
    """The unit square after a matrix."""
    axes.add_patch(Polygon(square(matrix).numpy(), fill=False, edgecolor=color, linewidth=2, label=label))


def shear() -> Figure:
    """Where a shear sends the unit square; both shears, in three ways; a shear and a rotation, in two orders."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    first, both, orders = figure.subplots(1, 3)
    h, v = 0.5, 0.6
    across, down = torch.tensor([[1, h], [0, 1]]), torch.tensor([[1, 0], [v, 1]])
    outlined(first, torch.eye(2), "0.6", "")
    outlined(first, across, ORANGE, "")
    first.annotate("", (h, 1), (0, 1), arrowprops={"arrowstyle": "->", "color": RED, "linewidth": 2})
    first.text(h / 2, 1.06, r"$h$", color=RED, ha="center", va="top", fontsize=13)
    first.text(0.1, 0.55, r"$\alpha$", fontsize=13)
    first.text(1.25, 0.3, r"$\tan\alpha = h$", fontsize=12)
    outlined(both, torch.tensor([[1, h], [v, 1]]), ORANGE, r"$S(h,v)$")
    outlined(both, across @ down, BLUE, r"$H(h)\,V(v)$")
    outlined(both, down @ across, GREEN, r"$V(v)\,H(h)$")
    turn = FAMILIES["rotation"].matrix(theta_of(math.radians(40)))[0, :2, :2]  # type: ignore[attr-defined]
    outlined(orders, turn @ across.double(), BLUE, r"$R\,H$")
    outlined(orders, across.double() @ turn, GREEN, r"$H\,R$")
    for axes in (first, both, orders):
        axes.set(xlim=(-0.9, 2.1), ylim=(2.1, -0.3), aspect="equal", xlabel="$x$", ylabel="$y$")
        axes.grid(alpha=0.3)
        if axes is not first:
            axes.legend(fontsize=10, loc="lower left")
    return figure


def holes() -> Figure:
    """A digit enlarged and turned by the forward mapping, with its holes marked, and by reading from the source."""
    figure = Figure(figsize=(9, 3.3), layout="constrained")
    source, forward, backward = figure.subplots(1, 3)
    image = digit(5)
    shown(source, image[0, 0], r"$U$  (28 x 28)")
    turn = FAMILIES["rotation"].matrix(theta_of(math.radians(20)))[0, :2, :2]  # type: ignore[attr-defined]
    canvas, hits = forward_mapping(image, 1.5 * turn, (42, 42))
    shown(forward, canvas, r"source $\to$ target")
    marked = torch.zeros(42, 42, 4)
    marked[hits == 0] = torch.tensor([0.85, 0.45, 0.05, 0.75])
    forward.imshow(marked.numpy())
    grid = FAMILIES["rotation"].grid(theta_of(-math.radians(20)), (42, 42))
    shown(backward, bilinear_sampler(image, grid)[0, 0], r"target $\to$ source")
    return figure


def align_corners() -> Figure:
    """Four pixels in a row, and where -1 and 1 lie, and the pixels' centres, by either convention."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    for place, aligned in enumerate((False, True)):
        axes = figure.add_subplot(2, 1, place + 1)
        for column in range(4):
            axes.add_patch(Rectangle((column - 0.5, 0), 1, 0.6, facecolor="#eef3f8", edgecolor="0.5"))
            x = 2 * column / 3 - 1 if aligned else (2 * column + 1) / 4 - 1
            axes.plot(column, 0.3, "o", color=BLUE)
            axes.text(column, 0.72, f"{x:.2f}", ha="center", fontsize=9, color=BLUE)
        for x, at in ((-1, 0 if aligned else -0.5), (1, 3 if aligned else 3.5)):
            axes.plot([at, at], [-0.25, 0.6], color=RED, linewidth=2)
            axes.text(at, -0.3, f"${x}$", ha="center", va="top", color=RED, fontsize=11)
        axes.set(xlim=(-1, 4), ylim=(-0.7, 1.05))
        axes.set_title(f"align_corners={aligned}", fontsize=10, family="monospace", loc="left")
        axes.axis("off")
    return figure


def not_square() -> Figure:
    """A checkered square on 28 x 56 pixels, turned by 30 degrees with and without regard to the aspect."""
    figure = Figure(figsize=(9, 2.2), layout="constrained")
    image = torch.zeros(1, 1, 112, 224, dtype=torch.float64)
    rows, columns = torch.meshgrid(torch.arange(80), torch.arange(80), indexing="ij")
    image[0, 0, 16:96, 72:152] = ((rows // 20 + columns // 20) % 2).double() * 0.5 + 0.5
    angle = theta_of(math.radians(30))
    axes = figure.subplots(1, 3)
    shown(axes[0], image[0, 0], r"$U$")
    for one, aspect, title in ((axes[1], 2.0, r"$D^{-1} R\, D$"), (axes[2], 1.0, r"$R$")):
        shown(one, bilinear_sampler(image, FAMILIES["rotation"].grid(angle, (112, 224), aspect))[0, 0], title)
    return figure


def bilinear() -> Figure:
    """Four pixels' centres, a point between them, and the areas that are their weights."""
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.subplots()
    a, b = 0.3, 0.6
    areas = {
        r"$(1-a)(1-b)$": (a, b, 1 - a, 1 - b, ORANGE),
        r"$a(1-b)$": (0, b, a, 1 - b, BLUE),
        r"$(1-a)\,b$": (a, 0, 1 - a, b, GREEN),
        r"$a\,b$": (0, 0, a, b, RED),
    }
    for text, (x, y, width, height, color) in areas.items():
        axes.add_patch(Rectangle((x, y), width, height, facecolor=color, alpha=0.35))
        axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9)
    corners = {
        r"$U_{00}$": (0, 0, ORANGE),
        r"$U_{01}$": (1, 0, BLUE),
        r"$U_{10}$": (0, 1, GREEN),
        r"$U_{11}$": (1, 1, RED),
    }
    for text, (x, y, color) in corners.items():
        axes.plot(x, y, "o", color=color, markersize=12)
        axes.text(x + (0.06 if x else -0.06), y, text, ha="left" if x else "right", va="center", fontsize=12)
    axes.plot(a, b, "x", color="k", markersize=10, markeredgewidth=2)
    axes.text(a, -0.13, "$a$", ha="center", fontsize=12)
    axes.text(1.1, b, "$b$", va="center", fontsize=12)
    axes.plot([a, a], [0, 1], "k:", [0, 1], [b, b], "k:", linewidth=1)
    axes.set(xlim=(-0.3, 1.35), ylim=(1.2, -0.25), aspect="equal")
    axes.axis("off")
    return figure


def kink() -> Figure:
    """What is read along a row of five pixels, past both edges, and its derivative."""
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    value, slope = figure.subplots(2, 1, sharex=True)
    row = torch.tensor([2.0, 3.0, 1.0, 1.0, 4.0]).double()
    padded = torch.cat([torch.zeros(2), row, torch.zeros(2)]).double()
    at = torch.arange(-2, 7)
    value.plot(at, padded, color=BLUE)
    value.plot(range(5), row, "o", color=BLUE)
    slope.hlines(padded.diff().numpy(), at[:-1].numpy(), at[1:].numpy(), color=ORANGE, linewidth=2)
    slope.plot(at[:-1], padded.diff(), "o", color=ORANGE, markersize=4)
    slope.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    for axes in (value, slope):
        axes.axvspan(-2, -1, color="0.92")
        axes.axvspan(5, 6, color="0.92")
        axes.grid(axis="x", alpha=0.4)
    value.set(ylabel="$V$", xlim=(-2, 6))
    slope.set(ylabel=r"$\partial V / \partial u$", xlabel="$u$", xticks=range(-2, 7))
    return figure


def tps() -> Figure:
    """A spline: where its control points go, and the output."""
    figure = Figure(figsize=(6, 3.1), layout="constrained")
    before, after = figure.subplots(1, 2)
    draw_pair("tps", "", wave(0.4), digit(4), before, after)
    home = ((torch.tensor(FAMILIES["tps"].identity).view(-1, 2) + 1) * SIZE - 1) / 2
    gone = ((torch.tensor(wave(0.4)).view(-1, 2) + 1) * SIZE - 1) / 2
    before.plot(*home.T.numpy(), "o", color="white", markersize=3)
    for start, end in zip(home.tolist(), gone.tolist(), strict=True):
        before.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": RED})
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    function.__name__: function
    for function in (three_parts, affine_maps, shear, holes, align_corners, not_square, bilinear, kink, tps)
}


def main() -> None:
    """Draw all figures into the folder that is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the PNG files go")
    folder = parser.parse_args().folder
    for name, function in FIGURES.items():
        function().savefig(folder / f"{name}.png", dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    main()
