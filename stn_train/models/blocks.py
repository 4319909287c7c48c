"""What networks are made of, and what they may be given: all else is told in a sentence, not by wrong answers."""

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stn_train.errors import UserError


def convolve(images: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int], training: bool) -> Tensor:
    """`F.conv2d` of stride 1, from N x C x H x W; in training faster on a CPU, where filters are wide and channels few.

    oneDNN is made for many channels. So the columns that a filter spans are laid side by side, as channels, to be read
    by filters one pixel wide: the same products and sums, in a third to all of the time (docs/performance.md).
    """
    channels, side = weight.shape[1], weight.shape[3]
    if not training or images.device.type != "cpu" or side <= 3 * channels:
        return F.conv2d(images, weight, bias, padding=padding)
    rows = F.pad(images, (padding[1], padding[1])).unfold(3, side, 1)  # N x C x H x W x side
    columns = rows.permute(0, 2, 3, 1, 4).flatten(3).contiguous().permute(0, 3, 1, 2)
    filters = weight.mT.flatten(1, 2)[..., None].contiguous()
    return F.conv2d(columns, filters, bias, padding=(padding[0], 0))


class Convolution(nn.Conv2d):
    """`nn.Conv2d` by `convolve`, where that computes it."""

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps, N x filters x h x w, of N x C x H x W."""
        as_convolve = (self.stride, self.dilation, self.groups, self.padding_mode) == ((1, 1), (1, 1), 1, "zeros")
        if not as_convolve or isinstance(self.padding, str):
            return super().forward(images)
        return convolve(images, self.weight, self.bias, (self.padding[0], self.padding[1]), self.training)


def conv_block(channels: int, filters: int, pool: bool = False) -> nn.Sequential:
    """A 3 x 3 convolution that keeps the size, max pooling by 2 if asked for, batch normalisation and ReLU.

    Pooling comes first, since what follows it then has a quarter of the work.
    """
    convolution = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
    pooling = [nn.MaxPool2d(2)] if pool else []
    return nn.Sequential(convolution, *pooling, nn.BatchNorm2d(filters), nn.ReLU(inplace=True))


def check_size(kind: str, name: str, size: tuple[int, int], least: Mapping[str, int]) -> None:
    """Raise UserError where an input of `size` (H, W) is too small for the network `name`.

    `least` says of each network of this kind how many pixels it needs each way; the first that fits is recommended.
    """
    if min(size) < least[name]:
        fits = next((f"; {other} takes that" for other, pixels in least.items() if pixels <= min(size)), "")
        raise UserError(
            f"the {kind} {name} needs {least[name]} x {least[name]} pixels or more and gets {size[0]} x {size[1]}{fits}"
        )


_RANGE = (-0.5, 1.5)
"""Values that images from 0 to 1 may have after some noise; normalised ones, and those up to 255, have others."""


def by(lengths: Sequence[object]) -> str:
    """The lengths of a tensor's axes, or their names, in words: 2 x 1 x 28 x 28."""
    return " x ".join(map(str, lengths))


def check_images(
    reader: str, channels: int | None, size: tuple[int, int] | None, module: nn.Module, given: tuple[object, ...]
) -> None:
    """Raise UserError where what a module is given is not N x C x H x W and floating point, of these channels and size.

    Its first three arguments, of which None allows any, make it a forward pre-hook: `partial(check_images, ...)`.
    """
    if not given:
        return
    wanted, images = (None, channels, *(size or (None, None))), given[0]
    if not isinstance(images, Tensor):
        found = f"a {type(images).__name__}"
    elif images.ndim != 4 or any(length not in (None, has) for length, has in zip(wanted, images.shape, strict=True)):
        found = by(images.shape)
    elif not images.is_floating_point():
        found = f"{by(images.shape)} of {images.dtype}; convert it, as by images.float() / 255"
    else:
        return
    expected = by([letter if length is None else length for letter, length in zip("NCHW", wanted, strict=True)])
    raise UserError(f"{reader} expects a floating-point tensor of {expected}, and was given {found}")


def warn_of_others(size: tuple[int, int], module: nn.Module, given: tuple[Tensor, ...]) -> None:
    """Warn where a network that was trained on images of `size` (H, W), from 0 to 1, is given others.

    `partial(warn_of_others, size)` is a forward pre-hook.
    """
    if torch.compiler.is_compiling() or not given:
        return
    shape = given[0].shape[2:]
    try:
        low, high = (float(value) for value in given[0].aminmax())
    except RuntimeError:  # no images, or nothing that can be looked at: on `meta`, or mapped by torch.func
        return
    if low < _RANGE[0] or high > _RANGE[1]:
        what, others = "pixels from 0 to 1", "others"
        mend = "divide pixels from 0 to 255 by 255, and do not normalise them"
    elif shape != size:
        what, others, mend = f"images of {by(size)} pixels", by(shape), "bring them to that size"
    else:
        return
    warnings.warn(
        f"the network was trained on {what} and was given {others}, which it is likely to misread: {mend}",
        stacklevel=5,  # the caller's line, above torch's
    )
