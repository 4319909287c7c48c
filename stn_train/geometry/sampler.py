"""The sampler: reads an image at fractional coordinates, so that gradients reach both the image and the grid."""

from torch import Tensor
from torch.nn import functional as F

from stn_train.geometry.precision import precise


@precise
def bilinear_sampler(images: Tensor, grid: Tensor) -> Tensor:
    """Read `images` (N x C x H x W) at `grid` (N x h x w x 2, normalised source coordinates): N x C x h x w.

    Bilinear, with zeros outside the image (paper, equation 5). The result is float32 or wider, as all is here.
    """
    return F.grid_sample(images, grid, mode="bilinear", align_corners=False)
