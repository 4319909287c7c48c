"""What several networks are made of, and how they refuse an input that is too small for them."""

from collections.abc import Mapping

from torch import nn

from stn_train.errors import UserError


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
        fits = next(other for other, pixels in least.items() if pixels <= min(size))
        raise UserError(
            f"the {kind} {name} needs {least[name]} x {least[name]} pixels or more and gets {size[0]} x {size[1]}; "
            f"{fits} takes that"
        )
