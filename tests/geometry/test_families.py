"""Laws of the families: counts, identity, inverse, composition, aspect; and each matrix once by hand."""

import copy
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stn_train.geometry import (
    AFFINE,
    ATTENTION,
    FAMILIES,
    HOMOGRAPHY,
    PROJECTIVE,
    ROTATION,
    SCALE,
    SHEAR,
    SIMILARITY,
    TRANSLATION,
    Family,
    MatrixFamily,
    ThinPlateSpline,
    bilinear_sampler,
    pixel_grid,
    thin_plate_spline,
)
from stn_train.geometry.families import HORIZON
from stn_train.models.localisation import LOCALISATIONS
from stn_train.specs import PARTS

EVERY = {**FAMILIES, "homography": HOMOGRAPHY, "tps_3": thin_plate_spline(3)}
MATRICES = {name: family for name, family in EVERY.items() if isinstance(family, MatrixFamily)}
ALL = pytest.mark.parametrize("family", EVERY.values(), ids=list(EVERY))
ALL_MATRICES = pytest.mark.parametrize("family", MATRICES.values(), ids=list(MATRICES))
COS, SIN = math.sqrt(3) / 2, 0.5


def some_theta(family: Family, count: int = 5, seed: int = 0) -> Tensor:
    noise = torch.rand(count, len(family.identity), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.tensor(family.identity, dtype=torch.float64) + (noise - 0.5) * (
        0.4 if family in (PROJECTIVE, HOMOGRAPHY) else 1.0
    )


def coordinates_through(matrix: Tensor, points: Tensor) -> Tensor:
    """Every point (N x ... x 2) mapped by its matrix (N x 3 x 3), in homogeneous coordinates."""
    homogeneous = torch.cat([points, torch.ones_like(points[..., :1])], dim=-1)
    mapped = torch.einsum("nij,n...j->n...i", matrix, homogeneous)
    return mapped[..., :2] / mapped[..., 2:]


def close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(3, 4), (1, 1), (7, 2), (28, 28)])
def test_the_grid_is_torchs_affine_grid_with_corners_not_aligned(size):
    theta = some_theta(AFFINE, 8)
    expected = F.affine_grid(theta.view(8, 2, 3), [8, 1, *size], align_corners=False)
    assert close(AFFINE.grid(theta, size), expected)


def test_the_identitys_grid_holds_the_centres_of_the_pixels():
    grid = AFFINE.grid(torch.tensor([AFFINE.identity]), (2, 4))
    rows = [[[x, y] for x in (-0.75, -0.25, 0.25, 0.75)] for y in (-0.5, 0.5)]
    assert grid.tolist() == [rows]


def test_families_and_localisation_networks_are_those_that_a_configuration_can_name():
    assert list(FAMILIES) == [*PARTS["family"]]
    assert list(LOCALISATIONS) == [*PARTS["localisation"]]


def test_each_family_has_the_number_of_parameters_that_the_field_gives_it():
    known = {"translation": 2, "scale": 1, "rotation": 1, "shear": 2, "attention": 3, "similarity": 4, "affine": 6}
    known |= {"projective": 8, "homography": 9, "tps": 32, "tps_3": 18}
    assert {name: len(family.identity) for name, family in EVERY.items()} == known


@ALL
@pytest.mark.parametrize("aspect", [1.0, 1.5])
def test_the_identity_is_the_identity(family, aspect):
    theta = torch.tensor([family.identity], dtype=torch.float64)
    centres = pixel_grid((4, 6), theta)[None]
    assert close(family.grid(theta, (4, 6), aspect), centres)
    assert not close(family.grid(theta + 0.1, (4, 6), aspect), centres)


@ALL_MATRICES
def test_the_identitys_matrix_is_the_identity_to_the_bit(family):
    assert torch.equal(family.matrix(torch.tensor([family.identity]), 1.5), torch.eye(3)[None])


@ALL
def test_the_grid_is_where_the_points_at_the_pixels_centres_go(family):
    theta = some_theta(family)
    grid = family.grid(theta, (4, 6), 1.5)
    assert grid.shape == (5, 4, 6, 2)
    assert close(grid, family.points(theta, pixel_grid((4, 6), theta).flatten(0, 1), 1.5).view(5, 4, 6, 2))


@ALL
def test_points_of_each_item_or_the_same_for_all(family):
    theta, same = some_theta(family), torch.rand(7, 2, dtype=torch.float64)
    assert close(family.points(theta, same, 1.5), family.points(theta, same.expand(5, 7, 2), 1.5))


@pytest.mark.parametrize(
    ("family", "theta", "matrix"),
    [
        (TRANSLATION, [0.25, -0.5], [[1, 0, 0.25], [0, 1, -0.5], [0, 0, 1]]),
        (SCALE, [0.75], [[0.75, 0, 0], [0, 0.75, 0], [0, 0, 1]]),
        (ROTATION, [math.pi / 6], [[COS, -SIN, 0], [SIN, COS, 0], [0, 0, 1]]),
        (SHEAR, [0.25, -0.5], [[1, 0.25, 0], [-0.5, 1, 0], [0, 0, 1]]),
        (ATTENTION, [0.5, 0.25, -0.5], [[0.5, 0, 0.25], [0, 0.5, -0.5], [0, 0, 1]]),
        (SIMILARITY, [0.5, 0.25, 0.1, 0.2], [[0.5, -0.25, 0.1], [0.25, 0.5, 0.2], [0, 0, 1]]),
        (AFFINE, [1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6], [0, 0, 1]]),
        (PROJECTIVE, [1, 2, 3, 4, 5, 6, 7, 8], [[1, 2, 3], [4, 5, 6], [7, 8, 1]]),
        (HOMOGRAPHY, [1, 2, 3, 4, 5, 6, 7, 8, 9], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
    ],
    ids=list(MATRICES),
)
def test_a_matrix_worked_by_hand(family, theta, matrix):
    found = family.matrix(torch.tensor([theta], dtype=torch.float64))[0]
    assert close(found, torch.tensor(matrix, dtype=torch.float64))


@pytest.mark.parametrize(
    ("family", "theta", "matrix"),
    [
        (TRANSLATION, [0.5, -0.5], [[1, 0, 0.25], [0, 1, -0.5], [0, 0, 1]]),
        (SCALE, [0.75], [[0.75, 0, 0], [0, 0.75, 0], [0, 0, 1]]),
        (ROTATION, [math.pi / 6], [[COS, -SIN / 2, 0], [2 * SIN, COS, 0], [0, 0, 1]]),
        (SHEAR, [0.5, -0.5], [[1, 0.25, 0], [-1, 1, 0], [0, 0, 1]]),
        (ATTENTION, [0.5, 0.5, -0.5], [[0.5, 0, 0.25], [0, 0.5, -0.5], [0, 0, 1]]),
        (SIMILARITY, [0.5, 0.25, 0.5, 0.2], [[0.5, -0.125, 0.25], [0.5, 0.5, 0.2], [0, 0, 1]]),
        (AFFINE, [1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6], [0, 0, 1]]),
        (PROJECTIVE, [1, 2, 3, 4, 5, 6, 7, 8], [[1, 2, 3], [4, 5, 6], [7, 8, 1]]),
        (HOMOGRAPHY, [1, 2, 3, 4, 5, 6, 7, 8, 9], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
    ],
    ids=list(MATRICES),
)
def test_a_matrix_worked_by_hand_for_an_image_twice_as_wide_as_high(family, theta, matrix):
    """In units of half the height both ways, x runs from -2 to 2 there."""
    found = family.matrix(torch.tensor([theta], dtype=torch.float64), aspect=2.0)[0]
    assert close(found, torch.tensor(matrix, dtype=torch.float64))


@ALL_MATRICES
@pytest.mark.parametrize("aspect", [1.0, 1.5])
def test_the_inverse_undoes(family, aspect):
    theta, points = some_theta(family), torch.rand(20, 2, dtype=torch.float64) * 2 - 1
    there = family.points(theta, points, aspect)
    assert not close(there, points.expand(5, 20, 2))
    assert close(family.inverse_points(theta, there, aspect), points.expand(5, 20, 2))
    matrix = torch.linalg.inv(family.matrix(theta, aspect))
    assert close(HOMOGRAPHY.points(matrix.flatten(1), there), points.expand(5, 20, 2))


@pytest.mark.parametrize("first", MATRICES.values(), ids=list(MATRICES))
@pytest.mark.parametrize("then", MATRICES.values(), ids=list(MATRICES))
def test_the_product_of_matrices_is_the_composition_of_maps(first, then):
    theta, other, points = some_theta(first), some_theta(then, seed=1), torch.rand(20, 2, dtype=torch.float64) - 0.5
    composed = then.points(other, first.points(theta, points, 1.5), 1.5)
    assert close(
        coordinates_through(then.matrix(other, 1.5) @ first.matrix(theta, 1.5), points.expand(5, 20, 2)), composed
    )


# --- the horizon --------------------------------------------------------------------------------------------------


def test_behind_the_horizon_nothing_is_seen_and_gradients_stay_finite():
    """Depth 1 + 2 x: the horizon stands at x = -0.5, and what lies left of it reads outside."""
    theta = torch.tensor([[1.0, 0, 3, 0, 1, 0.1, 2, 0]], dtype=torch.float64, requires_grad=True)
    grid = PROJECTIVE.grid(theta, (1, 8))
    depth = 1 + 2 * pixel_grid((1, 8), theta.detach())[0, :, 0]
    assert depth[:2].tolist() == [-0.75, -0.25]
    assert (grid[0, 0, :2, 0] > 1 / HORIZON).all()
    output = bilinear_sampler(torch.ones(1, 1, 8, 8, dtype=torch.float64), grid)
    assert output[0, 0, 0, :2].tolist() == [0, 0]
    (grid.square().sum() + output.sum()).backward()
    assert torch.isfinite(theta.grad).all()


LAST = {0.45: [1, 0, 0.8, 0, 1, 0, -1.5, 0], 0.0: [0, 0, 1, 0, 1, 0, 1, 0], -5.0: [1, 0, 0.8, 0, 1, 0.1, 1.5, 0]}
"""Projective maps by the last entry of their inverse."""


@pytest.mark.parametrize("last", LAST)
def test_what_is_in_front_of_the_horizon_comes_back_wherever_the_middle_of_the_inverse_lies(last):
    theta, points = torch.tensor([LAST[last]], dtype=torch.float64), torch.rand(200, 2, dtype=torch.float64) * 2 - 1
    points = points[1 + points @ theta[0, 6:] > HORIZON]
    inverse = torch.linalg.inv(PROJECTIVE.matrix(theta))
    assert float(inverse[0, 2, 2]) == pytest.approx(last, abs=5e-3)
    there = PROJECTIVE.points(theta, points)
    assert close(HOMOGRAPHY.points(inverse.flatten(1), there), points)
    assert close(PROJECTIVE.inverse_points(theta, there), points)


def test_sampling_twice_is_sampling_once_with_the_first_matrix_on_the_left():
    """Exact, since both land on pixels; in the other order the result is another."""
    image = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    image[0, 0, 3, 3:6] = torch.tensor([1.0, 2.0, 3.0])
    turn = ROTATION.matrix(torch.tensor([[math.pi / 2]], dtype=torch.float64))
    move = TRANSLATION.matrix(torch.tensor([[2 / 8, 0.0]], dtype=torch.float64))

    def read(images: Tensor, matrix: Tensor) -> Tensor:
        return bilinear_sampler(images, HOMOGRAPHY.grid(matrix.flatten(1), (8, 8)))

    assert close(read(read(image, turn), move), read(image, turn @ move))
    assert not close(read(read(image, turn), move), read(image, move @ turn))


@pytest.mark.parametrize(("height", "width"), [(5, 9), (9, 5)])
def test_turning_by_90_degrees_on_a_canvas_that_is_not_square_keeps_shapes_undistorted(height, width):
    image = torch.zeros(1, 1, height, width, dtype=torch.float64)
    top, left = height // 2 - 2, width // 2 - 2
    image[0, 0, top : top + 5, left : left + 5] = torch.arange(25.0).view(5, 5)
    grid = ROTATION.grid(torch.tensor([[math.pi / 2]], dtype=torch.float64), (height, width), width / height)
    expected = torch.zeros_like(image)
    expected[0, 0, top : top + 5, left : left + 5] = torch.rot90(torch.arange(25.0).view(5, 5))
    assert close(bilinear_sampler(image, grid), expected)


@ALL
def test_a_batch_equals_its_items(family):
    theta = some_theta(family)
    one_by_one = [family.grid(row[None], (3, 4), 1.5) for row in theta]
    assert torch.equal(family.grid(theta, (3, 4), 1.5), torch.cat(one_by_one))
    assert family.grid(theta[:0], (3, 4), 1.5).shape == (0, 3, 4, 2)


# --- precision ----------------------------------------------------------------------------------------------------

SOME = torch.tensor([[0.3, -0.7], [-0.9, 0.1], [0.2, 0.4]])
Computation = Callable[[Family, Tensor, Tensor], Tensor]
OF_ANY: dict[str, Computation] = {
    "points": lambda family, theta, target: family.points(theta, target, 1.5),
    "grid": lambda family, theta, target: family.grid(theta, (5, 7), 1.5),
}
OF_MATRICES: dict[str, Computation] = {
    "matrix": lambda family, theta, target: family.matrix(theta, 1.5),
    "inverse_points": lambda family, theta, target: family.inverse_points(theta, target, 1.5),
}
OF_SPLINES: dict[str, Computation] = {
    "jacobian": lambda family, theta, target: family.jacobian(theta, target, 1.5),
    "folds": lambda family, theta, target: family.folds(theta, (5, 7), 1.5),
    "inverse_points": lambda family, theta, target: family.inverse_points(theta, target, 1.5),
}


def computations() -> list[tuple[Family, str]]:
    found = [(family, name) for family in EVERY.values() for name in OF_ANY]
    found += [(family, name) for family in MATRICES.values() for name in OF_MATRICES]
    return found + [(f, name) for f in EVERY.values() if isinstance(f, ThinPlateSpline) for name in OF_SPLINES]


@pytest.mark.parametrize(("family", "name"), computations(), ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
def test_all_geometry_is_computed_in_float32_or_wider(family, name, dtype):
    """Of what comes in half precision, and under autocast."""
    compute = (OF_ANY | OF_MATRICES | OF_SPLINES)[name]
    identity, noise = torch.tensor(family.identity), some_theta(family) - some_theta(family).mean(dim=0)
    theta, target = (identity + 0.1 * noise).to(dtype), SOME.to(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    expected = compute(family, theta.to(wide), target.to(wide))
    assert expected.dtype in (wide, torch.bool)
    assert torch.equal(compute(family, theta, target).nan_to_num(9.0), expected.nan_to_num(9.0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(compute(family, theta, target).nan_to_num(9.0), expected.nan_to_num(9.0))


# --- copies -------------------------------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda family: pickle.loads(pickle.dumps(family))])
def test_a_copy_of_a_family_is_that_family(family, copied):
    theta, other = some_theta(family), copied(family)
    assert other == family
    assert torch.equal(other.grid(theta, (4, 6), 1.5), family.grid(theta, (4, 6), 1.5))
    if isinstance(family, MatrixFamily):
        assert torch.equal(other.matrix(theta, 1.5), family.matrix(theta, 1.5))
