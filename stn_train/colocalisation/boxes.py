"""Boxes and how far they overlap. A box is (x_min, y_min, x_max, y_max), in any one frame; N boxes are N x 4."""

import torch
from torch import Tensor

from stn_train.geometry import ATTENTION
from stn_train.specs import DIGIT


def crop_boxes(theta: Tensor) -> Tensor:
    """What an attention transformer reads: the boxes, N x 4 in normalised coordinates, for theta, N x 3."""
    corners = ATTENTION.points(theta, theta.new_tensor([[-1.0, -1.0], [1.0, 1.0]]))
    return torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)


def frame_boxes(shift: Tensor, canvas: tuple[int, int]) -> Tensor:
    """The frames of digits that were moved and nothing else: N x 4 in normalised coordinates of the canvas (H, W).

    `shift` (N x 2) is the frame's centre in pixels from the canvas's, (x, y). A frame can leave the canvas.
    """
    half = shift.new_tensor([canvas[1], canvas[0]]) / 2
    return torch.cat([shift - DIGIT / 2, shift + DIGIT / 2], dim=1) / torch.cat([half, half])


def overlap(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union, N, of boxes with others, both N x 4 and of a positive area."""
    sides = torch.minimum(boxes[:, 2:], others[:, 2:]) - torch.maximum(boxes[:, :2], others[:, :2])
    shared = sides.clamp(min=0).prod(dim=1)
    return shared / (_areas(boxes) + _areas(others) - shared)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
