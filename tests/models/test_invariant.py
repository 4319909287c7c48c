"""Classifiers that one would use in place of a transformer: what turning an image does to each, by construction."""

import math

import pytest
import torch
from torch import Tensor, nn

from stn_train.data.sources import load_images
from stn_train.errors import UserError
from stn_train.evaluation.classify import rotated_images
from stn_train.geometry import AFFINE, ROTATION, SIMILARITY
from stn_train.models.classifiers import CLASSIFIERS
from stn_train.models.invariant import INVARIANT, TURNS, PolarImage, TransformationInvariantPooling, circular_harmonics
from stn_train.models.localisation import moments
from stn_train.models.network import measure_model
from stn_train.specs import ModelSpec

TURNING = ("group_cnn", "ti_pooling", "polar_cnn")
EVERY = (*TURNING, "vit")


def network(name: str, size: tuple[int, int] = (28, 28), channels: int = 1) -> nn.Module:
    """A small classifier whose weights are random, in float64 and at rest; its normalisation has seen blobs."""
    torch.manual_seed(0)
    made = (CLASSIFIERS | INVARIANT)[name](size=size, channels=channels, classes=10, width=6.0).double()
    return settled(made, blobs(0.5, size).expand(-1, channels, -1, -1))


def settled(made: nn.Module, images: Tensor) -> nn.Module:
    for module in made.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    with torch.no_grad():
        made.train()(images)
    return made.eval()


def blobs(turn: float, size: tuple[int, int] = (28, 28), count: int = 32) -> Tensor:
    """Images of six Gaussian blobs each, N x 1 x H x W, drawn as turned clockwise by so many radians."""
    draw = torch.Generator().manual_seed(3)
    radius, angle = torch.rand(2, count, 6, 1, 1, generator=draw, dtype=torch.float64) * 2 * math.pi
    y, x = torch.meshgrid(*[torch.arange(side, dtype=torch.float64) - (side - 1) / 2 for side in size], indexing="ij")
    apart = (x - radius * (angle + turn).cos()).square() + (y - radius * (angle + turn).sin()).square()
    return (-apart / (2 * 1.5**2)).exp().sum(dim=1, keepdim=True)


@torch.no_grad()
@pytest.mark.parametrize("size", [28, 33, 42, 60])
@pytest.mark.parametrize("name", TURNING)
def test_a_turn_by_90_degrees_changes_no_logit(name, size):
    images = torch.rand(3, 2, size, size, dtype=torch.float64)
    answers = network(name, (size, size), channels=2)
    logits = answers(images)
    assert logits.std(dim=0).min() > 1e-3
    for quarters in (1, 2, 3):
        torch.testing.assert_close(answers(images.rot90(quarters, (2, 3))), logits, rtol=0, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_a_turn_changes_the_logits_of_others(name):
    images = torch.rand(3, 1, 28, 28, dtype=torch.float64)
    answers = network(name)
    assert (answers(images.rot90(1, (2, 3))) - answers(images)).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("name", TURNING)
def test_where_images_are_not_square_they_answer_too(name):
    assert network(name, (28, 40), channels=3)(torch.rand(2, 3, 28, 40, dtype=torch.float64)).shape == (2, 10)


# --- the group CNN ------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("size", [28, 42])
def test_group_maps_of_an_image_turned_by_90_degrees_are_turned_and_their_turns_shifted_by_two(size):
    maps = turned = torch.rand(2, 1, size, size, dtype=torch.float64)
    turned = turned.rot90(-1, (2, 3))  # clockwise
    for layer in list(network("group_cnn", (size, size)))[:4]:
        maps, turned = layer(maps), layer(turned)
        expected = maps.rot90(-1, (2, 3)).unflatten(1, (TURNS, -1)).roll(2, 1).flatten(1, 2)
        assert not torch.allclose(turned, maps)
        torch.testing.assert_close(turned, expected, rtol=0, atol=1e-10)


def changed(before: Tensor, after: Tensor) -> float:
    """How far feature maps differ in their means over places, as a share of how far those of different images do."""
    one, other = (maps.mean(dim=(-2, -1)) for maps in (before, after))
    return float((one - other).norm() / (one - one.mean(dim=0)).norm())


@torch.no_grad()
def test_group_maps_of_an_image_turned_by_45_degrees_have_their_turns_shifted_by_one_far_more_than_a_cnns_stay():
    maps, turned = blobs(0), blobs(math.pi / 4)
    before, after = maps, turned
    for ours, theirs, most in zip(network("group_cnn"), network("cnn"), (0.1, 0.3, 0.3), strict=False):
        maps, turned = ours(maps), ours(turned)
        before, after = theirs(before), theirs(after)
        shifted = maps.unflatten(1, (TURNS, -1)).roll(1, 1)
        missed = changed(shifted, turned.unflatten(1, (TURNS, -1)))
        assert missed < most
        assert missed < changed(before, after) / 3


@pytest.mark.parametrize("side", [5, 7])
def test_filters_answer_alike_to_slopes_and_curves_that_turn_with_them(side):
    """To each polynomial up to the fourth degree, at each of the 8 turns."""
    reach = side // 2
    y, x = torch.meshgrid(*[torch.arange(-reach, reach + 1.0, dtype=torch.float64)] * 2, indexing="ij")
    answers = []
    for turn, waves in enumerate(torch.tensor(circular_harmonics(side))):
        cos, sin = math.cos(turn * math.pi / 4), math.sin(turn * math.pi / 4)
        u, v = x * cos + y * sin, y * cos - x * sin
        terms = torch.stack([u**i * v**j for i in range(5) for j in range(5 - i)])
        answers.append(torch.einsum("wyx,tyx->wt", waves, terms))
    torch.testing.assert_close(torch.stack(answers[1:]), answers[0].expand(7, -1, -1), rtol=0, atol=1e-10)


# --- TI-pooling and the polar CNN ---------------------------------------------------------------------------------


@torch.no_grad()
def test_ti_pooling_takes_the_highest_of_each_feature_over_copies_turned_by_45_degrees():
    images = torch.rand(2, 1, 28, 28)
    pooled = TransformationInvariantPooling(nn.Flatten(), nn.Identity())(images)
    copies = torch.stack([rotated_images(images, 45 * turn) for turn in range(TURNS)])
    torch.testing.assert_close(pooled, copies.amax(dim=0).flatten(1))


@torch.no_grad()
@pytest.mark.parametrize("bins", [1, 5, -14])
def test_a_polar_image_shifted_along_its_angle_has_the_same_logits(bins):
    image, *rest = network("polar_cnn")
    assert isinstance(image, PolarImage)
    polar = image(torch.rand(3, 1, 28, 28, dtype=torch.float64))
    read = nn.Sequential(*rest)
    torch.testing.assert_close(read(polar.roll(bins, 3)), read(polar), rtol=0, atol=1e-10)


@torch.no_grad()
def test_a_turned_image_is_a_polar_image_shifted():
    polar = PolarImage((28, 28))
    before, after = polar(blobs(0)), polar(blobs(3 * 2 * math.pi / polar.angles))
    assert (after - before.roll(3, 3)).abs().max() < 0.1 * before.max()
    assert (after - before.roll(-3, 3)).abs().max() > 0.3 * before.max()


# --- the vision transformer ---------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_vision_transformer_knows_where_patches_lie_by_their_learnt_positions_alone():
    answers = network("vit")
    images = torch.rand(2, 1, 28, 28, dtype=torch.float64)
    patches = images.unfold(2, 4, 4).unfold(3, 4, 4).flatten(2, 3)
    swapped = patches[:, :, torch.arange(49).flip(0)].unflatten(2, (7, 7)).transpose(3, 4).flatten(4).flatten(2, 3)
    swapped = swapped.view(2, 1, 28, 28)
    assert (answers(swapped) - answers(images)).abs().max() > 1e-4
    answers.positions.zero_()
    torch.testing.assert_close(answers(swapped), answers(images), rtol=0, atol=1e-10)


# --- the pose without learning ------------------------------------------------------------------------------------


def angle(theta: Tensor) -> Tensor:
    return torch.rad2deg(torch.atan2(theta[:, 1], theta[:, 0]))


def test_the_pose_by_moments_turns_moves_and_grows_with_the_image():
    localise = moments(SIMILARITY, (60, 60), 1)
    assert not list(localise.parameters())
    images = blobs(0, (60, 60))
    before = localise(images)
    for turn in (0.4, math.pi / 2, 2.5, -1.9):
        after = localise(blobs(turn, (60, 60)))
        missed = torch.remainder(angle(after) - angle(before) - math.degrees(turn) + 180, 360) - 180
        assert missed.abs().max() < 0.1
        torch.testing.assert_close(after[:, :2].norm(dim=1), before[:, :2].norm(dim=1), rtol=1e-3, atol=0)
    moved = localise(images.roll((3, -5), (2, 3)))
    torch.testing.assert_close(moved[:, :2], before[:, :2], rtol=0, atol=1e-6)
    torch.testing.assert_close(moved[:, 2:] - before[:, 2:], before.new_tensor([-10 / 60, 6 / 60]).expand(32, -1))
    smaller = localise(nn.functional.pad(images, [30] * 4))  # a canvas of twice the height: theta's unit is half of it
    torch.testing.assert_close(smaller, before / 2)


def test_the_rotation_by_moments_is_the_angle_of_the_similarity():
    images = blobs(0.7, (60, 60))
    as_similarity, as_rotation = (moments(family, (60, 60), 1)(images) for family in (SIMILARITY, ROTATION))
    assert as_rotation.shape == (len(images), 1)
    assert (
        torch.remainder(torch.rad2deg(as_rotation[:, 0]) - angle(as_similarity) + 180, 360).sub(180).abs().max() < 1e-3
    )


def test_the_pose_by_moments_is_finite_without_ink_and_not_for_every_family():
    assert torch.isfinite(moments(SIMILARITY, (28, 28), 1)(torch.zeros(2, 1, 28, 28))).all()
    with pytest.raises(UserError, match="similarities"):
        moments(AFFINE, (28, 28), 1)


# --- all of them --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_each_learns_in_bfloat16_on_canvases_of_all_kinds(name):
    _, test = load_images("digits")
    for size, channels in ((28, 1), (42, 2), (60, 3)):
        torch.manual_seed(0)
        made = (CLASSIFIERS | INVARIANT)[name](size=(size, size), channels=channels, classes=10, width=6.0)
        optimizer = torch.optim.AdamW(made.parameters(), lr=0.003)
        images = nn.functional.pad(test.images[:32].float() / 255, [(size - 28) // 2] * 4).expand(-1, channels, -1, -1)
        losses = []
        for _ in range(6):
            with torch.autocast("cpu", torch.bfloat16):
                loss = nn.functional.cross_entropy(made(images).float(), test.labels[:32])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < losses[0]


@pytest.mark.parametrize("budget", [100_000, 400_000])
@pytest.mark.parametrize("name", EVERY)
def test_each_meets_the_usual_budgets_also_behind_a_transformer(name, budget):
    spec = ModelSpec.model_validate({"name": "it", "classifier": name, "transformer": {}})
    for model in (ModelSpec.model_validate(name), spec):
        for size in ((28, 28), (60, 60)):
            assert abs(measure_model(model, size, budget).parameters - budget) <= 0.02 * budget
