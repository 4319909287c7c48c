"""What transformers do while a network runs: recorded, outlined for pictures, and asked whether they are healthy."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stn_train.evaluation.metrics import Diagnostics
from stn_train.geometry import pixel_grid
from stn_train.models.transformer import SpatialTransformer

_STEPS = 16
"""Into so many pieces each side of an outline is cut, so that a bent one is seen."""
_EXPLODED = 1e9
"""What stands for a gradient that is not finite."""


@dataclass(frozen=True)
class Warp:
    """One transformer at work: what it read, N x C x H x W, the theta, N x p, and what it put out, N x C x h x w."""

    transformer: SpatialTransformer
    images: Tensor
    theta: Tensor
    output: Tensor


@contextmanager
def recorded_warps(network: nn.Module) -> Iterator[list[Warp]]:
    """Inside, what each transformer of `network` does is added to the list, in the order of the forward pass."""
    warps: list[Warp] = []
    thetas: list[Tensor] = []

    def record(module: nn.Module, read: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, SpatialTransformer):
            images, *given = read  # theta, where it does not come from the localisation network
            warps.append(Warp(module, images, given[0] if given else thetas.pop(), output))
        else:
            thetas.append(output)

    transformers = [module for module in network.modules() if isinstance(module, SpatialTransformer)]
    hooks = [module.register_forward_hook(record) for each in transformers for module in (each.localisation, each)]
    try:
        yield warps
    finally:
        for hook in hooks:
            hook.remove()


def edge(like: Tensor, steps: int) -> Tensor:
    """Points on the edge of the normalised square, 4 `steps` x 2, clockwise from the top left corner."""
    along = torch.arange(steps, dtype=like.dtype, device=like.device) * 2 / steps - 1
    top = torch.stack([along, torch.full_like(along, -1.0)], dim=1)
    right = torch.stack([-top[:, 1], top[:, 0]], dim=1)  # a quarter turn clockwise
    return torch.cat([top, right, -top, -right])


@torch.no_grad()
def outputs_and_outlines(front: nn.Module, images: Tensor, device: torch.device) -> list[tuple[Tensor, Tensor | None]]:
    """What each transformer of what stands at a network's input makes of uint8 `images`, S x C x H x W.

    Its output, S x C x h x w, and where the output's edge lies on the images: S x V x 2, (x, y) in pixels, clockwise on
    the output from its top left corner, to be closed to a polygon; the centre of the first pixel is (0, 0). None for
    one that reads what another has warped. In the order of the forward pass, in float32 and on the CPU.
    """
    batch = images.to(device).float() / 255
    with recorded_warps(front.eval()) as warps:
        front(batch)
    height, width = images.shape[-2:]
    found: list[tuple[Tensor, Tensor | None]] = []
    for warp in warps:
        outline = None
        if warp.images is batch:
            theta = warp.theta.float()
            points = warp.transformer.family.points(theta, edge(theta, _STEPS), width / height)
            outline = (((points + 1) * points.new_tensor([width, height]) - 1) / 2).cpu()
        found.append((warp.output.cpu(), outline))
    return found


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
    parameters = list(network.parameters())
    gradients = zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True)
    squares = {id(parameter): grad.double().square().sum() for parameter, grad in gradients if grad is not None}
    norms = []
    for module in (network, *(each.localisation for each in transformers)):
        own = [squares[id(parameter)] for parameter in module.parameters() if id(parameter) in squares]
        norms.append(float(torch.stack(own).sum().sqrt()) if own else 0.0)
    whole, *localising = norms
    rest = max(whole**2 - sum(norm**2 for norm in localising), 0.0) ** 0.5
    shares = {id(each): norm / rest if rest else 0.0 for each, norm in zip(transformers, localising, strict=True)}

    # The grids: where they lie, how far they moved, and whether they fold.
    found = []
    for warp in warps:
        size, share = warp.transformer.output_size, shares[id(warp.transformer)]
        height, width = warp.images.shape[-2:]
        grid = warp.transformer.family.grid(warp.theta.detach().double(), size, width / height)
        at_rest = pixel_grid(size, grid)
        moved, areas = grid - at_rest, cell_areas(grid) / cell_areas(at_rest[None])
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


def cell_areas(grid: Tensor) -> Tensor:
    """Between neighbouring points of grids, N x h x w x 2: N x (h - 1) x (w - 1), negative where mirrored."""
    across, down = grid[:, :-1, 1:] - grid[:, :-1, :-1], grid[:, 1:, :-1] - grid[:, :-1, :-1]
    return across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]
