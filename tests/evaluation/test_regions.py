"""Regions: how much of a digit's frame, and of its ink, a transformer samples."""

import pytest
import torch
from torch import Tensor

from stn_train.colocalisation.images import crop_boxes, frame_boxes, overlap
from stn_train.evaluation.alignment import Map, frame_overlap, regions
from stn_train.geometry import (
    AFFINE,
    ATTENTION,
    HOMOGRAPHY,
    PROJECTIVE,
    ROTATION,
    TPS,
    TRANSLATION,
    MatrixFamily,
)

COUNT = 40
CANVAS = (56, 56)
SQUARE = 1.0
"""Width over height of what is read."""


def some(family, spread: float, seed: int = 0) -> Tensor:
    noise = torch.randn(COUNT, len(family.identity), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.tensor(family.identity, dtype=torch.float64) + spread * noise


def inverse(family: MatrixFamily, theta: Tensor) -> Map:
    return Map(HOMOGRAPHY, torch.linalg.inv(family.matrix(theta)).flatten(1), SQUARE)


def sources() -> Tensor:
    return torch.randint(0, 256, (COUNT, 1, 28, 28), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)


def every(maps: list[Map]) -> tuple[Tensor, Tensor, Tensor]:
    """The overlap with the frame, as it is and aligned, and the share of the ink, of a digit an image."""
    return regions(maps, sources(), torch.arange(COUNT))


def ones() -> Tensor:
    return torch.ones(COUNT, dtype=torch.float64)


@pytest.mark.parametrize("family", [AFFINE, PROJECTIVE], ids=lambda family: family.name)
def test_the_frame_itself_is_covered_wholly(family):
    theta = some(family, 0.05)
    found = every([Map(family, theta, SQUARE), inverse(family, theta)])
    for share in found:
        torch.testing.assert_close(share, ones(), atol=1e-2, rtol=0)


def test_a_common_pose_lowers_the_raw_overlap_and_not_the_aligned_one():
    theta = some(AFFINE, 0.05)
    zoom = Map(ATTENTION, torch.tensor([[0.5, 0.1, -0.2]], dtype=torch.float64).expand(COUNT, 3), SQUARE)
    raw, aligned, _ = every([Map(AFFINE, theta, SQUARE), inverse(AFFINE, theta), zoom])
    torch.testing.assert_close(raw, 0.25 * ones(), atol=0.01, rtol=0)
    torch.testing.assert_close(aligned, ones(), atol=1e-3, rtol=0)


def test_digits_that_stay_turned_do_not_make_the_aligned_region_larger():
    """The identity on digits turned by up to 60 degrees: the overlap is that of a square and a turned one."""
    angle = torch.linspace(-1.05, 1.05, COUNT, dtype=torch.float64)[:, None]
    still = Map(TRANSLATION, torch.zeros(COUNT, 2, dtype=torch.float64), SQUARE)
    raw, aligned, _ = every([Map(ROTATION, angle, SQUARE), still])
    torch.testing.assert_close(aligned, raw, atol=0.02, rtol=0)


def test_raw_is_the_overlap_of_boxes_where_digits_are_moved_and_crops_upright():
    """Against another way to compute it, on the canvas."""
    shift = torch.randint(-12, 13, (COUNT, 2), generator=torch.Generator().manual_seed(0)).double()
    done = torch.cat([2 * ones()[:, None], -shift / 14], 1)  # canvas, 28 pixels to a unit, to the frame, 14 to a unit
    crops = torch.cat([0.5 * ones()[:, None], (shift.flip(0) / 28)], 1)
    raw, _, _ = every([Map(ATTENTION, done, SQUARE), Map(ATTENTION, crops, SQUARE)])
    expected = overlap(crop_boxes(crops), frame_boxes(shift, CANVAS))
    assert 0 < expected.min() < 0.5 < expected.max()
    torch.testing.assert_close(raw, expected)


def test_ink_is_the_share_of_the_digits_own_ink():
    left = Map(AFFINE, torch.tensor([[0.5, 0, -0.5, 0, 1, 0]], dtype=torch.float64).expand(COUNT, 6), SQUARE)
    raw, _, ink = every([Map(TRANSLATION, 0 * some(TRANSLATION, 0), SQUARE), left])
    pixels = sources().double()
    torch.testing.assert_close(ink, pixels[:, 0, :, :14].sum((1, 2)) / pixels.sum((1, 2, 3)))
    torch.testing.assert_close(raw, 0.5 * ones())


def test_bent_regions_have_bent_sides():
    """A spline moves the middle of each side inwards and leaves the corners: four corners alone would miss it."""
    theta = TPS.points_of(0 * some(TPS, 0) + torch.tensor(TPS.identity, dtype=torch.float64)).clone()
    on_edge = theta.abs().amax(-1) > 0.99
    corner = theta.abs().amin(-1) > 0.99
    theta[on_edge & ~corner] *= 0.7
    still = Map(TRANSLATION, torch.zeros(COUNT, 2, dtype=torch.float64), SQUARE)
    raw, _, _ = every([still, Map(TPS, theta.flatten(1), SQUARE)])
    fine = TPS.points(theta.flatten(1)[:1], edge_points(400), 1.0) * 14
    (x, y), (next_x, next_y) = fine[0].T, fine[0].roll(-1, dims=0).T
    area = (x * next_y - next_x * y).sum().abs() / 2
    torch.testing.assert_close(raw[0], area / 784, atol=0.02, rtol=0)  # the raster is one of pixels
    assert float(raw[0]) < 0.8


def edge_points(steps: int) -> Tensor:
    along = torch.linspace(-1, 1, steps + 1, dtype=torch.float64)[:-1]
    top = torch.stack([along, -torch.ones_like(along)], 1)
    right = torch.stack([-top[:, 1], top[:, 0]], 1)
    return torch.cat([top, right, -top, -right])


def test_a_region_elsewhere_holds_nothing():
    far = Map(TRANSLATION, torch.full((COUNT, 2), 5.0, dtype=torch.float64), SQUARE)
    raw, _, ink = every([Map(TRANSLATION, 0 * some(TRANSLATION, 0), SQUARE), far])
    assert not raw.any()
    assert not ink.any()


def test_a_dot_holds_no_frame():
    dot = Map(ATTENTION, torch.zeros(COUNT, 3, dtype=torch.float64), SQUARE)
    raw, aligned, _ = every([Map(TRANSLATION, 0 * some(TRANSLATION, 0), SQUARE), dot])
    assert not aligned.any()
    assert not raw.any()


def test_inside_and_overlap_of_a_polygon_by_hand():
    # an L, clockwise: 4 x 4 without its upper right 2 x 2
    ell = torch.tensor([[[0.0, 0], [2, 0], [2, 2], [4, 2], [4, 4], [0, 4]]], dtype=torch.float64)
    expected = torch.ones(28, 28, dtype=torch.bool)
    expected[:14, 14:] = False
    for polygon in (ell, ell.flip(1)):  # either way round
        overlap_with_frame, inside = frame_overlap((polygon - 2) * 7)  # the frame without its upper right quarter
        assert torch.equal(inside.view(28, 28), expected)
        assert overlap_with_frame.tolist() == [0.75]
