"""Transform families, target to source; the grids that they generate, and the sampler: in float32 or wider.

A family says how parameters theta become a map, and where each output pixel reads; the sampler what it reads there.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import reduce, wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor
from torch.nn import functional as F

P = ParamSpec("P")

HORIZON = 0.01
"""The least depth that a projective map divides by.

What lies at the horizon or behind it reads far outside, but for the few points whose numerators are as small.
"""


def precise(compute: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """`compute` in the widest type of the tensors that it is given, float32 at least, also under autocast.

    In bfloat16 a coordinate would be off by a tenth of a pixel.
    """

    @wraps(compute)
    def widened(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)
        wide: Any = [value.to(dtype) if isinstance(value, Tensor) else value for value in args]
        named: Any = {name: value.to(dtype) if isinstance(value, Tensor) else value for name, value in kwargs.items()}
        # `meta`, where shapes are found without computing, knows no autocast.
        device = tensors[0].device.type
        with nullcontext() if device == "meta" else torch.autocast(device, enabled=False):
            return compute(*wide, **named)

    return widened


def pixel_centres(count: int, like: Tensor) -> Tensor:
    """Normalised coordinates of the centres of `count` pixels in a row, as dtype and device of `like`."""
    return (2 * torch.arange(count, dtype=like.dtype, device=like.device) + 1) / count - 1


def pixel_grid(size: tuple[int, int], like: Tensor) -> Tensor:
    """Normalised (x, y) of the centres of all pixels of an image of size (H, W): H x W x 2."""
    rows, columns = (pixel_centres(count, like) for count in size)
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)


@precise
def bilinear_sampler(images: Tensor, grid: Tensor, padding: str = "zeros") -> Tensor:
    """Read `images` (N x C x H x W) at `grid` (N x h x w x 2, normalised source coordinates): N x C x h x w.

    Bilinear. Outside the image it reads `padding`: zeros (paper, equation 5); the pixel at the `border`; or the image
    again, by `reflection` at its edges. The result is float32 or wider, as all is here.
    """
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)


@precise
def ink_place(images: Tensor) -> Tensor:
    """The ink's centre of mass (x, y) and radius of gyration, N x 3, in half heights; of N x C x H x W."""
    height, width = images.shape[-2:]
    ink = images.clamp(min=0).sum(dim=1)
    ink = ink / ink.sum(dim=(1, 2), keepdim=True).clamp(min=1e-6)
    across, down = pixel_centres(width, ink) * (width / height), pixel_centres(height, ink)
    columns, rows = ink.sum(dim=1), ink.sum(dim=2)
    # Sums, not @: a matrix product rounds an image otherwise in another batch.
    x, y = (columns * across).sum(dim=1), (rows * down).sum(dim=1)
    spread = (columns * across.square()).sum(dim=1) - x.square() + (rows * down.square()).sum(dim=1) - y.square()
    return torch.stack([x, y, spread.clamp(min=(4 / height) ** 2).sqrt()], dim=1)


# --- the families ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Family(ABC):
    """A family of transforms, target to source: a name and the theta of its identity, p numbers.

    Everywhere `aspect` is width over height of the image that is read: where it is not 1, a normalised unit is longer
    along one axis, and what turns or measures distances has to take that into account.
    """

    name: str
    identity: tuple[float, ...]

    @abstractmethod
    def points(self, theta: Tensor, target: Tensor, aspect: float = 1.0) -> Tensor:
        """Where points go: N x M x 2 for theta, N x p, and `target`, M x 2 or N x M x 2; all normalised."""

    def inverse_points(self, theta: Tensor, source: Tensor, aspect: float = 1.0) -> Tensor:
        """The target points, N x M x 2, that go to `source`, M x 2 or N x M x 2; all normalised.

        Only distortions ask for it. Raises NotImplementedError where a family has none.
        """
        raise NotImplementedError

    def grid(self, theta: Tensor, size: tuple[int, int], aspect: float = 1.0) -> Tensor:
        """The sampling grid for theta, N x p, and output size (H, W): N x H x W x 2, normalised source coordinates.

        It is where `points` sends the centres of the output's pixels; our families compute it faster.
        """
        grid: Tensor = self.points(theta, pixel_grid(size, theta).flatten(0, 1), aspect).unflatten(1, size)
        return grid


@dataclass(frozen=True)
class MatrixFamily(Family):
    """A family whose maps are 3 x 3 matrices.

    `numbers` names what theta holds, and `entries` says where it stands in the matrix, row by row: one of these names,
    its negative, or a constant; of an angle its `cos` and `sin`. It speaks of a frame whose two axes have the same
    unit, half the image's height, unless `normalised`: then of normalised coordinates, whatever the aspect. The last
    row of one that is not `projective` is 0 0 1.
    """

    numbers: str
    entries: str
    normalised: bool = False
    projective: bool = False

    @precise
    def matrix(self, theta: Tensor, aspect: float = 1.0) -> Tensor:
        """The matrices, N x 3 x 3, for theta, N x p, in normalised coordinates."""
        entry = dict(zip(self.numbers.split(), theta.unbind(-1), strict=True))
        if "angle" in entry:
            entry |= {"cos": torch.cos(entry["angle"]), "sin": torch.sin(entry["angle"])}
        entry |= {"0": torch.zeros_like(theta[:, 0]), "1": torch.ones_like(theta[:, 0])}
        nine = [-entry[name[1:]] if name[0] == "-" else entry[name] for name in self.entries.split()]
        matrix = torch.stack(nine, dim=-1).view(-1, 3, 3)
        if aspect == 1.0 or self.normalised:
            return matrix
        unit = matrix.new_tensor([aspect, 1.0, 1.0])
        return matrix * unit / unit[:, None]

    @precise
    def points(self, theta: Tensor, target: Tensor, aspect: float = 1.0) -> Tensor:
        """See Family."""
        matrix = self.matrix(theta, aspect)
        homogeneous = target @ matrix[:, :, :2].mT + matrix[:, None, :, 2]
        return homogeneous[..., :2] / homogeneous[..., 2:].clamp(min=HORIZON)

    def inverse_points(self, theta: Tensor, source: Tensor, aspect: float = 1.0) -> Tensor:
        """See Family. Raises torch.linalg.LinAlgError where there is no inverse."""
        return HOMOGRAPHY.points(torch.linalg.inv(self.matrix(theta, aspect)).flatten(1), source)

    @precise
    def grid(self, theta: Tensor, size: tuple[int, int], aspect: float = 1.0) -> Tensor:
        """See Family.

        The product of the matrix and every output pixel's (x, y, 1), as the sum of a column's share and a row's share,
        by broadcasting: one pass over the grid and no matrix product. Lies in memory as planes, H x W each: a CPU adds
        long rows many times as fast as pairs.
        """
        matrix = self.matrix(theta, aspect)
        rows = matrix if self.projective else matrix[:, :2]
        across = rows[:, :, 0, None] * pixel_centres(size[1], rows)
        down = rows[:, :, 1, None] * pixel_centres(size[0], rows) + rows[:, :, 2, None]
        places = down[:, :, :, None] + across[:, :, None]
        if self.projective:
            places, depth = places.split([2, 1], dim=1)
            places = places * depth.clamp(min=HORIZON).reciprocal()
        return places.movedim(1, -1)


TRANSLATION = MatrixFamily("translation", (0.0, 0.0), "x y", "1 0 x  0 1 y  0 0 1")
"""theta = (t_x, t_y): source = target + t."""
SCALE = MatrixFamily("scale", (1.0,), "s", "s 0 0  0 s 0  0 0 1")
"""theta = (s): source = s target. Below 1 the output shows a smaller part, enlarged."""
ROTATION = MatrixFamily("rotation", (0.0,), "angle", "cos -sin 0  sin cos 0  0 0 1")
"""theta = (angle in radians): source = R(angle) target, clockwise as seen."""
SHEAR = MatrixFamily("shear", (0.0, 0.0), "h v", "1 h 0  v 1 0  0 0 1")
"""theta = (h, v): source = (x + h y, v x + y)."""
ATTENTION = MatrixFamily("attention", (1.0, 0.0, 0.0), "s x y", "s 0 x  0 s y  0 0 1")
"""theta = (s, t_x, t_y): source = s target + t (paper, equation 2)."""
SIMILARITY = MatrixFamily("similarity", (1.0, 0.0, 0.0, 0.0), "a b x y", "a -b x  b a y  0 0 1")
"""theta = (a, b, t_x, t_y): source = (a x - b y, b x + a y) + t: scaled by |(a, b)|, turned by atan2(b, a)."""
AFFINE = MatrixFamily("affine", (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), "a b c d e f", "a b c  d e f  0 0 1", normalised=True)
"""theta = the matrix's two upper rows, one after the other (paper, equation 1)."""
PROJECTIVE = MatrixFamily(
    "projective",
    (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0),
    "a b c d e f g h",
    "a b c  d e f  g h 1",
    normalised=True,
    projective=True,
)
"""theta = the matrix's entries row by row, but for the last, which is 1: the middle of the target is in front of the
horizon."""
HOMOGRAPHY = MatrixFamily(
    "homography",
    (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    "a b c d e f g h i",
    "a b c  d e f  g h i",
    normalised=True,
    projective=True,
)
"""theta = all nine entries of the matrix row by row, whose positive multiples are one map: inverses and compositions of
all families of matrices, also where the middle of the target is behind the horizon. Not for a transformer to predict.
"""
