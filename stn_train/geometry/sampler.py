"""The sampler: reads an image at fractional coordinates, so that gradients reach both the image and the grid."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F


def bilinear_sampler(images: Tensor, grid: Tensor) -> Tensor:
    """Read `images` (N x C x H x W) at `grid` (N x h x w x 2, normalised source coordinates): N x C x h x w.

    Bilinear, with zeros outside the image (paper, equation 5). Coordinates and result are float32 or wider, also under
    autocast: in bfloat16 a coordinate would be off by a tenth of a pixel.
    """
    dtype = torch.promote_types(torch.promote_types(images.dtype, grid.dtype), torch.float32)
    with without_autocast(images):
        return F.grid_sample(images.to(dtype), grid.to(dtype), mode="bilinear", align_corners=False)


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """A context in which what is computed with `tensor` keeps its precision, on any device.

    Also on `meta`, where shapes are found without computing, and which knows no autocast.
    """
    return nullcontext() if tensor.is_meta else torch.autocast(tensor.device.type, enabled=False)
