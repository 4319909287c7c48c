"""Laws of the families: counts, identity, inverse, composition, aspect; and each matrix once by hand."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stn_train.geometry import (
    AFFINE,
    FAMILIES,
    ROTATION,
    SCALE,
    SHEAR,
    TRANSLATION,
    Family,
    bilinear_sampler,
    matrix_grid,
)

ALL = pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
COS, SIN = math.sqrt(3) / 2, 0.5


def some_theta(family: Family, count: int = 5, seed: int = 0) -> Tensor:
    noise = torch.rand(count, family.parameters, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.tensor(family.identity, dtype=torch.float64) + noise - 0.5


def coordinates_through(matrix: Tensor, points: Tensor) -> Tensor:
    """Every point (N x h x w x 2) mapped by its matrix (N x 3 x 3), in homogeneous coordinates."""
    homogeneous = torch.cat([points, torch.ones_like(points[..., :1])], dim=-1)
    mapped = torch.einsum("nij,nhwj->nhwi", matrix, homogeneous)
    return mapped[..., :2] / mapped[..., 2:]


def close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(3, 4), (1, 1), (7, 2), (28, 28)])
def test_the_grid_is_torchs_affine_grid_with_corners_not_aligned(size):
    theta = some_theta(AFFINE, 8)
    expected = F.affine_grid(theta.view(8, 2, 3), [8, 1, *size], align_corners=False)
    assert close(AFFINE.grid(theta, size), expected)


def test_the_identitys_grid_holds_the_centres_of_the_pixels():
    grid = matrix_grid(torch.eye(3)[None], (2, 4))
    rows = [[[x, y] for x in (-0.75, -0.25, 0.25, 0.75)] for y in (-0.5, 0.5)]
    assert grid.tolist() == [rows]


@ALL
def test_each_family_has_the_number_of_parameters_that_the_field_gives_it(family):
    known = {"translation": 2, "scale": 1, "rotation": 1, "shear": 2, "attention": 3, "similarity": 4, "affine": 6}
    assert family.parameters == known[family.name]


@ALL
@pytest.mark.parametrize("aspect", [1.0, 1.5])
def test_the_identity_is_the_identity(family, aspect):
    theta = torch.tensor([family.identity])
    assert torch.equal(family.matrix(theta, aspect), torch.eye(3)[None])


@pytest.mark.parametrize(
    ("family", "theta", "matrix"),
    [
        (TRANSLATION, [0.25, -0.5], [[1, 0, 0.25], [0, 1, -0.5], [0, 0, 1]]),
        (SCALE, [0.75], [[0.75, 0, 0], [0, 0.75, 0], [0, 0, 1]]),
        (ROTATION, [math.pi / 6], [[COS, -SIN, 0], [SIN, COS, 0], [0, 0, 1]]),
        (SHEAR, [0.25, -0.5], [[1, 0.25, 0], [-0.5, 1, 0], [0, 0, 1]]),
        (AFFINE, [1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6], [0, 0, 1]]),
    ],
    ids=["translation", "scale", "rotation", "shear", "affine"],
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
        (AFFINE, [1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6], [0, 0, 1]]),
    ],
    ids=["translation", "scale", "rotation", "shear", "affine"],
)
def test_a_matrix_worked_by_hand_for_an_image_twice_as_wide_as_high(family, theta, matrix):
    """In units of half the height both ways, x runs from -2 to 2 there."""
    found = family.matrix(torch.tensor([theta], dtype=torch.float64), aspect=2.0)[0]
    assert close(found, torch.tensor(matrix, dtype=torch.float64))


@pytest.mark.parametrize(
    ("family", "invert"),
    [
        (TRANSLATION, lambda theta: -theta),
        (SCALE, lambda theta: 1 / theta),
        (ROTATION, lambda theta: -theta),
        (AFFINE, lambda theta: torch.linalg.inv(AFFINE.matrix(theta))[:, :2].reshape(-1, 6)),
    ],
    ids=["translation", "scale", "rotation", "affine"],
)
@pytest.mark.parametrize("aspect", [1.0, 1.5])
def test_the_inverse_undoes(family, invert, aspect):
    theta = some_theta(family)
    there = family.grid(theta, (4, 6), aspect)
    back = coordinates_through(family.matrix(invert(theta), aspect), there)
    centres = matrix_grid(torch.eye(3, dtype=torch.float64)[None], (4, 6)).expand_as(back)
    assert not close(there, centres)
    assert close(back, centres)


@pytest.mark.parametrize("first", FAMILIES.values(), ids=list(FAMILIES))
@pytest.mark.parametrize("then", FAMILIES.values(), ids=list(FAMILIES))
def test_the_product_of_matrices_is_the_composition_of_maps(first, then):
    one, other = first.matrix(some_theta(first), 1.5), then.matrix(some_theta(then, seed=1), 1.5)
    composed = coordinates_through(other, matrix_grid(one, (3, 5)))
    assert close(matrix_grid(other @ one, (3, 5)), composed)


def test_sampling_twice_is_sampling_once_with_the_first_matrix_on_the_left():
    """Exact, since both land on pixels; in the other order the result is another."""
    image = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    image[0, 0, 3, 3:6] = torch.tensor([1.0, 2.0, 3.0])
    turn = ROTATION.matrix(torch.tensor([[math.pi / 2]], dtype=torch.float64))
    move = TRANSLATION.matrix(torch.tensor([[2 / 8, 0.0]], dtype=torch.float64))

    def read(images: Tensor, matrix: Tensor) -> Tensor:
        return bilinear_sampler(images, matrix_grid(matrix, (8, 8)))

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
