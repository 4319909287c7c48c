"""The guide: each numbered formula evaluated against the code and autograd, its Python run, both languages the same."""

import doctest
import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import guide_figures
import matplotlib.image
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import stn_train as st
from stn_train.evaluation.alignment import Map, decompose, pose_components, spreads
from stn_train.geometry import (
    AFFINE,
    ATTENTION,
    HOMOGRAPHY,
    PROJECTIVE,
    ROTATION,
    SCALE,
    SHEAR,
    SIMILARITY,
    TPS,
    TRANSLATION,
    bilinear_sampler,
    pixel_centres,
    pixel_grid,
)
from stn_train.models.transformer import ThetaHead

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs/guide"
PAGES = [path.name for path in sorted(GUIDE.glob("en/*.md"))]
FENCES = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def formulas(language: str) -> list[str]:
    """What stands between double dollars, on all pages of a language."""
    text = "".join(FENCES.sub("", (GUIDE / language / page).read_text()) for page in PAGES)
    return re.findall(r"\$\$(.*?)\$\$", text, re.DOTALL)


def tag(formula: str) -> str:
    (found,) = re.findall(r"\\tag\{(.*?)\}", formula)
    return str(found)


FORMULAS = {tag(formula): formula for formula in formulas("en")}
EVALUATED: set[str] = set()


def evaluates(*tags: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Marks a test as that of the formulas with these numbers."""
    EVALUATED.update(tags)
    return lambda test: test


def matrices(number: str, **values: Any) -> list[Tensor]:
    """The matrices that stand in a formula, evaluated: entries are sums of products of numbers, names, sine, cosine."""

    def entry(written: str) -> float:
        words = re.findall(r"\\frac\{1\}\{\\rho\}|\\\w+|t_x|t_y|\d+|[a-z]|[-+]", written.replace(r"\varphi", ""))
        total, sign, product = 0.0, 1.0, None
        for word in (*words, "+"):
            if word in "+-":
                total += 0.0 if product is None else sign * product
                sign, product = (1.0 if word == "+" else -1.0), None
            else:
                known = {r"\frac{1}{\rho}": 1 / values.get("rho", 1.0)}
                known |= {rf"\{name}": value for name, value in values.items()} | values
                product = (1.0 if product is None else product) * float(known.get(word, word))
        return total

    if "phi" in values:
        values |= {"sin": math.sin(values["phi"]), "cos": math.cos(values["phi"])}
    bodies = re.findall(r"\\begin\{pmatrix\}(.*?)\\end\{pmatrix\}", FORMULAS[number], re.DOTALL)
    return [
        torch.tensor([[entry(cell) for cell in row.split("&")] for row in body.split(r"\\")], dtype=torch.float64)
        for body in bodies
        if not re.search(r"_s|_t\b", body)
    ]


def one(*numbers: float) -> Tensor:
    return torch.tensor([numbers], dtype=torch.float64)


def random(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def linear(family: Any, *numbers: float, aspect: float = 1.0) -> Tensor:
    """The upper left 2 x 2 of a family's matrix."""
    return family.matrix(one(*numbers), aspect)[0, :2, :2]


def close(found: Tensor, expected: Tensor, atol: float = 1e-12) -> bool:
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=0, atol=atol)


def read(image: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """What the project's sampler reads in an image, H x W, at pixel coordinates u and v of any shape."""
    height, width = image.shape
    points = torch.stack([(2 * u + 1) / width - 1, (2 * v + 1) / height - 1], dim=-1)
    return bilinear_sampler(image[None, None], points.reshape(1, 1, -1, 2)).view(u.shape)


def tent(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp(min=0)


def kernel_sum(image: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Formula 4.4, for one point."""
    rows, columns = (torch.arange(count, dtype=torch.float64) for count in image.shape)
    return (image * tent(v - rows)[:, None] * tent(u - columns)).sum()


# --- the pages ---------------------------------------------------------------------------------------------------------


def test_every_numbered_formula_is_evaluated_by_a_test_below():
    assert len(FORMULAS) == len(formulas("en")) > 50
    assert FORMULAS.keys() == EVALUATED


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    "part",
    [r"^```.*?^```$", r"\$\$.*?\$\$", r"!\[.*?\]\((.*?)\)", r"^(#+) ", r"^\|", r"\]\((?!\.\./(?:en|zh)/)([^)]*)\)"],
    ids=["code", "formulas", "pictures", "headings", "table rows", "links"],
)
def test_both_languages_have_the_same(page, part):
    english, chinese = (
        re.findall(part, (GUIDE / language / page).read_text(), re.MULTILINE | re.DOTALL) for language in ("en", "zh")
    )
    assert english == chinese
    assert {path.name for path in GUIDE.glob("zh/*")} == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_both_languages_have_the_same_numbers(page):
    """In prose and tables, decimals: 0.79, 41.5; and each page leads to the other language's."""
    english, chinese = ((GUIDE / language / page).read_text() for language in ("en", "zh"))
    assert sorted(re.findall(r"\d+\.\d+", english)) == sorted(re.findall(r"\d+\.\d+", chinese))
    assert f"](../zh/{page})" in english
    assert f"](../en/{page})" in chinese


@pytest.mark.parametrize("page", [*(f"guide/en/{page}" for page in PAGES), "questions.md"])
def test_the_python_prints_what_stands_there(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    path = ROOT / "docs" / page
    failed, tried = doctest.testfile(str(path), module_relative=False)
    assert failed == 0
    assert tried > 0


def test_every_page_of_the_guide_ends_claims_in_commands():
    assert [page for page in PAGES if not re.search(r"^stn-train ", (GUIDE / "en" / page).read_text(), re.M)] == []


@pytest.mark.slow
def test_the_figures_are_those_that_the_script_draws(tmp_path):
    for name, draw in guide_figures.FIGURES.items():
        draw().savefig(tmp_path / f"{name}.png", dpi=120)
        drawn, kept = (matplotlib.image.imread(folder / f"{name}.png")[..., :3] for folder in (tmp_path, GUIDE))
        assert drawn.shape == kept.shape, name
        assert np.abs(drawn - kept).mean() < 0.01, f"{name} is stale: python scripts/guide_figures.py docs/guide"
    shown = {name for page in PAGES for name in re.findall(r"\((?:\.\./)(\w+)\.png\)", (GUIDE / "en" / page).read_text())}
    assert shown == guide_figures.FIGURES.keys() == {path.stem for path in GUIDE.glob("*.png")}


def test_katex_lies_in_the_documentation_with_its_licence_and_its_fonts():
    katex = ROOT / "docs/katex"
    fonts = set(re.findall(r"url\((fonts/[\w-]+\.woff2)\)", (katex / "katex.min.css").read_text()))
    assert fonts
    assert all((katex / font).is_file() for font in fonts)
    assert "MIT" in (katex / "LICENSE").read_text()
    assert sum(path.stat().st_size for path in katex.rglob("*") if path.is_file()) < 1_500_000


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_katex_sets_every_formula():
    prose = "".join(FENCES.sub("", (GUIDE / language / page).read_text()) for language in ("en", "zh") for page in PAGES)
    inline = re.findall(r"(?<![\\$])\$(?!\$)([^$\n]+(?:\n[^$\n]+)?)\$(?!\$)", re.sub(r"\$\$.*?\$\$", "", prose, flags=re.S))
    assert len(inline) > 100
    script = (
        "const k = require(process.argv[1]); const all = JSON.parse(require('fs').readFileSync(0));"
        "for (const [t, d] of all) k.renderToString(t, {displayMode: d, throwOnError: true, strict: 'error'});"
    )
    given = [[formula, True] for formula in formulas("en")] + [[formula, False] for formula in inline]
    done = subprocess.run(
        ["node", "-e", script, str(ROOT / "docs/katex/katex.min.js")],
        input=json.dumps(given),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-600:]


# --- 1: what it is for -------------------------------------------------------------------------------------------------


@evaluates("1.1")
def test_a_convolution_moves_with_the_image():
    image, k = random(1, 1, 12, 12), random(1, 1, 3, 3)
    moved = F.conv2d(image.roll(2, dims=-1), k)
    assert close(moved[..., 2:], F.conv2d(image, k).roll(2, dims=-1)[..., 2:])
    assert not close(moved, F.conv2d(image, k))


@evaluates("1.2")
def test_pooling_forgets_where_in_its_window_a_peak_lies():
    signal = random(12)
    pooled = torch.stack([max(signal[3 * i + j] for j in range(3)) for i in range(4)])
    assert close(pooled, F.max_pool1d(signal[None], 3)[0])
    peak = torch.eye(12)[3:6]
    assert (F.max_pool1d(peak, 3) == torch.tensor([0.0, 1, 0, 0])).all()


@evaluates("1.3", "1.4", "1.5")
def test_a_transformer_is_its_three_parts():
    localise = st.LOCALISATIONS["fc_paper"](AFFINE, (6, 8), 1).double()
    nn.init.normal_(localise[-1].weight, generator=torch.Generator().manual_seed(0))
    image = random(1, 1, 6, 8)
    theta = localise(image)
    points = AFFINE.points(theta, pixel_grid((3, 4), theta).flatten(0, 1), 8 / 6)[0]
    u, v = ((points + 1) * torch.tensor([8, 6]) / 2 - 0.5).unbind(-1)
    expected = torch.stack([kernel_sum(image[0, 0], *point) for point in zip(u, v, strict=True)])
    assert close(st.SpatialTransformer(localise, AFFINE, (3, 4))(image).flatten(), expected, 1e-9)


# --- 2: localisation ---------------------------------------------------------------------------------------------------


@evaluates("2.1")
def test_a_warp_is_a_matrix_of_four_entries_a_row():
    theta, pixels = one(0.9, 0.2, 0.1, -0.2, 0.9, 0.05), torch.eye(20, dtype=torch.float64).view(20, 1, 4, 5)
    weights = bilinear_sampler(pixels, AFFINE.grid(theta.expand(20, -1), (4, 5))).view(20, 20).T
    image = random(1, 1, 4, 5)
    assert close(weights @ image.flatten(), bilinear_sampler(image, AFFINE.grid(theta, (4, 5))).flatten())
    assert (weights != 0).sum(dim=1).max() <= 4


@evaluates("2.2", "2.3", "2.4")
def test_translation_and_scaling_are_the_projects():
    assert close(matrices("2.2", t_x=0.3, t_y=-0.2)[0], TRANSLATION.matrix(one(0.3, -0.2))[0])
    assert close(linear(SCALE, 0.7), 0.7 * torch.eye(2).double())
    k, d, source = 2.5, one(0.3, -0.2)[0], random(4, 2)
    target = k * source + d  # where the image's points are to appear
    assert close(ATTENTION.points(one(1 / k, *(-d / k).tolist()), target)[0], source)


@evaluates("2.5", "2.6")
def test_a_rotation_adds_to_the_angle_and_turns_clockwise_where_y_runs_down():
    r, beta, phi = 0.7, 0.4, 0.9
    (x, y), turned = ((r * math.cos(at), r * math.sin(at)) for at in (beta, beta + phi))
    assert turned == pytest.approx([x * math.cos(phi) - y * math.sin(phi), x * math.sin(phi) + y * math.cos(phi)])
    (matrix,) = matrices("2.6", phi=phi)
    assert close(matrix, linear(ROTATION, phi))
    right = torch.tensor([1.0, 0.0]).double()
    assert (linear(ROTATION, 0.1) @ right)[1] > 0, "from the right downwards: clockwise as seen"


def across(h: float) -> Tensor:
    return matrices("2.7", h=h)[0]


def down(v: float) -> Tensor:
    return matrices("2.10", v=v)[0]


@evaluates("2.7", "2.8", "2.9", "2.10")
def test_a_shear_keeps_its_axis_each_points_line_and_areas():
    points = random(5, 2)
    x, y = points.unbind(-1)
    assert close(points @ across(0.5).mT, torch.stack([x + 0.5 * y, y], dim=-1))
    assert close(points @ down(0.6).mT, torch.stack([x, 0.6 * x + y], dim=-1))
    edge = across(0.5) @ torch.tensor([0.0, 1.0]).double()
    assert math.tan(math.atan2(edge[0], edge[1])) == pytest.approx(0.5), "the lean of the vertical edge"
    assert close(across(0.5) @ across(0.3), across(0.8))
    assert close(torch.linalg.inv(across(0.5)), across(-0.5))
    for matrix in (across(0.5), down(0.6)):
        assert torch.linalg.det(matrix) == pytest.approx(1)
    assert close(across(0.5), linear(SHEAR, 0.5, 0.0))
    assert close(down(0.6), linear(SHEAR, 0.0, 0.6))


@evaluates("2.11", "2.12", "2.13", "2.14", "2.15")
def test_both_shears_at_once_are_neither_product_and_three_shears_are_a_rotation():
    h, v = 0.5, 0.6
    (both,) = matrices("2.11", h=h, v=v)
    first, second = matrices("2.12", h=h, v=v)
    assert close(both, linear(SHEAR, h, v))
    assert close(first, across(h) @ down(v))
    assert close(second, down(v) @ across(h))
    assert torch.linalg.det(both) == pytest.approx(1 - h * v)
    assert torch.linalg.matrix_rank(linear(SHEAR, 2.0, 0.5)) == 1
    (stretch,) = matrices("2.13", h=h, v=v)
    assert close(both, down(v) @ stretch @ across(h))
    for phi in (0.3, -1.2, 2.0):
        lean = across(-math.tan(phi / 2))
        assert close(lean @ down(math.sin(phi)) @ lean, linear(ROTATION, phi))
    quarter = linear(ROTATION, math.pi / 2)
    sheared_first, turned_first = matrices("2.15")
    assert close(sheared_first, quarter @ across(1))
    assert close(turned_first, across(1) @ quarter)


@evaluates("2.16")
def test_the_kept_map_undoes_shear_scale_rotation_and_translation_the_last_one_first():
    drawn_from = {"rotation": (30.0, 40.0), "scale": (0.7, 0.8), "shear": (10.0, 20.0), "translation": (-1.0, 1.0)}
    spec = st.DatasetSpec(name="all", canvas=(42, 42), **drawn_from)
    digits = st.load_digits("digits")[0].subset(torch.arange(3))
    (drawn,) = st.sample_distortion(spec, digits, 0, "test")
    for index in range(3):
        phi, s, slant = np.radians(drawn.rotation[index]), drawn.scale[index], np.tan(np.radians(drawn.shear[index]))
        t = torch.tensor(drawn.shift[index]).double()
        turn, lean = linear(ROTATION, phi), across(slant)
        digit = (random(4, 2) - 0.5) * 20  # centred pixels
        canvas = digit @ (s * turn @ lean).mT + t
        back = torch.linalg.inv(lean) @ torch.linalg.inv(turn) / s
        assert close((canvas - t) @ back.mT, digit)
        found = AFFINE.points(drawn.theta[index][None].double(), canvas / 21)[0] * 14
        assert close(found, digit, 1e-4)


@evaluates("2.17")
def test_two_transformers_in_a_row_compose_first_one_on_the_left():
    x, y = pixel_grid((64, 64), one(0.0)).unbind(-1)
    ramps = torch.stack([x, y])[None]  # an image whose values are its coordinates, so that reading is exact
    first, second = one(0.5, 0.3, 0.1, -0.2, 0.5, 0.0), one(0.4, -0.3, 0.0, 0.3, 0.5, 0.1)
    once = bilinear_sampler(ramps, AFFINE.grid(first, (64, 64)))
    twice = bilinear_sampler(once, AFFINE.grid(second, (8, 8)))
    product = (AFFINE.matrix(first) @ AFFINE.matrix(second)).flatten(1)
    other = (AFFINE.matrix(second) @ AFFINE.matrix(first)).flatten(1)
    assert close(twice, HOMOGRAPHY.grid(product, (8, 8)).movedim(-1, 1))
    assert not close(twice, HOMOGRAPHY.grid(other, (8, 8)).movedim(-1, 1), 1e-2)


@evaluates("2.18", "2.19")
def test_six_numbers_are_a_rotation_a_stretch_and_a_shear():
    (matrix, shift) = matrices("2.18", a=0.8, b=0.4, c=-0.3, d=1.1, t_x=0.1, t_y=0.2)
    points = random(4, 2)
    found = AFFINE.points(one(0.8, 0.4, 0.1, -0.3, 1.1, 0.2), points)[0]
    assert close(found, points @ matrix.mT + shift.T)
    (a, b), (c, d) = matrix.tolist()
    phi, tall = math.atan2(c, d), math.hypot(c, d)
    wide, h = (a * d - b * c) / tall, (a * c + b * d) / tall**2
    assert close(across(h) @ torch.diag(one(wide, tall)[0]) @ linear(ROTATION, phi), matrix)
    parts = decompose(AFFINE.matrix(one(0.8, 0.4, 0.1, -0.3, 1.1, 0.2).repeat(2, 1)))
    assert parts["shear"][0] == pytest.approx(h)
    assert parts["scale"][0] == pytest.approx(math.log(wide * tall) / 2)
    assert parts["aspect"][0] == pytest.approx(math.log(wide / tall))


# --- 3: the grid -------------------------------------------------------------------------------------------------------


@evaluates("3.1")
def test_reading_from_the_source_leaves_no_hole_where_putting_into_the_target_does():
    image = torch.ones(1, 1, 28, 28, dtype=torch.float64)
    turn = linear(ROTATION, math.radians(20))
    canvas, hits = guide_figures.forward_mapping(image, 1.5 * turn, (42, 42))
    assert int((hits == 0).sum()) == 1076
    assert int((guide_figures.forward_mapping(image, 1.5 * torch.eye(2).double(), (42, 42))[1] == 0).sum()) == 980
    read_back = bilinear_sampler(image, ROTATION.grid(one(-math.radians(20)), (42, 42)))[0, 0]
    middle = slice(14, 28)
    assert (canvas[middle, middle] == 0).any()
    assert close(read_back[middle, middle], torch.ones(14, 14).double())


@evaluates("3.2", "3.3", "3.4")
def test_centres_of_pixels_by_either_convention_and_what_mixing_them_costs():
    for width in (4, 28):
        c = torch.arange(width).double()
        x, x_aligned = (2 * c + 1) / width - 1, 2 * c / (width - 1) - 1
        assert close(x, pixel_centres(width, c))
        assert close(((x + 1) * width - 1) / 2, c)
        assert close((x_aligned + 1) * (width - 1) / 2, c)
        for aligned, expected in ((False, x), (True, x_aligned)):
            grid = F.affine_grid(torch.eye(2, 3).double()[None], [1, 1, 2, width], align_corners=aligned)
            assert close(grid[0, 0, :, 0], expected)
        assert close((x + 1) * (width - 1) / 2 - c, -x / 2)


@evaluates("3.5")
def test_the_grid_is_the_matrix_at_the_centres_of_the_outputs_pixels():
    theta = one(*random(6).tolist())
    grid = AFFINE.grid(theta, (3, 5), 8 / 6)
    for row in range(3):
        for column in range(5):
            target = torch.tensor([(2 * column + 1) / 5 - 1, (2 * row + 1) / 3 - 1, 1.0]).double()
            assert close(grid[0, row, column], theta.view(2, 3) @ target, 1e-6)


@evaluates("3.6", "3.7")
def test_an_image_that_is_not_square_turns_rightly_with_its_aspect():
    rho, phi = 2.0, math.radians(30)
    right, scaled = matrices("3.6", rho=rho, phi=phi)
    (wrong,) = matrices("3.7", rho=rho, phi=phi)
    turn, inverse = linear(ROTATION, phi), torch.linalg.inv(scaled)
    assert close(right, inverse @ turn @ scaled)
    assert close(right, linear(ROTATION, phi, aspect=rho))
    assert close(wrong, scaled @ turn @ inverse)
    assert close(scaled @ right @ inverse, turn), "in one unit it is a rotation"
    assert not close(wrong.mT @ wrong, torch.eye(2).double(), 0.1)


# --- 4: the sampler ----------------------------------------------------------------------------------------------------


def cell() -> tuple[Tensor, Tensor, Tensor]:
    """An image, and a point inside one of its cells, all of which want a gradient."""
    u, v = (torch.tensor(at, dtype=torch.float64, requires_grad=True) for at in (2.3, 1.6))
    return random(5, 6).requires_grad_(), u, v


@evaluates("4.1", "4.2", "4.3", "4.4")
def test_what_is_read_is_a_weighted_sum_of_four_pixels():
    image, u, v = cell()
    x, y = (2 * u + 1) / 6 - 1, (2 * v + 1) / 5 - 1
    assert close(((x + 1) * 6 - 1) / 2, u)
    assert close(((y + 1) * 5 - 1) / 2, v)
    a, b, near = u - u.floor(), v - v.floor(), image[1:3, 2:4]
    weights = torch.stack([(1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b])
    assert float(weights.sum().detach()) == pytest.approx(1)
    found = read(image, u, v)
    assert close(found, (weights * near.flatten()).sum())
    assert close(found, kernel_sum(image, u, v))
    assert close(read(image, u, torch.tensor(1.0).double()), (1 - a) * image[1, 2] + a * image[1, 3])


@evaluates("4.5", "4.6")
def test_the_gradient_for_the_image_is_its_weights():
    image, u, v = cell()
    (found,) = torch.autograd.grad(read(image, u, v), image)
    rows, columns = torch.arange(5).double(), torch.arange(6).double()
    assert close(found, (tent(v - rows)[:, None] * tent(u - columns)).detach())
    theta, pixels = one(0.9, 0.2, 0.1, -0.2, 0.9, 0.05), torch.eye(30, dtype=torch.float64).view(30, 1, 5, 6)
    weights = bilinear_sampler(pixels, AFFINE.grid(theta.expand(30, -1), (5, 6))).view(30, 30).T
    output = bilinear_sampler(image[None, None], AFFINE.grid(theta, (5, 6)))
    upstream = random(1, 1, 5, 6)
    (found,) = torch.autograd.grad((output * upstream).sum(), image)
    assert close(found.flatten(), weights.T @ upstream.flatten())


@evaluates("4.7", "4.8", "4.9")
def test_the_gradient_for_the_coordinates_is_right_minus_left_and_lower_minus_upper():
    image, u, v = cell()
    by_u, by_v = torch.autograd.grad(read(image, u, v), (u, v))
    a, b, ((nw, ne), (sw, se)) = u - u.floor(), v - v.floor(), image[1:3, 2:4]
    assert close(by_u, ((1 - b) * (ne - nw) + b * (se - sw)).detach())
    assert close(by_v, ((1 - a) * (sw - nw) + a * (se - ne)).detach())
    m = torch.arange(6).double()
    slopes = torch.where((m - u).abs() > 1, 0.0, torch.where(m > u, 1.0, -1.0)).double()
    assert close(torch.autograd.functional.jacobian(lambda at: tent(at - m), u.detach()), slopes)
    assert close(by_u, (image * tent(v - torch.arange(5))[:, None] * slopes).sum().detach())
    small = 1e-6
    assert close(by_u, ((read(image, u + small, v) - read(image, u - small, v)) / (2 * small)).detach(), 1e-8)


@evaluates("4.10", "4.11")
def test_the_gradient_for_theta_is_a_vote_of_all_pixels():
    images, upstream = random(1, 2, 5, 6), random(1, 2, 3, 4)
    theta = one(0.7, 0.2, 0.11, -0.2, 0.6, 0.05).requires_grad_()
    (expected,) = torch.autograd.grad((bilinear_sampler(images, AFFINE.grid(theta, (3, 4))) * upstream).sum(), theta)
    points, total = AFFINE.grid(theta, (3, 4))[0].detach(), torch.zeros(2, 3, dtype=torch.float64)
    targets = pixel_grid((3, 4), points)
    for row in range(3):
        for column in range(4):
            x, y = points[row, column]
            u, v = (((at + 1) * count - 1).div(2).requires_grad_() for at, count in ((x, 6), (y, 5)))
            for channel in range(2):
                by_u, by_v = torch.autograd.grad(read(images[0, channel], u, v), (u, v))
                slope = torch.stack([6 / 2 * by_u, 5 / 2 * by_v])
                home = torch.cat([targets[row, column], torch.ones(1).double()])
                total += upstream[0, channel, row, column] * slope[:, None] * home
    assert close(total.flatten(), expected[0], 1e-9)


ROW = torch.tensor([[2.0, 3.0, 1.0, 1.0, 4.0]], dtype=torch.float64)


def slope(at: float) -> float:
    u = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    return float(torch.autograd.grad(read(ROW, u, torch.zeros((), dtype=torch.float64)), u)[0])


@evaluates("4.12", "4.13")
def test_at_a_pixel_there_are_two_slopes_and_a_value_between_is_taken():
    r = ROW[0].tolist()
    for m in (1, 2, 3):
        left, right = r[m] - r[m - 1], r[m + 1] - r[m]
        assert slope(m - 1e-6) == pytest.approx(left)
        assert slope(m + 1e-6) == pytest.approx(right)
        assert min(left, right) - 1e-9 <= slope(m) <= max(left, right) + 1e-9
    m = torch.arange(5)
    literal = torch.where((m - 1).abs() >= 1, 0, torch.where(m >= 1, 1, -1))  # the paper's equation 7 at u = 1
    assert (ROW[0] * literal).sum() == r[1]


def test_at_the_identity_pixels_are_read_at_kinks_but_for_rounding():
    u = ((AFFINE.grid(torch.eye(2, 3).view(1, 6), (28, 28))[0, 0, :, 0] + 1) * 28 - 1) / 2
    m = torch.arange(28)
    assert [int(found.sum()) for found in (u == m, u < m, u > m)] == [23, 3, 2]
    assert (u - m).abs().max() < 1e-4


def test_at_the_identity_most_pixels_of_a_digit_have_no_gradient():
    images = st.load_digits("digits")[0].images[:200, None].float() / 255
    grid = AFFINE.grid(torch.eye(2, 3).view(1, 6).expand(200, -1), (28, 28)).requires_grad_()
    (gradient,) = torch.autograd.grad(bilinear_sampler(images, grid).sum(), grid)
    assert float((gradient != 0).any(-1).float().mean()) == pytest.approx(0.39, abs=0.01)


@evaluates("4.14", "4.15")
def test_outside_there_is_nothing_and_no_gradient():
    image = random(4, 5).requires_grad_()
    for outside in (-1.2, -7.0, 5.1, 30.0):
        u = torch.tensor(outside, dtype=torch.float64, requires_grad=True)
        value = read(image, u, torch.tensor(1.5).double())
        assert not any(one.any() for one in (value, *torch.autograd.grad(value, (u, image))))
    for at in (-0.9, -0.25):
        assert float(read(ROW, torch.tensor(at).double(), torch.zeros(()).double())) == pytest.approx((1 + at) * 2)
        assert slope(at) == pytest.approx(2)


# --- 5: more families --------------------------------------------------------------------------------------------------


@evaluates("5.1", "5.2")
def test_attention_and_projective_are_the_projects():
    assert close(matrices("5.1", s=0.6, t_x=0.1, t_y=-0.3)[0], ATTENTION.matrix(one(0.6, 0.1, -0.3))[0, :2])
    a, b, c, d, e, f, g, h = numbers = [0.9, 0.2, 0.1, -0.1, 1.1, 0.05, 0.3, -0.4]
    target = random(6, 2) * 2 - 1
    x, y = target.unbind(-1)
    depth = g * x + h * y + 1
    expected = torch.stack([(a * x + b * y + c) / depth, (d * x + e * y + f) / depth], dim=-1)
    assert close(PROJECTIVE.points(one(*numbers), target)[0], expected)
    corners = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]).double()
    assert (corners @ torch.tensor([g, h]).double() + 1).min() == pytest.approx(1 - abs(g) - abs(h))


def bent() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Control points, where they read along x, and the coefficients of formulas 5.4 to 5.6: w and alpha."""
    control = torch.tensor(TPS.identity, dtype=torch.float64).view(-1, 2)
    values = control[:, 0] + 0.3 * random(16)
    q = torch.cat([torch.ones(16, 1).double(), control], dim=1)
    m = phi((control[:, None] - control).square().sum(-1))
    system = torch.cat([torch.cat([m, q], dim=1), torch.cat([q.T, torch.zeros(3, 3).double()], dim=1)])
    solution = torch.linalg.solve(system, torch.cat([values, torch.zeros(3).double()]))
    return control, values, solution[:16], solution[16:]


def phi(squared: Tensor) -> Tensor:
    return squared * squared.clamp(min=1e-300).log()


@evaluates("5.4", "5.5", "5.6", "5.8")
def test_the_linear_system_gives_the_projects_spline_which_is_linear_in_theta():
    control, values, w, alpha = bent()
    points = random(9, 2) * 2.4 - 1.2
    formula = alpha[0] + points @ alpha[1:] + phi((points[:, None] - control).square().sum(-1)) @ w
    theta = torch.stack([values, control[:, 1]], dim=1).view(1, 32)
    assert close(TPS.points(theta, points)[0, :, 0], formula, 1e-9)
    assert close(w.sum(), torch.zeros(()).double(), 1e-9)
    assert close(w @ control, torch.zeros(2).double(), 1e-9)
    weights = TPS.points(torch.eye(32).double(), points)[::2, :, 0]  # of each control point's x alone
    assert close(weights.sum(dim=0), torch.ones(9).double(), 1e-9)
    assert close(values @ weights, formula, 1e-9)


@evaluates("5.3", "5.7")
def test_the_bending_energy_is_that_of_its_integral():
    """Second derivatives by autograd, squared and integrated over a plane that is fine within and coarse far out."""
    control, _, w, alpha = bent()
    step = torch.arange(-5.2, 5.2, 0.02, dtype=torch.float64) + 0.0103
    along, stretch = step.sinh(), step.cosh() * 0.02  # to 90 on either side
    points = torch.stack(torch.meshgrid(along, along, indexing="xy"), dim=-1).flatten(0, 1)
    total = torch.zeros(len(points), 3, dtype=torch.float64)
    for place, weight in zip(control, w, strict=True):
        dx, dy = (points - place).unbind(-1)
        squared = dx * dx + dy * dy
        # Of s log s with s = dx² + dy²: 4 dx dy / s is the mixed derivative, and so on.
        bend = 2 * (squared.log() + 1)
        total += weight * torch.stack([bend + 4 * dx * dx / squared, 4 * dx * dy / squared, bend + 4 * dy * dy / squared], -1)
    density = total[:, 0] ** 2 + 2 * total[:, 1] ** 2 + total[:, 2] ** 2
    area = (stretch[:, None] * stretch).flatten()
    energy = w @ phi((control[:, None] - control).square().sum(-1)) @ w
    assert float((density * area).sum()) == pytest.approx(16 * math.pi * float(energy), rel=0.02)
    assert energy > 0


# --- 6: training and measuring -----------------------------------------------------------------------------------------


@evaluates("6.1", "6.2")
def test_a_head_of_zeros_gives_the_identity_and_learns_by_its_own_gradient_first():
    head, features = ThetaHead(5, AFFINE).double(), random(3, 5).requires_grad_()
    theta = head(features)
    assert close(theta, torch.tensor(AFFINE.identity).double().expand(3, 6))
    upstream = random(3, 6)
    by_weight, by_features = torch.autograd.grad((theta * upstream).sum(), (head.weight, features))
    assert close(by_weight, upstream.T @ features.detach())
    assert by_weight.abs().max() > 0
    assert not by_features.any()
    nn.init.ones_(head.weight)
    assert torch.autograd.grad((head(features) * upstream).sum(), features)[0].any()


@evaluates("6.3")
def test_a_step_of_theta_moves_a_point_by_so_many_pixels():
    theta, change = one(*AFFINE.identity), one(0.02, -0.01, 0.1, 0.0, 0.0, 0.0)
    target = random(4, 2)
    moved = AFFINE.points(theta + change, target)[0, :, 0] - AFFINE.points(theta, target)[0, :, 0]
    x, y = target.unbind(-1)
    assert close(moved * 28 / 2, 28 / 2 * (x * 0.02 - y * 0.01 + 0.1))


def removed(distortions: Tensor, turns: Tensor) -> float:
    """Of the rotation, as a report has it: of images distorted and then turned by so many radians."""
    maps = [Map(ROTATION, distortions[:, None], 1.0), Map(ROTATION, turns[:, None], 1.0)]
    (found,) = (spread for spread in spreads(pose_components(maps)) if spread.component == "rotation")
    return 1 - found.after / found.before


@evaluates("6.4", "6.5")
def test_removed_is_the_share_of_the_spread_that_is_gone_whatever_the_mean():
    delta = torch.linspace(-0.6, 0.7, 40, dtype=torch.float64)
    for turns, expected in ((-delta, 1), (-delta + 0.8, 1), (-delta / 2, 0.5), (0 * delta + 0.3, 0), (delta, -1)):
        gamma = delta + turns
        share = 1 - float((gamma - gamma.mean()).square().mean().sqrt() / (delta - delta.mean()).square().mean().sqrt())
        assert share == pytest.approx(expected, abs=1e-9)
        assert removed(delta, turns) == pytest.approx(expected, abs=0.02)
    distortion, pose = AFFINE.matrix(random(6, 6) + torch.tensor(AFFINE.identity)), AFFINE.matrix(one(*random(6).tolist()))
    assert close(distortion @ (torch.linalg.inv(distortion) @ pose), pose.expand(6, 3, 3), 1e-9)


@evaluates("6.6")
def test_a_filter_sees_a_turned_image_as_a_turned_filter_sees_the_image():
    image, k = random(1, 1, 9, 9), random(1, 1, 3, 3)
    seen = F.conv2d(torch.rot90(image, 1, (-2, -1)), k)
    assert close(seen, torch.rot90(F.conv2d(image, torch.rot90(k, -1, (-2, -1))), 1, (-2, -1)))
    assert not close(torch.rot90(seen, -1, (-2, -1)), F.conv2d(image, k), 0.1)


@pytest.fixture
def equivariant() -> Iterator[st.SpatialTransformer]:
    torch.manual_seed(0)
    localise = st.LOCALISATIONS["equivariant"](SIMILARITY, (28, 28), 1)
    with torch.no_grad():
        yield st.SpatialTransformer(localise, SIMILARITY, (28, 28)).eval()


@evaluates("6.7", "6.8")
def test_an_equivariant_theta_makes_the_output_the_same(equivariant):
    images = st.load_digits("digits")[0].images[:16, None].float() / 255
    turned = torch.rot90(images, 1, (-2, -1))  # counter-clockwise: (gU)(p) = U(g^-1 p), g by -90 degrees
    output, theta = equivariant.warp(images)
    output_turned, theta_turned = equivariant.warp(turned)
    g = ROTATION.matrix(one(-math.pi / 2)).float()
    assert torch.allclose(SIMILARITY.matrix(theta_turned), g @ SIMILARITY.matrix(theta), atol=1e-3)
    assert torch.allclose(output_turned, output, atol=5e-3)


# --- the notebook ------------------------------------------------------------------------------------------------------

NOTEBOOK = json.loads((ROOT / "docs/notebook.ipynb").read_text())
CELLS = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_kept_without_outputs():
    assert len(CELLS) > 5
    assert [cell for cell in CELLS if cell["outputs"] or cell["execution_count"] is not None] == []


@pytest.mark.slow
def test_the_notebook_runs_from_a_run_to_a_transformer_in_ones_own_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict[str, Any] = {}
    for cell in CELLS:
        exec("".join(cell["source"]), names)
    assert set(names["run"].trials["model"]) == {"cnn_paper", "st_cnn_paper"}
    assert names["same"], "at the start the network gives what it gave before"
    assert names["theta"].std(dim=0).max() > 0.01, "it has left the identity"
    for network in ("plain", "transformed"):
        assert st.evaluate(names[network], names["data"]).accuracy.value > 30
