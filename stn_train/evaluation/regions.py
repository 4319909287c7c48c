"""Does a transformer find the digit? The region that it samples against the digit's frame, in the digit's own pixels.

Seen from the digit, its frame is an upright square of 28 x 28 pixels, and a sampled region is a polygon, whatever the
distortion was. Where the maps are affine, regions overlap as much there as on the canvas.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stn_train.evaluation.alignment import PoseResidual, canonical, is_singular, unshrunk
from stn_train.evaluation.metrics import Overlap
from stn_train.evaluation.warps import edge
from stn_train.geometry import pixel_grid
from stn_train.specs import DIGIT

_FOUND = 0.5
_BENT = 16
_CHUNK = 500


@dataclass(frozen=True)
class Regions:
    """Of M images, each M: the overlap (IoU) of the sampled region with the digit's frame, `raw` and `aligned` (once
    the common pose is taken off), and the share of the digit's `ink` that it covers."""

    raw: Tensor
    aligned: Tensor
    ink: Tensor

    def summary(self, index: Tensor) -> Overlap:
        """Of the images of these numbers, of which there is at least one."""
        raw, aligned = self.raw[index], self.aligned[index]
        return Overlap(
            images=len(raw),
            iou=float(raw.mean()),
            iou_found=float((raw > _FOUND).double().mean()),
            aligned=float(aligned.mean()),
            aligned_found=float((aligned > _FOUND).double().mean()),
            ink=float(self.ink[index].mean()),
        )


def regions(residual: PoseResidual, sources: Tensor, digit: Tensor) -> Regions:
    """What a transformer samples of M images, which show the `digit` (M) -th of `sources` (N x 28 x 28, uint8)."""
    sides = edge(residual.distortion.theta, 1 if residual.keeps_lines else _BENT)
    frame = pixel_grid((DIGIT, DIGIT), sides).flatten(0, 1) * (DIGIT / 2)
    polygon = residual.on_digit(sides)
    covered = inside(polygon, frame)
    ink = sources.flatten(1).double()[digit]
    poses = residual.poses()
    aligned = torch.zeros(len(residual), dtype=torch.float64)
    if not is_singular(canonical(poses)):
        home = torch.linalg.inv(unshrunk(poses))  # from the digit's pixels to where the output shows them in the mean
        held = residual.on_digit(sides * (DIGIT / 2) @ home[:2, :2].mT + home[:2, 2])
        aligned = _iou(held, inside(held, frame))
    return Regions(_iou(polygon, covered), aligned, (ink * covered).sum(dim=1) / ink.sum(dim=1).clamp(min=1))


def _iou(polygon: Tensor, covered: Tensor) -> Tensor:
    """Of polygons, M x V x 2, with the digit's frame, of whose pixels `covered` (M x 784) lie inside."""
    shared = covered.sum(dim=1)
    return shared / (DIGIT**2 + torch.maximum(area(polygon), shared) - shared)


def area(polygon: Tensor) -> Tensor:
    """The areas, M, of polygons that do not cross themselves, M x V x 2."""
    (x, y), (next_x, next_y) = polygon.unbind(-1), polygon.roll(-1, dims=1).unbind(-1)
    return (x * next_y - next_x * y).sum(dim=1).abs() / 2


def inside(polygon: Tensor, points: Tensor) -> Tensor:
    """Whether points, P x 2, lie inside polygons, M x V x 2, by the even-odd rule: M x P, bool."""
    return torch.cat([_inside(some, points) for some in polygon.split(_CHUNK)])


def _inside(polygon: Tensor, points: Tensor) -> Tensor:
    """A ray to the right from a point that is inside crosses an odd number of sides."""
    x, y = points.unbind(-1)
    odd = torch.zeros(len(polygon), len(points), dtype=torch.bool)
    for start, end in zip(polygon.unbind(1), polygon.roll(-1, dims=1).unbind(1), strict=True):
        (from_x, from_y), (to_x, to_y) = start[:, :, None].unbind(1), end[:, :, None].unbind(1)
        crossing = from_x + (to_x - from_x) * (y - from_y) / (to_y - from_y)
        odd ^= ((from_y > y) != (to_y > y)) & (x < crossing)
    return odd
