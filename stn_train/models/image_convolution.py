"""A convolution of images that a transformer has put out, quick to tell them their gradient on a CPU."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class ImageConvolution(nn.Conv2d):
    """A convolution with biases, without padding: what `nn.Conv2d` is, but for how it finds the images' gradient.

    A transformer learns from that gradient. On a CPU, oneDNN takes about as long for it as for all the rest of a step
    of the paper's CNN, since images have few channels. As a matrix product, whose patches are then added up in float32,
    it takes a quarter of that time or less (docs/performance.md). It has no second derivative.
    """

    def __init__(self, channels: int, filters: int, kernel: int) -> None:
        super().__init__(channels, filters, kernel)

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps, N x filters x h x w, of N x C x H x W."""
        if not images.requires_grad or images.device.type != "cpu":
            return super().forward(images)
        return cast(Tensor, _Convolve.apply(images, self.weight, self.bias))


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        maps = F.conv2d(images, weight, bias)  # in bfloat16 under autocast
        ctx.save_for_backward(images.to(maps.dtype), weight.to(maps.dtype))
        return maps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        images, weight = ctx.saved_tensors
        patches = weight.flatten(1).mT @ gradient.flatten(2)
        precise = patches.to(torch.promote_types(patches.dtype, torch.float32))
        for_images = F.fold(precise, images.shape[2:], weight.shape[2:])
        # torch.nn.grad.conv2d_weight would not know the filters' layout, and copy the gradient into another.
        _, *learn = ctx.needs_input_grad
        _, for_weight, for_bias = torch.ops.aten.convolution_backward(
            gradient, images, weight, [len(weight)], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [False, *learn]
        )
        return for_images, for_weight, for_bias
