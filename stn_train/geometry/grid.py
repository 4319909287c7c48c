"""The grid generator and the sampler: where each output pixel reads, and what it reads there, in float32 or wider."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import reduce, wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor
from torch.nn import functional as F

P = ParamSpec("P")


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """A context in which what is computed with `tensor` keeps its precision, on any device.

    Also on `meta`, where shapes are found without computing, and which knows no autocast.
    """
    return nullcontext() if tensor.is_meta else torch.autocast(tensor.device.type, enabled=False)


def precise(compute: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """`compute` in the widest type of the tensors that it is given, float32 at least, also under autocast.

    In bfloat16 a coordinate would be off by a tenth of a pixel.
    """

    @wraps(compute)
    def widened(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)

        def wide(value: Any) -> Any:
            return value.to(dtype) if isinstance(value, Tensor) else value

        with without_autocast(tensors[0]):
            return compute(*map(wide, args), **{name: wide(value) for name, value in kwargs.items()})

    return widened


HORIZON = 0.01
"""The least depth that a projective map divides by.

What lies at the horizon or behind it reads far outside, but for the few points whose numerators are as small.
"""


def pixel_centres(count: int, like: Tensor) -> Tensor:
    """Normalised coordinates of the centres of `count` pixels in a row, as dtype and device of `like`."""
    return (2 * torch.arange(count, dtype=like.dtype, device=like.device) + 1) / count - 1


def pixel_grid(size: tuple[int, int], like: Tensor) -> Tensor:
    """Normalised (x, y) of the centres of all pixels of an image of size (H, W): H x W x 2."""
    rows, columns = (pixel_centres(count, like) for count in size)
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)


@precise
def matrix_grid(matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """Where each output pixel reads: N x H x W x 2, (x, y) in normalised source coordinates (paper, equation 1).

    `matrix` is N x 3 x 3, affine (its last row is taken to be 0 0 1), target to source; `size` is the output's (H, W).
    """
    return _linear(matrix[:, :2], size)


@precise
def projective_grid(matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """As `matrix_grid`, for any N x 3 x 3 matrix: the third coordinate, the depth, divides the other two."""
    return perspective_divide(_linear(matrix, size))


@precise
def apply_matrix(matrix: Tensor, points: Tensor) -> Tensor:
    """Where points, (N x) M x 2, go under N x 3 x 3 matrices of any kind: N x M x 2."""
    return perspective_divide(points @ matrix[:, :, :2].mT + matrix[:, None, :, 2])


def perspective_divide(homogeneous: Tensor) -> Tensor:
    """From (..., 3) homogeneous to (..., 2) plain coordinates."""
    return homogeneous[..., :2] / homogeneous[..., 2:].clamp(min=HORIZON)


def _linear(rows: Tensor, size: tuple[int, int]) -> Tensor:
    """The product of `rows`, N x k x 3, with every output pixel's (x, y, 1): N x H x W x k.

    The sum of a column's share and a row's share, by broadcasting: one pass over the grid and no matrix product. Lies
    in memory as k planes, H x W each: a CPU adds long rows many times as fast as pairs.
    """
    height, width = size
    across = rows[:, :, 0, None] * pixel_centres(width, rows)
    down = rows[:, :, 1, None] * pixel_centres(height, rows) + rows[:, :, 2, None]
    return (down[:, :, :, None] + across[:, :, None]).movedim(1, -1)


@precise
def bilinear_sampler(images: Tensor, grid: Tensor) -> Tensor:
    """Read `images` (N x C x H x W) at `grid` (N x h x w x 2, normalised source coordinates): N x C x h x w.

    Bilinear, with zeros outside the image (paper, equation 5). The result is float32 or wider, as all is here.
    """
    return F.grid_sample(images, grid, mode="bilinear", align_corners=False)
