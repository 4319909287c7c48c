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
        wide: Any = [value.to(dtype) if isinstance(value, Tensor) else value for value in args]
        named: Any = {name: value.to(dtype) if isinstance(value, Tensor) else value for name, value in kwargs.items()}
        with without_autocast(tensors[0]):
            return compute(*wide, **named)

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
def apply_matrix(matrix: Tensor, points: Tensor) -> Tensor:
    """Where points, (N x) M x 2, go under N x 3 x 3 matrices of any kind: N x M x 2."""
    homogeneous = points @ matrix[:, :, :2].mT + matrix[:, None, :, 2]
    return homogeneous[..., :2] / homogeneous[..., 2:].clamp(min=HORIZON)


@precise
def bilinear_sampler(images: Tensor, grid: Tensor) -> Tensor:
    """Read `images` (N x C x H x W) at `grid` (N x h x w x 2, normalised source coordinates): N x C x h x w.

    Bilinear, with zeros outside the image (paper, equation 5). The result is float32 or wider, as all is here.
    """
    return F.grid_sample(images, grid, mode="bilinear", align_corners=False)
