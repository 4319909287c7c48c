"""Is a transformer healthy? Where it reads, how its map is, and whether what follows makes it learn."""

from math import isfinite

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stn_train.evaluation.classify import recorded_warps
from stn_train.geometry import pixel_grid
from stn_train.models.transformer import SpatialTransformer
from stn_train.run_folder import Diagnostics

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

    # The norms of the gradients: of the whole network, of each localisation network, of the rest.
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    gradients = zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True)
    squares = {id(parameter): grad.cpu().double().square().sum() for parameter, grad in gradients if grad is not None}
    norms = []
    for module in (network, *(each.localisation for each in transformers)):
        own = [squares[id(parameter)] for parameter in module.parameters() if id(parameter) in squares]
        norms.append(float(torch.stack(own).sum().sqrt()) if own else 0.0)
    whole, *localising = norms
    rest = max(whole**2 - sum(norm**2 for norm in localising), 0.0) ** 0.5
    shares = {id(each): norm / rest if rest else 0.0 for each, norm in zip(transformers, localising, strict=True)}

    # The grids: where they lie, how far they moved, and whether they fold: whether the cells between neighbouring
    # points have an area below zero. One row or column of points has none, and gets those of two.
    found = []
    for warp in warps:
        size, share = warp.transformer.output_size, shares[id(warp.transformer)]
        height, width = warp.images.shape[-2:]
        theta, with_cells = warp.theta.detach().cpu().double(), (max(size[0], 2), max(size[1], 2))
        grid, corners = (warp.transformer.family.grid(theta, each, width / height) for each in (size, with_cells))
        moved, points = grid - pixel_grid(size, grid), torch.cat([pixel_grid(with_cells, grid)[None], corners])
        across, down = points[:, :-1, 1:] - points[:, :-1, :-1], points[:, 1:, :-1] - points[:, :-1, :-1]
        cells = across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]
        areas = cells[1:] / cells[:1]
        found.append(
            Diagnostics(
                outside=float((grid.abs() > 1).any(dim=-1).double().mean()),
                scale=float(areas.abs().mean().sqrt()),
                folded=float((areas <= 0).flatten(1).any(dim=1).double().mean()),
                moved=float(moved.square().sum(dim=-1).mean().sqrt()),
                std=float((moved - moved.mean(dim=0)).square().sum(dim=-1).mean().sqrt()),
                gradient=share if isfinite(share) else _EXPLODED,
            )
        )
    return tuple(found)
