"""Laws of the bent canvas: projective by its corners, elastic by control points; and what both clip."""

import numpy as np
import pytest
import torch
from made_up import draw_of, first, outline_of, spec_of
from numpy.typing import NDArray
from scipy.stats import kstest
from torch.nn import functional as F

from stn_train.data.datasets import render
from stn_train.data.distortion import distortion_family, homographies
from stn_train.geometry import PROJECTIVE, TPS, ThinPlateSpline

CORNERS = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
MANY = {"canvas": [64, 60], "rotation": 30, "scale": [0.7, 1.2], "translation": 0.5}


def corners_of(theta: torch.Tensor, canvas: tuple[int, int]) -> NDArray[np.float64]:
    """Where the corners of a canvas of the digit's size went, in its pixels: M x 4 x 2."""
    matrix = np.linalg.inv(PROJECTIVE.matrix(theta.double()).numpy())
    there = np.concatenate([CORNERS, np.ones((4, 1))], axis=1) @ matrix.transpose(0, 2, 1)
    return (there[..., :2] / there[..., 2:] + 1) * (canvas[1] / 2, canvas[0] / 2)


def test_each_coordinate_of_each_corner_moves_by_a_normal_of_its_spread(real_digits):
    digits = first(real_digits[0], 500, repeats=20)
    drawn = draw_of(spec_of(perspective={"std": 3}), digits)
    moves = corners_of(drawn.theta, (28, 28)) - (CORNERS + 1) * 14
    assert moves.shape == (10_000, 4, 2)
    for corner in range(4):
        for axis in range(2):
            assert kstest(moves[:, corner, axis] / 3, "norm").pvalue > 0.01
    assert np.abs(np.corrcoef(moves.reshape(-1, 8).T) - np.eye(8)).max() < 0.04


def test_each_coordinate_of_each_control_point_moves_by_a_normal_of_its_spread(real_digits):
    digits = first(real_digits[0], 500, repeats=20)
    drawn = draw_of(spec_of(elastic={"std": 1.5}), digits)
    moves = (drawn.theta.double().numpy() - np.array(TPS.identity)) * 14
    assert moves.shape == (10_000, 32)
    assert all(kstest(column / 1.5, "norm").pvalue > 1e-3 for column in moves.T)
    assert kstest(moves.ravel() / 1.5, "norm").pvalue > 0.01
    assert np.abs(np.corrcoef(moves.T) - np.eye(32)).max() < 0.05


@pytest.mark.parametrize("preset", ["p", "p_literal", "e"])
def test_the_papers_scale_is_drawn_as_well(real_digits, preset):
    drawn = draw_of(spec_of(preset), first(real_digits[0], 500, repeats=20))
    assert kstest(drawn.scale, "uniform", args=(0.75, 0.25)).pvalue > 0.01


@pytest.mark.parametrize("bend", [{"perspective": {"std": 0}}, {"elastic": {"std": 0}}], ids=["perspective", "elastic"])
def test_a_canvas_that_is_not_bent_leaves_the_pose(real_digits, bend):
    digits, every = first(real_digits[0], 50), torch.arange(50)
    straight, bent = spec_of(**MANY), spec_of(**MANY, **bend)
    before = render(straight, digits, (draw_of(straight, digits),), every)
    after = render(bent, digits, (draw_of(bent, digits),), every)
    assert torch.allclose(before, after, rtol=0, atol=1e-4)


@pytest.mark.parametrize("bend", [{"perspective": {"std": 4}}, {"elastic": {"std": 2}}], ids=["perspective", "elastic"])
def test_the_pose_comes_first_and_then_the_bend(real_digits, bend):
    """The same bend after another pose: its map from canvas to canvas, found with no pose, goes before the pose's."""
    digits = first(real_digits[0], 50)
    posed, bent = draw_of(spec_of(**MANY), digits), draw_of(spec_of(**MANY, **bend), digits)
    alone = draw_of(spec_of(canvas=[64, 60], **bend), digits)
    plain = draw_of(spec_of(canvas=[64, 60]), digits)
    family = distortion_family(spec_of(**bend))
    points = torch.rand(50, 20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1

    def linear(drawn: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        matrix = drawn.double().view(-1, 2, 3)
        return at @ matrix[:, :, :2].mT + matrix[:, None, :, 2]

    in_digit = family.points(alone.theta.double(), points, 60 / 64)
    size = plain.theta[:, [0, 4]].double()[:, None]
    on_canvas = in_digit / size  # the plain pose only divides by the canvas's size
    expected = linear(posed.theta, on_canvas)
    assert torch.allclose(family.points(bent.theta.double(), points, 60 / 64), expected, rtol=0, atol=1e-4)


def test_a_trapezium_worked_by_hand():
    """The upper corners come together to half the width, as if the canvas's top leant backwards."""
    matrix = homographies(np.array([[[-0.5, -1.0], [0.5, -1.0], [1.0, 1.0], [-1.0, 1.0]]]))[0]
    assert np.allclose(matrix, np.array([[4, 0, 0], [0, 3, 1], [0, 1, 3]]) / 3, rtol=0, atol=1e-12)


def test_outwards_every_corner_moves_as_far_but_away_from_the_middle(real_digits):
    digits = first(real_digits[0], 300)
    both, out = (draw_of(spec_of(perspective={"std": 5, "direction": way}), digits) for way in ("any", "outward"))
    moves, away = (corners_of(drawn.theta, (28, 28)) - (CORNERS + 1) * 14 for drawn in (both, out))
    assert np.allclose(away, np.sign(CORNERS) * np.abs(moves), rtol=0, atol=1e-3)
    assert (moves * CORNERS < 0).mean() == pytest.approx(0.5, abs=0.05)


def test_along_the_diagonal_every_corner_moves_to_or_from_the_middle_by_one_normal(real_digits):
    drawn = draw_of(spec_of(perspective={"std": 5, "direction": "diagonal"}), first(real_digits[0], 1000))
    outwards = (corners_of(drawn.theta, (28, 28)) - (CORNERS + 1) * 14) * CORNERS
    assert np.allclose(outwards[:, :, 0], outwards[:, :, 1], rtol=0, atol=1e-2)
    along = outwards[:, :, 0] * np.sqrt(2)
    assert along.mean() == pytest.approx(0, abs=0.3)
    assert along.std() == pytest.approx(5, abs=0.25)


def test_an_images_bend_does_not_depend_on_how_many_are_drawn(real_digits):
    for bend in ({"perspective": {"std": 9}}, {"elastic": {"std": 1.5}}):
        once, thrice = (draw_of(spec_of(**bend), first(real_digits[0], 40, repeats)) for repeats in (1, 3))
        assert torch.equal(once.theta[:10], thrice.theta[:10])


@pytest.mark.parametrize("spec", [spec_of("p_outward"), spec_of(elastic={"std": 2})], ids=["perspective", "elastic"])
def test_what_is_clipped_is_what_a_wider_canvas_still_shows(real_digits, spec):
    """Sampled by hand on a canvas five times as wide and high, in whose middle is the real one.

    Where each inked pixel's centre came to lie is the point there that is read nearest to it, half a pixel off at most
    along each axis; where a map does not fold, there is but one.
    """
    digits = first(real_digits[0], 200)
    drawn = draw_of(spec, digits)
    family, theta = distortion_family(spec), drawn.theta.double()
    centres = torch.arange(140, dtype=torch.float64) - 56
    wide = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1).view(-1, 2)
    read = family.points(theta, (2 * wide + 1) / 28 - 1)
    ink = torch.from_numpy(digits.ink[drawn.digit.numpy()]) / 14
    there = torch.stack([wide[torch.cdist(*pair).argmin(dim=1)] for pair in zip(ink, read, strict=True)])
    reach = torch.stack([-there.amin(dim=(1, 2)), there.amax(dim=(1, 2)) - 27]).amax(dim=0)
    unfolded = ~family.folds(theta, (28, 28)) if isinstance(family, ThinPlateSpline) else torch.ones(200, dtype=bool)
    lies = outline_of(spec, digits, drawn)
    clipped = torch.from_numpy(lies.clipped)
    assert 0.01 < clipped.double().mean() < 0.6
    assert (unfolded & clipped).sum() > 5
    assert clipped[unfolded & (reach > 0.5)].all()
    assert not clipped[unfolded & (reach < -0.5)].any()
    images = F.grid_sample(digits.images.double(), read.view(200, 140, 140, 2), align_corners=False)[:, 0]
    outside = images.sum(dim=(1, 2)) - images[:, 56:84, 56:84].sum(dim=(1, 2))
    far = torch.from_numpy(((lies.ink < -1) | (lies.ink > 28)).any(axis=1))
    assert 0 < far.sum() < clipped.sum()
    assert outside[far].min() > 0
