"""The spatial transformer: it starts as the identity, learns, stays in float32, and its parts can be exchanged."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stn_train.errors import UserError
from stn_train.geometry import AFFINE, FAMILIES, ROTATION, bilinear_sampler
from stn_train.models.localisation import LOCALISATIONS, default_localisation
from stn_train.models.localisation_parts import SpatialSoftArgmax
from stn_train.models.transformer import SpatialTransformer, ThetaHead
from stn_train.specs import READ_OFF

OF_ANY_FAMILY = [name for name in LOCALISATIONS if name not in READ_OFF]  # which start at no identity


class Constant(nn.Module):
    """A localisation network that says the same of every image: theta, a learnt vector."""

    def __init__(self, *theta: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))

    def forward(self, images: Tensor) -> Tensor:
        return self.theta.expand(len(images), -1)


def tiny_localisation(family: object, channels: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * channels, 8), ThetaHead(8, family))


def random_images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


# --- at the start -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
@pytest.mark.parametrize("name", OF_ANY_FAMILY)
@pytest.mark.parametrize("shape", [(2, 28, 28), (40, 32, 64)], ids=str)
def test_a_fresh_transformer_gives_back_its_input(name, shape, family):
    channels, *size = shape
    localisation = LOCALISATIONS[name](family, tuple(size), channels)
    images = random_images(3, *shape)
    output, theta = SpatialTransformer(localisation, family, tuple(size)).warp(images)
    assert torch.equal(theta, torch.tensor(family.identity).expand(3, -1))
    assert torch.allclose(output, images, rtol=0, atol=1e-4)
    if family is AFFINE and size == [32, 64]:  # powers of two: no rounding
        assert torch.equal(output, images)


@pytest.mark.parametrize("name", OF_ANY_FAMILY)
def test_a_localisation_network_says_the_same_of_an_image_alone_and_among_others(name):
    torch.manual_seed(0)
    localisation = LOCALISATIONS[name](AFFINE, (28, 32), 3).eval()
    nn.init.normal_(localisation[-1].weight)
    images = random_images(4, 3, 28, 32)
    one_by_one = torch.cat([localisation(image[None]) for image in images])
    torch.testing.assert_close(localisation(images), one_by_one, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(one_by_one[0], one_by_one[1], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "size", "sentence"),
    [
        ("conv_paper", (27, 40), "conv_paper needs 28 x 28 pixels or more and gets 27 x 40; conv takes that"),
        ("conv", (7, 7), "conv needs 8 x 8 pixels or more and gets 7 x 7; fc_paper takes that"),
        ("keypoints", (20, 6), "keypoints needs 8 x 8 pixels or more and gets 20 x 6; fc_paper takes that"),
    ],
)
def test_an_input_too_small_for_a_localisation_network_is_told_with_one_that_takes_it(name, size, sentence):
    with pytest.raises(UserError, match=sentence):
        LOCALISATIONS[name](AFFINE, size, 1)
    assert default_localisation(size)(AFFINE, size, 1)(torch.zeros(2, 1, *size)).shape == (2, 6)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
def test_a_fresh_regression_predicts_the_identity_of_its_family(family):
    theta = ThetaHead(5, family)(random_images(2, 5) * 100)
    assert torch.equal(theta, torch.tensor(family.identity).expand(2, -1))


# --- a theta that is given ----------------------------------------------------------------------------------------


def test_a_given_theta_stands_in_for_the_localisation_networks():
    theta = [0.8, 0.1, 0.2, -0.1, 0.7, -0.3]
    says, given = Constant(*theta), torch.tensor([theta]).expand(3, -1).clone().requires_grad_()
    images = random_images(3, 1, 12, 16)
    never = SpatialTransformer(nn.Flatten(), AFFINE, (9, 7), supersampling=2)  # what it says is no theta
    output, used = never.warp(images, given)
    assert used is given
    assert torch.equal(output, SpatialTransformer(says, AFFINE, (9, 7), supersampling=2)(images))
    assert torch.equal(never(images, given), output)
    output.sum().backward()
    assert given.grad.abs().sum() > 0


@pytest.mark.parametrize("shape", [(2, 6), (3, 8), (6,)], ids=str)
def test_a_given_theta_of_another_shape_is_told(shape):
    transformer = SpatialTransformer(Constant(*AFFINE.identity), AFFINE, (9, 7))
    with pytest.raises(UserError, match="3 x 6 is needed"):
        transformer(random_images(3, 1, 12, 16), torch.zeros(shape))


# --- learning -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_ANY_FAMILY)
def test_gradients_reach_the_whole_localisation_network(name):
    torch.manual_seed(0)
    transformer = SpatialTransformer(LOCALISATIONS[name](AFFINE, (28, 28), 1), AFFINE, (28, 28))
    images = random_images(4, 1, 28, 28)

    def gradients() -> dict[str, Tensor]:
        transformer.zero_grad()
        (transformer(images) * random_images(1, 1, 28, 28)).sum().backward()
        return {name: parameter.grad.abs().sum() for name, parameter in transformer.named_parameters()}

    *below, weight, bias = gradients().values()
    assert weight > 0
    assert bias > 0
    assert not any(below), "zero weights let nothing through: the last layer leaves the identity first"
    nn.init.normal_(transformer.localisation[-1].weight, std=0.01)
    assert all(total > 0 for total in gradients().values())


def test_gradients_reach_the_input_through_grid_and_localisation_and_match_finite_differences():
    torch.manual_seed(0)
    transformer = SpatialTransformer(tiny_localisation(AFFINE, channels=2), AFFINE, (4, 5)).double()
    nn.init.normal_(transformer.localisation[-1].weight, std=0.2)
    images = random_images(2, 2, 8, 8).double().requires_grad_()
    assert torch.autograd.gradcheck(transformer, (images,))


def test_a_transformer_learns_to_undo_a_shift():
    """Read two pixels further right, and the image is back where it was."""
    images = torch.zeros(1, 1, 16, 16)
    images[0, 0, 6:10, 5:9] = torch.arange(16.0).view(4, 4) / 16
    moved = images.roll(2, dims=3)
    transformer = SpatialTransformer(Constant(*AFFINE.identity), AFFINE, (16, 16))
    optimizer = torch.optim.Adam(transformer.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        F.mse_loss(transformer(moved), images).backward()
        optimizer.step()
    expected = [1, 0, 2 * 2 / 16, 0, 1, 0]
    assert transformer.localisation.theta.tolist() == pytest.approx(expected, abs=0.02)


def test_weight_decay_pulls_towards_the_identity():
    regression = ThetaHead(5, AFFINE)
    nn.init.normal_(regression.weight)
    nn.init.normal_(regression.bias)
    features = random_images(3, 5)
    assert not torch.allclose(regression(features), regression.identity)
    optimizer = torch.optim.AdamW(regression.parameters(), lr=1.0, weight_decay=1.0)
    (regression(features) * 0).sum().backward()
    optimizer.step()
    assert regression(features).tolist() == [list(AFFINE.identity)] * 3


# --- precision ----------------------------------------------------------------------------------------------------


def test_the_regression_computes_in_float32_under_autocast():
    regression = ThetaHead(64, AFFINE)
    nn.init.normal_(regression.weight, std=0.1)
    features = random_images(8, 64)
    expected = F.linear(features, regression.weight, regression.bias) + regression.identity
    with torch.autocast("cpu", torch.bfloat16):
        theta = regression(features)
        from_bfloat16 = regression(features.bfloat16())
    assert theta.dtype == from_bfloat16.dtype == torch.float32
    assert torch.equal(theta, expected)
    assert torch.equal(from_bfloat16, regression(features.bfloat16().float()))


def test_keypoints_are_found_in_float32_under_autocast():
    maps = 9 * random_images(4, 2, 14, 14)
    expected = SpatialSoftArgmax()(maps)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(SpatialSoftArgmax()(maps), expected)
        assert torch.equal(SpatialSoftArgmax()(maps.bfloat16()), SpatialSoftArgmax()(maps.bfloat16().float()))


def test_a_transformer_warps_in_float32_under_autocast():
    transformer = SpatialTransformer(Constant(0.9, 0.1, 0.03, -0.2, 1.1, 0.07), AFFINE, (12, 12))
    images = random_images(2, 1, 16, 16)
    expected = transformer(images)
    with torch.autocast("cpu", torch.bfloat16):
        output, theta = transformer.warp(images)
    assert output.dtype == theta.dtype == torch.float32
    assert torch.equal(output, expected)


def test_coordinates_stay_float32_also_after_a_localisation_network_that_ends_in_bfloat16():
    localisation = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 6))
    transformer = SpatialTransformer(localisation, AFFINE, (28, 28))
    images = random_images(2, 1, 28, 28)
    with torch.autocast("cpu", torch.bfloat16):
        output, theta = transformer.warp(images)
    assert torch.equal(output, bilinear_sampler(images, AFFINE.grid(theta.float(), (28, 28))))


# --- exchangeable parts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
def test_any_family_can_be_given(family):
    noise = torch.linspace(-0.3, 0.2, len(family.identity))
    localisation = Constant(*(torch.tensor(family.identity) + noise).tolist())
    images = random_images(3, 2, 12, 18)
    output, theta = SpatialTransformer(localisation, family, (5, 7)).warp(images)
    assert theta.shape == (3, len(family.identity))
    assert torch.equal(output, bilinear_sampler(images, family.grid(theta, (5, 7), 18 / 12)))


def test_any_sampler_can_be_given():
    def nearest(images: Tensor, grid: Tensor) -> Tensor:
        return F.grid_sample(images, grid, mode="nearest", align_corners=False)

    images = random_images(1, 1, 8, 8)
    half_as_large = SpatialTransformer(Constant(0.5), FAMILIES["scale"], (8, 8), sampler=nearest)
    assert torch.equal(half_as_large(images), images[..., 2:6, 2:6].repeat_interleave(2, 2).repeat_interleave(2, 3))


@pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
def test_supersampling_is_the_mean_of_what_a_finer_output_would_be(family):
    noise = torch.linspace(-0.3, 0.2, len(family.identity))
    localisation = Constant(*(torch.tensor(family.identity) + noise).tolist())
    images = random_images(2, 3, 12, 18)
    finer = SpatialTransformer(localisation, family, (15, 21))(images)
    output, theta = SpatialTransformer(localisation, family, (5, 7), supersampling=3).warp(images)
    expected = finer.view(2, 3, 5, 3, 7, 3).mean(dim=(3, 5))
    torch.testing.assert_close(output, expected)
    assert theta.shape == (2, len(family.identity))


def test_supersampling_at_the_identity_averages_every_pixel_of_a_larger_image():
    images = random_images(2, 1, 16, 24)
    transformer = SpatialTransformer(Constant(*AFFINE.identity), AFFINE, (8, 12), supersampling=2)
    torch.testing.assert_close(transformer(images), images.view(2, 1, 8, 2, 12, 2).mean(dim=(3, 5)))


def test_turning_on_a_canvas_that_is_not_square_keeps_shapes_undistorted():
    images = torch.zeros(1, 1, 8, 16)
    images[0, 0, 2:6, 6:10] = torch.arange(16.0).view(4, 4)
    turned = SpatialTransformer(Constant(math.pi / 2), ROTATION, (8, 16))(images)
    expected = torch.zeros_like(images)
    expected[0, 0, 2:6, 6:10] = torch.rot90(torch.arange(16.0).view(4, 4))
    assert torch.allclose(turned, expected, rtol=0, atol=1e-4)


def test_it_works_between_two_convolutions_and_gradients_pass_both_ways():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 6, 3),
        SpatialTransformer(tiny_localisation(AFFINE, channels=6), AFFINE, (9, 11)),
        nn.Conv2d(6, 4, 3),
    )
    output = network(random_images(2, 1, 24, 20))
    assert output.shape == (2, 4, 7, 9)
    output.square().sum().backward()
    assert network[0].weight.grad.abs().sum() > 0
    assert network[1].localisation[-1].weight.grad.abs().sum() > 0


def test_each_image_is_warped_by_its_own_theta():
    class Given(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean(dim=(1, 2, 3))[:, None] * 3

    images = random_images(4, 1, 10, 10) * torch.arange(1.0, 5)[:, None, None, None]
    transformer = SpatialTransformer(Given(), ROTATION, (10, 10))
    one_by_one = torch.cat([transformer(image[None]) for image in images])
    assert torch.allclose(transformer(images), one_by_one, rtol=0, atol=1e-6)


# --- keypoints ----------------------------------------------------------------------------------------------------


def test_a_keypoint_is_the_centre_of_the_one_pixel_that_stands_out():
    maps = torch.zeros(2, 3, 4, 5)
    maps[0, 1, 2, 3] = maps[1, 0, 0, 4] = 100
    x, y = SpatialSoftArgmax()(maps).view(2, 2, 3).unbind(1)
    flat = [0.0, 0.0]  # a map without a peak has its keypoint in the middle
    torch.testing.assert_close(torch.stack([x, y], 2)[0], torch.tensor([flat, [0.4, 0.25], flat]))
    torch.testing.assert_close(torch.stack([x, y], 2)[1], torch.tensor([[0.8, -0.75], flat, flat]))


def test_a_keypoint_moves_with_what_it_marks_and_does_not_see_how_bright_its_surroundings_are():
    torch.manual_seed(0)
    maps = torch.full((1, 1, 8, 10), -100.0)
    maps[0, 0, 2:5, 3:6] = torch.randn(3, 3)
    x, y = SpatialSoftArgmax()(maps)[0]
    moved_x, moved_y = SpatialSoftArgmax()(maps.roll((1, 2), (2, 3)))[0]
    torch.testing.assert_close(moved_x - x, torch.tensor(2 * 2 / 10))
    torch.testing.assert_close(moved_y - y, torch.tensor(2 / 8))
    torch.testing.assert_close(SpatialSoftArgmax()(maps + 7)[0], torch.stack([x, y]))
