"""The guide's formulas of invariance, maps, grids and families, against the project's code."""

import math

import guide_figures
import numpy as np
import pytest
import torch
from formulas import close, evaluates, kernel_sum, linear, matrices, one, random
from torch import Tensor, nn
from torch.nn import functional as F

import stn_train as st
from stn_train.evaluation.alignment import decompose
from stn_train.geometry import (
    AFFINE,
    ATTENTION,
    HOMOGRAPHY,
    PROJECTIVE,
    ROTATION,
    SCALE,
    SHEAR,
    TPS,
    TRANSLATION,
    bilinear_sampler,
    pixel_centres,
    pixel_grid,
)

# --- 1: what it is for -----------------------------------------------------------------------------------------------


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


# --- 2: localisation -------------------------------------------------------------------------------------------------


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
    digits = st.load_images("digits")[0].subset(torch.arange(3))
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


# --- 3: the grid -----------------------------------------------------------------------------------------------------


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


# --- 5: more families ------------------------------------------------------------------------------------------------


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
    """Second derivatives by their formulas, squared and integrated over a plane, finely within and coarsely far out."""
    control, _, w, _ = bent()
    step = torch.arange(-5.2, 5.2, 0.02, dtype=torch.float64) + 0.0103
    along, stretch = step.sinh(), step.cosh() * 0.02  # to 90 on either side
    points = torch.stack(torch.meshgrid(along, along, indexing="xy"), dim=-1).flatten(0, 1)
    total = torch.zeros(len(points), 3, dtype=torch.float64)
    for place, weight in zip(control, w, strict=True):
        dx, dy = (points - place).unbind(-1)
        squared = dx * dx + dy * dy
        # Of s log s with s = dx² + dy²: 4 dx dy / s is the mixed derivative, and so on.
        bend = 2 * (squared.log() + 1)
        along_both = 4 * torch.stack([dx * dx, dx * dy, dy * dy], dim=-1) / squared[:, None]
        total += weight * (along_both + bend[:, None] * torch.tensor([1, 0, 1]))
    density = total[:, 0] ** 2 + 2 * total[:, 1] ** 2 + total[:, 2] ** 2
    area = (stretch[:, None] * stretch).flatten()
    energy = w @ phi((control[:, None] - control).square().sum(-1)) @ w
    assert float((density * area).sum()) == pytest.approx(16 * math.pi * float(energy), rel=0.02)
    assert energy > 0
