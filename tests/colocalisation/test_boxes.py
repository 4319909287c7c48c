"""Boxes: where a crop lies, and how far two overlap."""

import math

import pytest
import torch

from stn_train.colocalisation.images import crop_boxes, frame_boxes, overlap


@pytest.fixture
def boxes() -> torch.Tensor:
    corner = torch.rand(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    side = torch.rand(50, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.1
    return torch.cat([corner, corner + side], dim=1)


def test_a_box_overlaps_itself_wholly(boxes):
    assert torch.allclose(overlap(boxes, boxes), torch.ones(50, dtype=torch.float64))


def test_overlap_is_symmetric_and_a_share(boxes):
    others = boxes.flip(0)
    assert torch.equal(overlap(boxes, others), overlap(others, boxes))
    assert ((overlap(boxes, others) >= 0) & (overlap(boxes, others) <= 1)).all()


def test_disjoint_and_touching_boxes_do_not_overlap():
    box = torch.tensor([[0.0, 0, 1, 1]] * 4)
    others = torch.tensor([[2.0, 0, 3, 1], [0, -2, 1, -1], [2, 2, 3, 3], [1, 0, 2, 1]])
    assert overlap(box, others).tolist() == [0, 0, 0, 0]


def test_overlap_by_hand():
    # 4 x 4 and 4 x 2, sharing 3 x 1: 3 of 16 + 8 - 3; and one inside the other: 4 of 16
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4]])
    others = torch.tensor([[1.0, 3, 5, 5], [1, 1, 3, 3]])
    assert overlap(boxes, others).tolist() == pytest.approx([3 / 21, 4 / 16])


def test_overlap_does_not_depend_on_the_frame(boxes):
    others = boxes.flip(0)
    scale, move = torch.tensor([3.0, 5, 3, 5]), torch.tensor([7.0, -2, 7, -2])
    assert torch.allclose(overlap(boxes * scale + move, others * scale + move), overlap(boxes, others))


def test_the_box_of_a_crop_by_hand():
    # half as large as the canvas, its centre a quarter to the right and half-way up; a negative s only mirrors
    theta = torch.tensor([[0.5, 0.25, -0.5], [-0.5, 0.25, -0.5], [1.0, 0.0, 0.0]])
    expected = torch.tensor([[-0.25, -1.0, 0.75, 0.0]] * 2 + [[-1.0, -1.0, 1.0, 1.0]])
    assert torch.allclose(crop_boxes(theta), expected)


def test_the_box_of_a_frame_by_hand():
    # on 84 x 56 pixels (H x W), a frame whose centre is 14 pixels right of, and 28 above, the canvas's
    box = frame_boxes(torch.tensor([[14.0, -28.0]]), (84, 56))
    assert torch.allclose(box, torch.tensor([[0.0, -1.0, 1.0, -1 / 3]]))


def test_the_crop_that_undoes_the_shift_is_the_frame():
    shift = torch.tensor([[10.0, -5.0], [-28.0, 3.0]])
    theta = torch.cat([torch.full((2, 1), 28 / 84), shift / 42], dim=1)
    boxes = frame_boxes(shift, (84, 84))
    assert torch.allclose(overlap(crop_boxes(theta), boxes), torch.ones(2))
    # moved by d pixels along one axis, 28 - d of 28 + d are shared
    aside = theta + torch.tensor([0, 4 / 42, 0])
    assert torch.allclose(overlap(crop_boxes(aside), boxes), torch.full((2,), 24 / 32))
    assert math.isclose(float(overlap(boxes, boxes[:1])[0]), 1.0, rel_tol=1e-6)
