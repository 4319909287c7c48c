"""Images and their poses, turned about the middle: for test-time augmentation."""

import math

import torch
from torch import Tensor

from stn_train.geometry import HOMOGRAPHY, ROTATION, bilinear_sampler


def turned_images(images: Tensor, degrees: float) -> Tensor:
    """Images, N x C x H x W, turned clockwise, with zeros where they have nothing."""
    height, width = images.shape[-2:]
    theta = torch.tensor([[math.radians(-degrees)]], device=images.device)
    grid = ROTATION.grid(theta, (height, width), width / height)
    return bilinear_sampler(images, grid.expand(len(images), -1, -1, -1))


def turned_poses(poses: Tensor, degrees: float, aspect: float) -> Tensor:
    """True poses, theta N x 9 of all homographies, of images that have been turned clockwise.

    `aspect` is width over height of the images. See `turned_images`: what was to be read at a point of the image is
    now where turning has put that point.
    """
    turn = ROTATION.matrix(torch.tensor([[math.radians(degrees)]], dtype=torch.float64), aspect)
    return HOMOGRAPHY.theta_of(turn @ HOMOGRAPHY.matrix(poses.double())).to(poses.dtype)
