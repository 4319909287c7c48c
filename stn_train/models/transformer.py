"""The spatial transformer: a localisation network, a grid generator and a sampler (paper, section 3)."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stn_train.geometry import Family, bilinear_sampler, without_autocast


class Regression(nn.Linear):
    """The last layer of a localisation network: predicts theta, N x p, as the family's identity plus a learnt rest.

    Starts at the identity exactly, with zero weights and biases. The rest is learnt on top of the identity, so that
    decaying weights pull towards it (moved by the biases, which do not decay) and not towards a blank image. Computes
    in float32 also under autocast.
    """

    def __init__(self, features: int, family: Family) -> None:
        super().__init__(features, family.parameters)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
        self.identity: Tensor
        self.register_buffer("identity", torch.tensor(family.identity), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Theta, N x p, from features, N x f."""
        with without_autocast(features):
            return super().forward(features.to(self.weight.dtype)) + self.identity


class SpatialTransformer(nn.Module):
    """Warps feature maps as a localisation network sees fit; stands in front of, or between, any layers.

    `localisation` maps N x C x H x W to theta, N x p, of `family`; `family.grid` generates the grid, target to source;
    `sampler` reads the input at its points. The output is N x C x h x w for `output` (h, w), which is free: a smaller
    one zooms or downsamples. With `supersampling` k, each of its pixels is the mean of k x k points, so that an output
    coarser than the input averages what it would skip (paper, appendix A: RTS and TC, "average pooled by 2").
    """

    def __init__(
        self,
        localisation: nn.Module,
        family: Family,
        output: tuple[int, int],
        sampler: Callable[[Tensor, Tensor], Tensor] = bilinear_sampler,
        supersampling: int = 1,
    ) -> None:
        super().__init__()
        self.localisation = localisation
        self.family = family
        self.output = output
        self.sampler = sampler
        self.supersampling = supersampling

    def warp(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The warped images, N x C x h x w, and the theta, N x p, that warped them."""
        theta = self.localisation(images)
        aspect = images.shape[-1] / images.shape[-2]
        height, width = self.output
        with without_autocast(images):
            precise = theta.to(torch.promote_types(theta.dtype, torch.float32))
            grid = self.family.grid(precise, (height * self.supersampling, width * self.supersampling), aspect)
        sampled = self.sampler(images, grid)
        return (F.avg_pool2d(sampled, self.supersampling) if self.supersampling > 1 else sampled), theta

    def forward(self, images: Tensor) -> Tensor:
        """The warped images, N x C x h x w."""
        return self.warp(images)[0]


class SideBySide(nn.Module):
    """Spatial transformers that read the same feature maps, each all channels of them (paper, section 3.4).

    From N x C x H x W to N x (k C) x h x w: what the first of the k puts out comes first. All put out one size.
    """

    def __init__(self, transformers: Iterable[SpatialTransformer]) -> None:
        super().__init__()
        self.transformers = nn.ModuleList(transformers)

    def forward(self, images: Tensor) -> Tensor:
        """The warped images of all, one after the other along the channels."""
        return torch.cat([transformer(images) for transformer in self.transformers], dim=1)
