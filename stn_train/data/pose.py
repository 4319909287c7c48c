"""The true pose of what an image shows: the map that would undo its distortion."""

import torch
from torch import Tensor

from stn_train.data.distortion import distortion_family
from stn_train.geometry import HOMOGRAPHY, MatrixFamily
from stn_train.specs import DatasetSpec


def true_poses(spec: DatasetSpec, theta: Tensor) -> Tensor:
    """Theta, M x 9 of all homographies, of the maps from the digit's frame to the canvas, both normalised.

    `theta` (M x p) is the distortion's, the way back. A transformer with these thetas puts out the digit's frame; what
    of that lies behind the canvas's horizon, where no image shows it, is left blank.
    """
    family = distortion_family(spec)
    assert isinstance(family, MatrixFamily)
    return HOMOGRAPHY.theta_of(torch.linalg.inv(family.matrix(theta.double()))).float()
