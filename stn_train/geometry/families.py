"""Transform families: how parameters theta become a 3 x 3 matrix and a sampling grid, target to source."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stn_train.geometry.grid import matrix_grid


@dataclass(frozen=True)
class Family:
    """A family of transforms, target to source.

    `in_square(theta)` gives the matrices (N x 3 x 3) for parameters theta (N x p) in a frame whose two axes have the
    same unit, such as centred pixels or the normalised frame of a square image.
    """

    name: str
    identity: tuple[float, ...]
    in_square: Callable[[Tensor], Tensor]

    @property
    def parameters(self) -> int:
        """How many numbers theta holds: p."""
        return len(self.identity)

    def matrix(self, theta: Tensor, aspect: float = 1.0) -> Tensor:
        """The matrices, N x 3 x 3, for theta, N x p, in normalised coordinates.

        `aspect` is width over height of the image: where it is not 1, a normalised unit is longer along one axis, and
        turning by 90 degrees has to take that into account. Affine parameters are the matrix itself, in any frame.
        """
        matrix = self.in_square(theta)
        if aspect == 1.0 or self is AFFINE:
            return matrix
        unit = matrix.new_tensor([aspect, 1.0, 1.0])
        return matrix * unit / unit[:, None]

    def grid(self, theta: Tensor, size: tuple[int, int], aspect: float = 1.0) -> Tensor:
        """The sampling grid, N x H x W x 2 in normalised source coordinates, for theta, N x p, and size (H, W)."""
        return matrix_grid(self.matrix(theta, aspect), size)


def _from_rows(*rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """N x 3 x 3 matrices from their two upper rows of three entries, N each."""
    first = rows[0][0]
    last = (torch.zeros_like(first), torch.zeros_like(first), torch.ones_like(first))
    return torch.stack([torch.stack(row, dim=-1) for row in (*rows, last)], dim=-2)


def _translation(theta: Tensor) -> Tensor:
    x, y = theta.unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _from_rows((one, zero, x), (zero, one, y))


def _scale(theta: Tensor) -> Tensor:
    (factor,) = theta.unbind(-1)
    zero = torch.zeros_like(factor)
    return _from_rows((factor, zero, zero), (zero, factor, zero))


def _rotation(theta: Tensor) -> Tensor:
    (angle,) = theta.unbind(-1)
    zero, cos, sin = torch.zeros_like(angle), torch.cos(angle), torch.sin(angle)
    return _from_rows((cos, -sin, zero), (sin, cos, zero))


def _shear(theta: Tensor) -> Tensor:
    horizontal, vertical = theta.unbind(-1)
    zero, one = torch.zeros_like(horizontal), torch.ones_like(horizontal)
    return _from_rows((one, horizontal, zero), (vertical, one, zero))


def _affine(theta: Tensor) -> Tensor:
    a, b, c, d, e, f = theta.unbind(-1)
    return _from_rows((a, b, c), (d, e, f))


TRANSLATION = Family("translation", (0.0, 0.0), _translation)
"""theta = (t_x, t_y): source = target + t."""
SCALE = Family("scale", (1.0,), _scale)
"""theta = (s): source = s target. Below 1 the output shows a smaller part, enlarged."""
ROTATION = Family("rotation", (0.0,), _rotation)
"""theta = (angle in radians): source = R(angle) target, clockwise as seen."""
SHEAR = Family("shear", (0.0, 0.0), _shear)
"""theta = (h, v): source = (x + h y, v x + y)."""
AFFINE = Family("affine", (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), _affine)
"""theta = the matrix's two upper rows, one after the other (paper, equation 1)."""

FAMILIES = {family.name: family for family in (TRANSLATION, SCALE, ROTATION, SHEAR, AFFINE)}
"""Every family by name."""
