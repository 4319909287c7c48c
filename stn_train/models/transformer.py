"""The spatial transformer: a localisation network, a grid generator and a sampler (paper, section 3)."""

from collections.abc import Callable, Iterable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stn_train.errors import UserError, first_line
from stn_train.geometry import Family, bilinear_sampler, precise
from stn_train.models.blocks import by, check_images


class ThetaHead(nn.Linear):
    """The last layer of a localisation network: predicts theta, N x p, as the family's identity plus a learnt rest.

    Starts at the identity exactly, with zero weights and biases. The rest is learnt on top of the identity, so that
    decaying weights pull towards it (moved by the biases, which do not decay) and not towards a blank image. Computes
    in float32 or wider, also under autocast and where its weights are of half precision.
    """

    def __init__(self, features: int, family: Family) -> None:
        super().__init__(features, len(family.identity))
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
        self.family = family
        self.identity: Tensor
        self.register_buffer("identity", torch.tensor(family.identity), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or convert it as any module; but the identity stays exact, also where the weights are halved."""
        super()._apply(fn, recurse)
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        self.identity = torch.tensor(self.family.identity, dtype=dtype, device=self.weight.device)
        return self

    @precise
    def forward(self, features: Tensor) -> Tensor:
        """Theta, N x p, from features, N x f."""
        dtype = self.identity.dtype
        return F.linear(features.to(dtype), self.weight.to(dtype), self.bias.to(dtype)) + self.identity


class SpatialTransformer(nn.Module):
    """Warps feature maps as a localisation network sees fit; stands in front of, or between, any layers.

    `localisation` maps N x C x H x W to theta, N x p, of `family`; `family.grid` generates the grid, target to source;
    `sampler` reads the input at its points. The output is N x C x h x w for `output_size` (h, w), which is free: a
    smaller one zooms or downsamples. With `supersampling` k, each of its pixels is the mean of k x k points, so that an
    output coarser than the input averages what it would skip (paper, appendix A: RTS and TC, "average pooled by 2").
    Grid and output are computed in float32 or wider; the output is then brought to the type of the input.
    """

    def __init__(
        self,
        localisation: nn.Module,
        family: Family,
        output_size: tuple[int, int],
        sampler: Callable[[Tensor, Tensor], Tensor] = bilinear_sampler,
        supersampling: int = 1,
    ) -> None:
        super().__init__()
        self.localisation = localisation
        self.family = family
        self.output_size = output_size
        self.sampler = sampler
        self.supersampling = supersampling

    def forward(self, images: Tensor, theta: Tensor | None = None) -> Tensor:
        """The warped images, N x C x h x w: see `warp`."""
        return self.warp(images, theta)[0]

    def warp(self, images: Tensor, theta: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The warped images, N x C x h x w, and the theta, N x p, that warped them.

        `theta`, where it is given, stands in for the localisation network's. Raises UserError for images that are not
        N x C x H x W and floating point, and for a theta that is not N x p.
        """
        check_images("the spatial transformer", None, None, self, (images,))
        if theta is None:
            try:
                theta = self.localisation(images)
            except RuntimeError as error:
                if type(error) is not RuntimeError:
                    raise  # not of shapes: memory, a device
                raise UserError(
                    f"the localisation network does not take {by(images.shape)}, {images.dtype}: {first_line(error)}"
                ) from error
        wanted = (images.shape[0], len(self.family.identity))
        if theta.shape != wanted:
            raise UserError(
                f"the localisation network gives {by(theta.shape)} for {by(images.shape)}, and {by(wanted)} is needed: "
                f"theta of the family {self.family.name} has {wanted[1]} parameters"
            )
        (height, width), k = self.output_size, self.supersampling
        grid = self.family.grid(theta, (height * k, width * k), images.shape[-1] / images.shape[-2])
        sampled = self.sampler(images, grid)
        if k > 1:
            sampled = F.avg_pool2d(sampled, k)
        return sampled.to(images.dtype), theta


class ParallelTransformers(nn.Module):
    """Spatial transformers that read the same feature maps, each all channels of them (paper, section 3.4).

    From N x C x H x W to N x (k C) x h x w: what the first of the k puts out comes first. All put out one size.
    """

    def __init__(self, transformers: Iterable[SpatialTransformer]) -> None:
        super().__init__()
        self.transformers = nn.ModuleList(transformers)

    def forward(self, images: Tensor) -> Tensor:
        """The warped images of all, one after the other along the channels."""
        return torch.cat([transformer(images) for transformer in self.transformers], dim=1)
