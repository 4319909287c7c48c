"""What a network may be given: all else is told in a sentence, in place of a library's error or of wrong answers."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stn_train.errors import UserError

_RANGE = (-0.5, 1.5)
"""Values that images from 0 to 1 may have after some noise; normalised ones, and those up to 255, have others."""


def by(lengths: Sequence[object]) -> str:
    """The lengths of a tensor's axes, or their names, in words: 2 x 1 x 28 x 28."""
    return " x ".join(map(str, lengths))


def check_images(reader: str, images: object, channels: int | None = None, size: tuple[int, int] | None = None) -> None:
    """Raise UserError where images are not N x C x H x W and floating point, or not of these channels and this size."""
    wanted = (None, channels, *(size or (None, None)))
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


@dataclass(frozen=True)
class Expected:
    """A forward pre-hook that refuses what a module was not made for: see `check_images`."""

    reader: str
    channels: int
    size: tuple[int, int] | None

    def __call__(self, module: nn.Module, given: tuple[object, ...]) -> None:
        if given:
            check_images(self.reader, given[0], self.channels, self.size)


def warn_of_range(module: nn.Module, given: tuple[Tensor, ...]) -> None:
    """A forward pre-hook of networks that were trained on images from 0 to 1: warns where they are given others."""
    if torch.compiler.is_compiling() or not given:
        return
    try:
        low, high = (float(value) for value in given[0].aminmax())
    except RuntimeError:  # no images, or nothing that can be looked at: on `meta`, or mapped by torch.func
        return
    if low < _RANGE[0] or high > _RANGE[1]:
        warnings.warn(
            "the network was trained on pixels from 0 to 1 and was given others, which it is likely to misread: divide "
            "pixels from 0 to 255 by 255, and do not normalise them",
            stacklevel=5,  # the caller's line, above torch's
        )
