"""Localisation networks: from images or feature maps, N x C x H x W, to a family's theta, N x p.

Each is built from a family, the size (H, W) and the channels of what it reads, and raises UserError where that is too
small for it.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from stn_train.errors import UserError
from stn_train.geometry import ROTATION, SIMILARITY, Family
from stn_train.models.blocks import Convolution, check_images, check_size, conv_block
from stn_train.models.transformer import ThetaHead

Localisation = Callable[[Family, tuple[int, int], int], nn.Module]
"""What makes a localisation network: f(family, size (H, W), channels)."""

_LEAST = {"conv_paper": 28, "conv": 8, "keypoints": 8, "fc_paper": 1}
"""How many pixels each needs, height and width; the preferred ones first."""


def conv(family: Family, size: tuple[int, int], channels: int) -> nn.Sequential:
    """Four 3 x 3 convolutions of 32 filters, halved thrice; theta is read off their feature maps linearly.

    Without a hidden layer between, where something lies is one matrix product away from how far to move.
    """
    check_size("localisation network", "conv", size, _LEAST)
    height, width = (side // 8 for side in size)
    return _made_for(
        channels,
        size,
        nn.AvgPool2d(2),
        conv_block(channels, 32, pool=True),
        conv_block(32, 32, pool=True),
        conv_block(32, 32),
        conv_block(32, 32),
        nn.Flatten(),
        ThetaHead(32 * height * width, family),
    )


def keypoints(family: Family, size: tuple[int, int], channels: int) -> nn.Sequential:
    """Four 3 x 3 convolutions on the input halved and pooled once; theta is linear in the 16 keypoints of the last."""
    from stn_train.models.localisation_parts import SpatialSoftArgmax  # of few models, as all that lies there

    check_size("localisation network", "keypoints", size, _LEAST)
    return _made_for(
        channels,
        None,
        nn.AvgPool2d(2),
        conv_block(channels, 32, pool=True),
        conv_block(32, 32),
        conv_block(32, 32),
        nn.Conv2d(32, 16, 3, padding=1),
        SpatialSoftArgmax(),
        ThetaHead(32, family),
    )


def conv_paper(family: Family, size: tuple[int, int], channels: int) -> nn.Sequential:
    """The paper's (appendix A): the input halved, two 5 x 5 convolutions of 20 filters, then 20 units."""
    check_size("localisation network", "conv_paper", size, _LEAST)
    height, width = ((side // 2 - 4) // 2 - 4 for side in size)
    return _made_for(
        channels,
        size,
        nn.AvgPool2d(2),
        Convolution(channels, 20, 5),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Conv2d(20, 20, 5),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(20 * height * width, 20),
        nn.ReLU(inplace=True),
        ThetaHead(20, family),
    )


def fc_paper(family: Family, size: tuple[int, int], channels: int) -> nn.Sequential:
    """The paper's for its fully connected classifier (appendix A): three hidden layers of 32 units."""
    return _made_for(
        channels,
        size,
        nn.Flatten(),
        nn.Linear(channels * size[0] * size[1], 32),
        nn.ReLU(inplace=True),
        nn.Linear(32, 32),
        nn.ReLU(inplace=True),
        nn.Linear(32, 32),
        nn.ReLU(inplace=True),
        ThetaHead(32, family),
    )


def equivariant(family: Family, size: tuple[int, int], channels: int) -> nn.Module:
    """Centre and size of the ink, and an angle from its polar image: see equivariant.py. For similarities and
    rotations, of any size."""
    from stn_train.models.equivariant import EquivariantLocalisation  # of few models

    return _read_off(EquivariantLocalisation(channels, family), "equivariant", family, channels)


def moments(family: Family, size: tuple[int, int], channels: int) -> nn.Module:
    """Centre, size and principal axis of the ink; nothing is learnt: see equivariant.py. For similarities and
    rotations, of any size."""
    from stn_train.models.equivariant import MomentsLocalisation

    return _read_off(MomentsLocalisation(family), "moments", family, channels)


def _read_off(network: nn.Module, name: str, family: Family, channels: int) -> nn.Module:
    if family not in (SIMILARITY, ROTATION):
        raise UserError(
            f"the localisation network {name} predicts similarities or rotations, not the family {family.name}"
        )
    network.register_forward_pre_hook(partial(check_images, "the localisation network", channels, None))
    return network


def _made_for(channels: int, size: tuple[int, int] | None, *layers: nn.Module) -> nn.Sequential:
    """Layers in a row that refuse other channels, and other sizes (H, W) where they are made for one."""
    network = nn.Sequential(*layers)
    network.register_forward_pre_hook(partial(check_images, "the localisation network", channels, size))
    return network


def bounded(localisation: Localisation, bound: float) -> Localisation:
    """A localisation network whose theta a BoundedTheta keeps near the identity."""
    from stn_train.models.localisation_parts import BoundedTheta

    return lambda family, size, channels: nn.Sequential(
        localisation(family, size, channels), BoundedTheta(family, bound)
    )


def frozen(localisation: Localisation) -> Localisation:
    """A localisation network that does not learn."""
    from stn_train.models.localisation_parts import Frozen

    return lambda family, size, channels: Frozen(localisation(family, size, channels))


LOCALISATIONS: dict[str, Localisation] = {
    "conv": conv,
    "keypoints": keypoints,
    "conv_paper": conv_paper,
    "fc_paper": fc_paper,
    "equivariant": equivariant,
    "moments": moments,
}
"""Our localisation networks by name; specs/models.py has the same names."""


def default_localisation(size: tuple[int, int]) -> Localisation:
    """`conv`, or where the feature map is too small for it, `fc_paper`."""
    return conv if min(size) >= _LEAST["conv"] else fc_paper
