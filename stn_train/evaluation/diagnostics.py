"""Is a transformer healthy? Where it reads, how its map is, and whether what follows makes it learn."""

from collections.abc import Mapping
from math import isfinite

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stn_train.evaluation.classify import Warp, recorded_warps
from stn_train.evaluation.metrics import Diagnostics
from stn_train.geometry import pixel_grid
from stn_train.models.transformer import SpatialTransformer

_EXPLODED = 1e9
"""What stands for a gradient that is not finite."""


def diagnose(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Diagnostics, ...]:
    """The health of each transformer, in the order of the forward pass, on a batch (N x C x H x W) with its labels (N).

    The network evaluates, and what it learns with stays as it is.
    """
    transformers = [module for module in network.modules() if isinstance(module, SpatialTransformer)]
    if not transformers:
        return ()
    network.eval()
    with torch.enable_grad(), recorded_warps(network) as warps:
        loss = F.cross_entropy(network(images).float(), labels)
    parameters = dict(network.named_parameters())
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    gradients = {id(parameter): gradient for parameter, gradient in zip(parameters.values(), found, strict=True)}
    localising = [_norm(each.localisation, gradients) for each in transformers]
    whole = _norm(network, gradients)
    rest = max(whole**2 - sum(norm**2 for norm in localising), 0.0) ** 0.5
    share = {id(each): norm / rest if rest else 0.0 for each, norm in zip(transformers, localising, strict=True)}
    return tuple(_diagnostics(warp, share[id(warp.transformer)]) for warp in warps)


def _norm(module: nn.Module, gradients: Mapping[int, Tensor | None]) -> float:
    found = [gradients[id(parameter)] for parameter in module.parameters()]
    squares = [gradient.double().square().sum() for gradient in found if gradient is not None]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0


@torch.no_grad()
def _diagnostics(warp: Warp, gradient: float) -> Diagnostics:
    family, output = warp.transformer.family, warp.transformer.output_size
    height, width = warp.images.shape[-2:]
    grid = family.grid(warp.theta.double(), output, width / height)
    moved = grid - pixel_grid(output, grid)
    areas = _areas(grid) / _areas(pixel_grid(output, grid)[None])
    return Diagnostics(
        outside=float((grid.abs() > 1).any(dim=-1).double().mean()),
        scale=float(areas.abs().mean().sqrt()),
        folded=float((areas <= 0).flatten(1).any(dim=1).double().mean()),
        moved=float(moved.square().sum(dim=-1).mean().sqrt()),
        std=float((moved - moved.mean(dim=0)).square().sum(dim=-1).mean().sqrt()),
        gradient=gradient if isfinite(gradient) else _EXPLODED,
    )


def _areas(grid: Tensor) -> Tensor:
    """Between neighbouring points of grids, N x h x w x 2: N x (h - 1) x (w - 1), negative where mirrored."""
    across, down = grid[:, :-1, 1:] - grid[:, :-1, :-1], grid[:, 1:, :-1] - grid[:, :-1, :-1]
    return across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]
