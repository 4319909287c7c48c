"""The grid generator: from a matrix, target to source, to the source coordinates of every output pixel."""

import torch
from torch import Tensor


def pixel_centres(count: int, like: Tensor) -> Tensor:
    """Normalised coordinates of the centres of `count` pixels in a row, as dtype and device of `like`."""
    return (2 * torch.arange(count, dtype=like.dtype, device=like.device) + 1) / count - 1


def matrix_grid(matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """Where each output pixel reads: N x H x W x 2, (x, y) in normalised source coordinates (paper, equation 1).

    `matrix` is N x 3 x 3, affine (its last row is taken to be 0 0 1), target to source; `size` is the output's (H, W).
    The sum of a column's share and a row's share, by broadcasting: one pass over the grid and no matrix product.
    """
    height, width = size
    columns = pixel_centres(width, matrix)[:, None] * matrix[:, None, :2, 0]
    rows = pixel_centres(height, matrix)[:, None] * matrix[:, None, :2, 1] + matrix[:, None, :2, 2]
    return rows[:, :, None] + columns[:, None]
