"""The guide's formulas of the sampler, training and measuring, against the project's code, autograd and differences."""

import math
from collections.abc import Iterator

import pytest
import torch
from formulas import close, evaluates, kernel_sum, one, random, read, tent
from torch import Tensor, nn
from torch.nn import functional as F

import stn_train as st
from stn_train.evaluation.alignment import Map, pose_components, spreads
from stn_train.geometry import (
    AFFINE,
    ROTATION,
    SIMILARITY,
    bilinear_sampler,
    pixel_grid,
)
from stn_train.models.transformer import ThetaHead

# --- 4: the sampler --------------------------------------------------------------------------------------------------


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
    images = st.load_images("digits")[0].images[:200].float() / 255
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


# --- 6: training and measuring ---------------------------------------------------------------------------------------


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
    distortion = AFFINE.matrix(random(6, 6) + torch.tensor(AFFINE.identity))
    pose = AFFINE.matrix(one(*random(6).tolist()))
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
    images = st.load_images("digits")[0].images[:16].float() / 255
    turned = torch.rot90(images, 1, (-2, -1))  # counter-clockwise: (gU)(p) = U(g^-1 p), g by -90 degrees
    output, theta = equivariant.warp(images)
    output_turned, theta_turned = equivariant.warp(turned)
    g = ROTATION.matrix(one(-math.pi / 2)).float()
    assert torch.allclose(SIMILARITY.matrix(theta_turned), g @ SIMILARITY.matrix(theta), atol=1e-3)
    assert torch.allclose(output_turned, output, atol=5e-3)
