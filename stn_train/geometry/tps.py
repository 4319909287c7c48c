"""Thin plate splines: the smoothest maps that send a regular grid of control points where theta says."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn_train.geometry.families import Family, pixel_grid, precise

Array = NDArray[np.float64]

_NEWTON_STEPS = 30
_CLOSE = 1e-9
_FOUND = 1e-4
_HALVINGS = 8
_TINY = 1e-20


@dataclass(frozen=True)
class ThinPlateSpline(Family):
    """theta = where the n x n control points of the target go in the source, (x, y) by (x, y) and row by row.

    The control points lie regularly on the target, from edge to edge (-1 to 1). Between them the map bends least
    (Bookstein 1989; paper, section 3.2); distances are measured with the same unit along both axes. The map is linear
    in theta: each point's place is a weighted sum of the control points', with weights that do not depend on theta.
    """

    control_points: int

    @precise
    def points(self, theta: Tensor, target: Tensor, aspect: float = 1.0) -> Tensor:
        """See Family."""
        away = (target[..., None, :] - _control_grid(self.control_points, target)) * target.new_tensor([aspect, 1.0])
        squared = _squared_length(away)
        radial = squared * squared.clamp(min=_TINY).log()
        solution = torch.from_numpy(_solution(self.control_points, aspect)).to(target)
        # How much each control point has to say at each target point, (N x) M x n²; sums to 1 at each.
        weights = torch.cat([radial, _with_one(target)], dim=-1) @ solution
        return weights @ self.points_of(theta)

    @precise
    def grid(self, theta: Tensor, size: tuple[int, int], aspect: float = 1.0) -> Tensor:
        """See Family. The weights of a size are computed once.

        A product of its own for each map, so that rounding does not depend on the batch; it gives planes of x and y.
        """
        weights = torch.from_numpy(_grid_weights(self.control_points, size, aspect))
        weights = weights.to(theta.device, theta.dtype, non_blocking=True)
        planes = torch.bmm(self.points_of(theta).mT, weights.mT.expand(theta.shape[0], -1, -1))
        grid: Tensor = planes.unflatten(2, size).movedim(1, -1)
        return grid

    def points_of(self, theta: Tensor) -> Tensor:
        """Theta, N x p, as points: N x n² x 2."""
        return theta.view(-1, self.control_points**2, 2)

    @precise
    def jacobian(self, theta: Tensor, target: Tensor, aspect: float = 1.0) -> Tensor:
        """The derivatives of source (rows: x, y) with respect to target (columns), N x M x 2 x 2, at M x 2 or N x M x 2
        points: by their own formula, not by autograd."""
        away = target[..., None, :] - _control_grid(self.control_points, target)
        unit = away.new_tensor([aspect, 1.0])
        squared = _squared_length(away * unit)[..., None]
        radial = 2 * away * unit**2 * (squared.clamp(min=_TINY).log() + 1)
        affine = torch.eye(3, dtype=away.dtype, device=away.device)[:, 1:].expand(*target.shape[:-1], 3, 2)
        slopes = torch.cat([radial, affine], dim=-2)
        solution = torch.from_numpy(_solution(self.control_points, aspect)).to(slopes)
        return (slopes.mT @ solution @ self.points_of(theta)[:, None]).mT

    @precise
    def folds(self, theta: Tensor, size: tuple[int, int], aspect: float = 1.0) -> Tensor:
        """Whether each map folds (N, bool): turns some pixel of an output of this size inside out, or flattens it.

        So does a mirror image at every pixel; what folds only here and there has no inverse.
        """
        determinant = torch.linalg.det(self.jacobian(theta, pixel_grid(size, theta).flatten(0, 1), aspect))
        folded: Tensor = (determinant <= 0).any(dim=1)
        return folded

    @precise
    def inverse_points(self, theta: Tensor, source: Tensor, aspect: float = 1.0) -> Tensor:
        """The target points, N x M x 2, that the maps send to `source`, M x 2 or N x M x 2; NaN where none was found.

        By Newton's method from the inverse of the affine map nearest to the spline, with steps halved until they lead
        closer: finds the only one where the map does not fold, one of several where it does.
        """
        source = source.expand(theta.shape[0], *source.shape[-2:])
        affine = torch.linalg.pinv(_with_one(_control_grid(self.control_points, theta))) @ self.points_of(theta)
        found: Tensor = (source - affine[:, :1]) @ torch.linalg.pinv(affine[:, 1:])
        missing = self.points(theta, found, aspect) - source
        for _ in range(_NEWTON_STEPS):
            left = (missing.abs() > _CLOSE).flatten(1).any(dim=1)
            if not bool(left.any()):
                break
            found[left], missing[left] = self._step(theta[left], source[left], found[left], missing[left], aspect)
        return found.masked_fill((missing.abs() > _FOUND).any(-1, keepdim=True), torch.nan)

    def _step(
        self, theta: Tensor, source: Tensor, found: Tensor, missing: Tensor, aspect: float
    ) -> tuple[Tensor, Tensor]:
        """A step of Newton's method, halved where it would not lead closer; where it led, and what is missing there.

        By Cramer's rule, which leads far away where a Jacobian has no inverse.
        """
        (a, b), (c, d) = (row.unbind(-1) for row in self.jacobian(theta, found, aspect).unbind(-2))
        x, y = missing.unbind(-1)
        determinant = a * d - b * c
        determinant = torch.where(determinant.abs() < _TINY, _TINY, determinant)
        step = torch.stack([d * x - b * y, a * y - c * x], dim=-1) / determinant[..., None]
        before = _squared_length(missing)
        for _ in range(_HALVINGS):
            tried = found - step
            left = self.points(theta, tried, aspect) - source
            after = _squared_length(left)
            fine = ((after < before) | (before < _CLOSE**2))[..., None]
            if bool(fine.all()):
                break
            step = torch.where(fine, step, step / 2)
        closer = (after < before)[..., None]
        return torch.where(closer, tried, found), torch.where(closer, left, missing)


def thin_plate_spline(control_points: int) -> ThinPlateSpline:
    """The family of thin plate splines with control x control points; its identity leaves each where it is."""
    identity = _control_grid(control_points, torch.empty(0, dtype=torch.float64, device="cpu")).flatten().tolist()
    return ThinPlateSpline("tps" if control_points == 4 else f"tps_{control_points}", tuple(identity), control_points)


def _control_grid(control_points: int, like: Tensor) -> Tensor:
    """The control points on the target, n² x 2, row by row."""
    line = torch.linspace(-1, 1, control_points, dtype=like.dtype, device=like.device)
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1).flatten(0, 1)


def _squared_length(vectors: Tensor) -> Tensor:
    x, y = vectors.unbind(-1)
    return x * x + y * y


def _with_one(points: Tensor) -> Tensor:
    """(1, x, y) for (x, y)."""
    return torch.cat([torch.ones_like(points[..., :1]), points], dim=-1)


# What is kept is NumPy's: no mode of torch's that happens to be on, such as one that traces, gets into it.


@lru_cache(maxsize=32)
def _solution(control_points: int, aspect: float) -> Array:
    """From the control points' places to the coefficients of the n² radial terms and of (1, x, y): (n² + 3) x n²."""
    line = np.linspace(-1, 1, control_points)
    terms = _terms(line, line, control_points, aspect)
    affine = np.concatenate([terms[:, -3:].T, np.zeros((3, 3))], axis=1)
    return np.linalg.inv(np.concatenate([terms, affine]))[:, : control_points**2].astype(np.float64)


@lru_cache(maxsize=32)
def _grid_weights(control_points: int, size: tuple[int, int], aspect: float) -> Array:
    """The control points' weights (see `points`) at the centres of all pixels of an output, (H W) x n²."""
    rows, columns = ((2 * np.arange(count) + 1) / count - 1 for count in size)
    weights: Array = _terms(columns, rows, control_points, aspect) @ _solution(control_points, aspect)
    return weights


def _terms(columns: Array, rows: Array, control_points: int, aspect: float) -> Array:
    """At all points of a grid, row by row, the radial term of each control point, and 1, x and y: M x (n² + 3)."""
    line = np.linspace(-1, 1, control_points)
    x, y = (axis.reshape(-1, 1) for axis in np.meshgrid(columns, rows))
    control_x, control_y = (axis.ravel() for axis in np.meshgrid(line, line))
    squared = (aspect * (x - control_x)) ** 2 + (y - control_y) ** 2
    radial = squared * np.log(np.maximum(squared, _TINY))
    return np.concatenate([radial, np.ones_like(x), x, y], axis=1)
