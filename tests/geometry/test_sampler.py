"""The sampler, and grid and sampler together, against loops in plain Python, answers worked by hand and libraries."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from stn_train.geometry import AFFINE, FAMILIES, PROJECTIVE, ROTATION, SCALE, SHEAR, TRANSLATION, bilinear_sampler

ASYMMETRIC = [
    [1.0, 2.0, 3.0, 4.0],
    [5.0, 6.0, 7.0, 8.0],
    [9.0, 10.0, 11.0, 12.0],
]


def sample(image: Sequence[Sequence[float]], theta: Sequence[float], size: tuple[int, int]) -> list[list[float]]:
    """One image warped by an affine theta, as nested lists."""
    images = torch.tensor(image, dtype=torch.float64)[None, None]
    grid = AFFINE.grid(torch.tensor([theta], dtype=torch.float64), size)
    return bilinear_sampler(images, grid)[0, 0].tolist()


def sample_by_loops(
    image: Sequence[Sequence[float]], theta: Sequence[float], size: tuple[int, int]
) -> list[list[float]]:
    """The same from equations 1 and 5 of the paper, pixel by pixel: pixel (row, column) has its centre in the middle of
    its square of 2 / H by 2 / W in a frame from -1 to 1, and every source pixel weighs (1 - |dx|) (1 - |dy|)."""
    height, width = len(image), len(image[0])
    a, b, c, d, e, f = theta
    result = []
    for row in range(size[0]):
        line = []
        for column in range(size[1]):
            x, y = (column + 0.5) * 2 / size[1] - 1, (row + 0.5) * 2 / size[0] - 1
            source_column = (a * x + b * y + c + 1) * width / 2 - 0.5
            source_row = (d * x + e * y + f + 1) * height / 2 - 0.5
            line.append(
                sum(
                    image[m][n] * max(0, 1 - abs(source_column - n)) * max(0, 1 - abs(source_row - m))
                    for m in range(height)
                    for n in range(width)
                )
            )
        result.append(line)
    return result


def flat(image: list[list[float]]) -> list[float]:
    return [value for line in image for value in line]


def approx(values: list[float]) -> Any:
    return pytest.approx(values, rel=0, abs=1e-12)


def random_images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


# --- by hand ------------------------------------------------------------------------------------------------------


def test_reading_one_pixel_further_right_moves_the_image_left():
    one_pixel = 2 / 4
    moved = sample(ASYMMETRIC, [1, 0, one_pixel, 0, 1, 0], (3, 4))
    assert flat(moved) == approx([2, 3, 4, 0, 6, 7, 8, 0, 10, 11, 12, 0])


def test_reading_one_pixel_further_down_moves_the_image_up():
    one_pixel = 2 / 3
    moved = sample(ASYMMETRIC, [1, 0, 0, 0, 1, one_pixel], (3, 4))
    assert flat(moved) == approx([5, 6, 7, 8, 9, 10, 11, 12, 0, 0, 0, 0])


def test_reading_half_a_pixel_further_right_averages_neighbours_and_fades_at_the_edge():
    half_a_pixel = 1 / 4
    moved = sample(ASYMMETRIC, [1, 0, half_a_pixel, 0, 1, 0], (3, 4))
    assert flat(moved) == approx([1.5, 2.5, 3.5, 2, 5.5, 6.5, 7.5, 4, 9.5, 10.5, 11.5, 6])


def test_a_grid_turned_by_90_degrees_clockwise_turns_the_image_counterclockwise():
    square = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]
    grid = ROTATION.grid(one_theta(math.pi / 2), (3, 3))
    turned = bilinear_sampler(torch.tensor([[square]], dtype=torch.float64), grid)[0, 0]
    expected = [[3.0, 6.0, 9.0], [2.0, 5.0, 8.0], [1.0, 4.0, 7.0]]
    assert flat(turned.tolist()) == approx(flat(expected))


def test_a_scale_of_one_half_shows_the_middle_enlarged_to_twice_its_size():
    image = [[0.0, 0, 0, 0], [0, 1, 2, 0], [0, 3, 4, 0], [0, 0, 0, 0]]
    # Rows and columns are read at 0.75, 1.25, 1.75 and 2.25.
    assert sample(image, [0.5, 0, 0, 0, 0.5, 0], (4, 4)) == [
        [0.5625, 0.9375, 1.3125, 1.125],
        [1.125, 1.75, 2.25, 1.875],
        [1.875, 2.75, 3.25, 2.625],
        [1.6875, 2.4375, 2.8125, 2.25],
    ]


def test_a_smaller_output_reads_between_the_pixels_that_it_replaces():
    assert sample(ASYMMETRIC[:2], [1, 0, 0, 0, 1, 0], (1, 2)) == [[3.5, 5.5]]


def test_what_lies_outside_the_image_is_zero():
    assert flat(sample(ASYMMETRIC, [1, 0, 3, 0, 1, 0], (3, 4))) == [0] * 12


@pytest.mark.parametrize("size", [(3, 4), (5, 2), (1, 7)])
def test_grid_and_sampler_agree_with_plain_loops(size):
    thetas = random_images(12, 6) * 2.4 - 1.2
    thetas[0] = torch.tensor(AFFINE.identity)
    for theta in thetas.tolist():
        assert flat(sample(ASYMMETRIC, theta, size)) == approx(flat(sample_by_loops(ASYMMETRIC, theta, size)))


# --- against libraries --------------------------------------------------------------------------------------------


def test_the_sampler_is_torchs_with_zeros_outside_and_corners_not_aligned():
    images, grid = random_images(3, 2, 5, 7), random_images(3, 4, 6, 2) * 3 - 1.5
    expected = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    assert torch.equal(bilinear_sampler(images, grid), expected)


def one_theta(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


# torchvision says what happens to the image, a grid says where the result is read: one is the other's inverse.
@pytest.mark.parametrize(
    ("matrix", "torchvisions"),
    [
        (ROTATION.matrix(one_theta(-math.pi / 6), 7 / 5), {"angle": 30.0}),
        (ROTATION.matrix(one_theta(math.radians(110)), 7 / 5), {"angle": -110.0}),
        (TRANSLATION.matrix(one_theta(-2 * 2 / 7, 1.5 * 2 / 5)), {"translate": [2.0, -1.5]}),
        (SCALE.matrix(one_theta(1 / 1.3)), {"scale": 1.3}),
        (SHEAR.matrix(one_theta(math.tan(0.4), 0.0), 7 / 5), {"shear": [math.degrees(0.4), 0.0]}),
        (SHEAR.matrix(one_theta(0.0, math.tan(0.4)), 7 / 5), {"shear": [0.0, math.degrees(0.4)]}),
    ],
    ids=["clockwise", "counterclockwise", "translation", "scale", "horizontal shear", "vertical shear"],
)
def test_each_family_agrees_with_torchvision(matrix, torchvisions):
    images = random_images(1, 2, 5, 7)
    arguments = {"angle": 0.0, "translate": [0.0, 0.0], "scale": 1.0, "shear": [0.0, 0.0], **torchvisions}
    expected = tv.affine(images, interpolation=InterpolationMode.BILINEAR, **arguments)
    grid = AFFINE.grid(matrix[:, :2].reshape(1, 6), (5, 7))
    assert torch.allclose(bilinear_sampler(images, grid), expected, rtol=0, atol=1e-12)


def test_a_projective_map_agrees_with_torchvisions_perspective():
    """torchvision names corners by their pixels, from 0 to the width at the outer edges, and keeps float32 numbers."""
    images = random_images(1, 2, 6, 9)
    theta = torch.tensor([[0.9, 0.2, 0.1, -0.1, 1.1, 0.05, 0.15, -0.2]], dtype=torch.float64)
    corners = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64)
    edges = torch.tensor([9.0, 6.0]) / 2
    source, target = (PROJECTIVE.points(theta, corners)[0] + 1) * edges, (corners + 1) * edges
    expected = tv.perspective(images, source.tolist(), target.tolist(), interpolation=InterpolationMode.BILINEAR)
    assert torch.allclose(bilinear_sampler(images, PROJECTIVE.grid(theta, (6, 9))), expected, rtol=0, atol=1e-5)


# --- gradients ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
def test_gradients_reach_theta_and_image_and_match_finite_differences(family):
    images = random_images(2, 2, 4, 5).requires_grad_()
    theta = torch.tensor(family.identity, dtype=torch.float64) + random_images(2, len(family.identity)) * 0.4 + 0.031
    theta.requires_grad_()
    grid = family.grid(theta, (3, 4), 5 / 4)
    pixels = (grid.detach() + 1) * torch.tensor([5, 4]) / 2 - 0.5
    assert (pixels - pixels.round()).abs().min() > 1e-4, "a kink of the sampler: choose other parameters"

    def warp(images: Tensor, theta: Tensor) -> Tensor:
        return bilinear_sampler(images, family.grid(theta, (3, 4), 5 / 4))

    assert torch.autograd.gradcheck(warp, (images, theta), eps=1e-6)


def test_between_the_pixels_the_gradient_is_the_papers_in_plain_loops():
    """Equations 6 and 7, with respect to the image and to (x_s, y_s) in pixels, summed over the channels."""
    images, grid = random_images(1, 2, 4, 5).requires_grad_(), (random_images(1, 3, 3, 2) * 2.6 - 1.3).requires_grad_()
    weights = random_images(1, 2, 3, 3)
    by_image, by_grid = torch.autograd.grad((bilinear_sampler(images, grid) * weights).sum(), (images, grid))
    expected_image, expected_grid = torch.zeros_like(by_image), torch.zeros_like(by_grid)
    for row in range(3):
        for column in range(3):
            x, y = ((grid[0, row, column] + 1) * torch.tensor([5, 4]) / 2 - 0.5).tolist()
            for channel in range(2):
                weight = weights[0, channel, row, column].item()
                for n in range(4):
                    for m in range(5):
                        near_x, near_y = max(0.0, 1 - abs(x - m)), max(0.0, 1 - abs(y - n))
                        slope_x = 0.0 if abs(m - x) >= 1 else (1.0 if m >= x else -1.0)
                        slope_y = 0.0 if abs(n - y) >= 1 else (1.0 if n >= y else -1.0)
                        value = images[0, channel, n, m].item()
                        expected_image[0, channel, n, m] += weight * near_x * near_y
                        expected_grid[0, row, column, 0] += weight * value * near_y * slope_x * 5 / 2
                        expected_grid[0, row, column, 1] += weight * value * near_x * slope_y * 4 / 2
    assert torch.allclose(by_image, expected_image, rtol=0, atol=1e-12)
    assert torch.allclose(by_grid, expected_grid, rtol=0, atol=1e-12)


def test_at_a_pixels_centre_the_gradient_lies_between_the_slopes_of_its_two_sides():
    images, eps = random_images(1, 1, 4, 8), 2.0**-20

    def warp(theta: Tensor) -> Tensor:
        return bilinear_sampler(images, TRANSLATION.grid(theta[None], (4, 8)))[0, 0]

    at = torch.zeros(2, dtype=torch.float64)
    gradient = torch.autograd.functional.jacobian(warp, at)
    for axis, step in enumerate(eps * torch.eye(2, dtype=torch.float64)):
        before, after = (warp(at) - warp(at - step)) / eps, (warp(at + step) - warp(at)) / eps
        assert not torch.allclose(before, after)
        assert (gradient[..., axis] >= torch.minimum(before, after) - 1e-7).all()
        assert (gradient[..., axis] <= torch.maximum(before, after) + 1e-7).all()


# --- precision ----------------------------------------------------------------------------------------------------


def test_under_autocast_coordinates_and_result_stay_float32():
    images = random_images(2, 1, 28, 28).float()
    theta = torch.tensor([[0.9, 0.1, 0.03, -0.2, 1.1, 0.07], [1.0, 0.0, 0.001, 0.0, 1.0, 0.0]])
    grid = AFFINE.grid(theta, (28, 28))
    expected = bilinear_sampler(images, grid)
    with torch.autocast("cpu", torch.bfloat16):
        grid_there = AFFINE.grid(theta, (28, 28))
        output = bilinear_sampler(images, grid_there)
    assert output.dtype == grid_there.dtype == torch.float32
    assert torch.equal(grid_there, grid)
    assert torch.equal(output, expected)


def test_bfloat16_feature_maps_are_read_at_float32_coordinates():
    images = random_images(1, 3, 8, 8).bfloat16()
    grid = AFFINE.grid(torch.tensor([[0.9, 0.1, 0.03, -0.2, 1.1, 0.07]]), (8, 8))
    output = bilinear_sampler(images, grid)
    assert output.dtype == torch.float32
    assert torch.equal(output, bilinear_sampler(images.float(), grid))


def test_a_batch_equals_its_items():
    images, theta = random_images(4, 2, 5, 7), random_images(4, 6) * 2 - 1
    together = bilinear_sampler(images, AFFINE.grid(theta, (6, 3)))
    one_by_one = [bilinear_sampler(images[i : i + 1], AFFINE.grid(theta[i : i + 1], (6, 3))) for i in range(4)]
    assert torch.equal(together, torch.cat(one_by_one))
