"""What the spatial transformers of a network do while it runs: recorded by hooks, and drawn as outlines."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stn_train.models import SpatialTransformer

_STEPS = 16


@dataclass(frozen=True)
class Warp:
    """One transformer at work: what it read, N x C x H x W, the theta, N x p, and what it put out, N x C x h x w."""

    transformer: SpatialTransformer
    images: Tensor
    theta: Tensor
    output: Tensor

    def outline(self) -> Tensor:
        """Where the edge of the output lies on what was read: N x V x 2, (x, y) in pixels, to be closed to a polygon.

        Clockwise on the output, from its top left corner, with as many points on each side as a bent side needs to be
        seen. The centre of the first pixel that was read is (0, 0).
        """
        height, width = self.images.shape[-2:]
        points = self.transformer.family.points(self.theta.float(), edge(self.theta.float(), _STEPS), width / height)
        return ((points + 1) * points.new_tensor([width, height]) - 1) / 2


def edge(like: Tensor, steps: int) -> Tensor:
    """Points on the edge of the normalised square, 4 `steps` x 2, clockwise from the top left corner."""
    along = torch.arange(steps, dtype=like.dtype, device=like.device) * 2 / steps - 1
    top = torch.stack([along, torch.full_like(along, -1.0)], dim=1)
    right = torch.stack([-top[:, 1], top[:, 0]], dim=1)  # a quarter turn clockwise
    return torch.cat([top, right, -top, -right])


@contextmanager
def recorded_warps(network: nn.Module) -> Iterator[list[Warp]]:
    """Inside, what each transformer of `network` does is added to the list, in the order of the forward pass."""
    warps: list[Warp] = []
    thetas: list[Tensor] = []

    def localised(localisation: nn.Module, read: tuple[Tensor, ...], theta: Tensor) -> None:
        thetas.append(theta)

    def warped(transformer: SpatialTransformer, read: tuple[Tensor, ...], output: Tensor) -> None:
        warps.append(Warp(transformer, read[0], thetas.pop(), output))

    transformers = [module for module in network.modules() if isinstance(module, SpatialTransformer)]
    hooks = [each.localisation.register_forward_hook(localised) for each in transformers]
    hooks += [each.register_forward_hook(warped) for each in transformers]
    try:
        yield warps
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class Sight:
    """A transformer at the input: its `output`, S x C x h x w, and its outline on the image, S x V x 2.

    The outline is None for one that reads what another has warped.
    """

    output: Tensor
    outline: Tensor | None


@torch.no_grad()
def sights(front: nn.Module, images: Tensor, device: torch.device) -> list[Sight]:
    """What each transformer of what stands at a network's input makes of uint8 `images`, S x C x H x W.

    In the order of the forward pass, in float32 and on the CPU.
    """
    batch = images.to(device).float() / 255
    with recorded_warps(front.eval()) as warps:
        front(batch)
    return [Sight(warp.output.cpu(), warp.outline().cpu() if warp.images is batch else None) for warp in warps]
