"""True poses: the way back of every distortion, as far as an image shows it."""

import pytest
import torch
from made_up import draw_of, spec_of
from torch import Tensor

from stn_train.data.datasets import render
from stn_train.data.distortion import Distortion, true_poses
from stn_train.data.images import ImageSet
from stn_train.geometry import PROJECTIVE, pixel_grid
from stn_train.geometry.families import HORIZON
from stn_train.models.network import build_model
from stn_train.specs import ModelSpec

SPEC = spec_of("p_literal")
Distorted = tuple[ImageSet, Distortion]


@pytest.fixture(scope="module")
def distorted(real_digits) -> Distorted:
    """10,000 digits or more, of some of which the middle of the frame is out of sight."""
    test = real_digits[1]
    digits = ImageSet(test.images, test.labels, repeats=-(-10_000 // len(test)))
    drawn = draw_of(SPEC, digits, split="test")
    last = torch.linalg.inv(PROJECTIVE.matrix(drawn.theta.double()))[:, 2, 2]
    assert int((last <= 0).sum()) > 4
    return digits, drawn


def posed(images: Tensor, poses: Tensor) -> Tensor:
    """What a transformer that is given the poses makes of images: N x 28 x 28."""
    spec = {"name": "oracle", "base": "st_fcn", "transformer": {"pose": "oracle"}}
    network = build_model(ModelSpec.model_validate(spec), SPEC.canvas)
    with torch.no_grad():
        return network.front(images, poses)[:, 0]


def shown(poses: Tensor) -> Tensor:
    """How much of each pixel of the frame is read from the canvas: N x 28 x 28, from 0 to 1."""
    return posed(torch.ones(len(poses), 1, *SPEC.canvas), poses)


def test_where_a_frame_is_in_sight_its_pose_reads_and_where_it_is_not_nothing_is_read(distorted):
    """Each point of the frame is followed to the canvas by the inverse matrix, and seen if its depth is positive.

    But for those few whose coordinates there are nearly 0 by 0.
    """
    theta = distorted[1].theta
    frame = pixel_grid((28, 28), theta.double()).flatten(0, 1)
    there = (
        torch.cat([frame, torch.ones_like(frame[:, :1])], dim=1)
        @ torch.linalg.inv(PROJECTIVE.matrix(theta.double())).mT
    )
    place, depth = there[..., :2] / there[..., 2:], there[..., 2]
    told = (there.abs() > 2 * HORIZON).any(dim=-1)
    assert float(told.double().mean()) > 0.9999
    white = shown(true_poses(SPEC, theta)).flatten(1)
    assert bool((white[(place.abs() < 0.95).all(dim=-1) & (depth > 2 * HORIZON)] > 0.999).all())
    assert not bool(white[told & ((place.abs() > 1.05).any(dim=-1) | (depth <= 0))].any())


def test_every_digit_that_is_in_sight_comes_back_like_itself(distorted):
    digits, drawn = distorted
    poses = true_poses(SPEC, drawn.theta)
    parts = torch.arange(len(drawn.theta)).split(1000)
    back = torch.cat([posed(render(SPEC, digits, (drawn,), index), poses[index]) for index in parts])
    originals = digits.images[:, 0].repeat(digits.repeats, 1, 1).float() / 255
    whole = ((shown(poses) > 0.999) | (originals == 0)).flatten(1).all(dim=1)
    assert float(whole.double().mean()) > 0.7
    one, other = back[whole].flatten(1), originals[whole].flatten(1)
    alike = (one * other).sum(dim=1) / (one.norm(dim=1) * other.norm(dim=1))
    assert float((alike > 0.8).double().mean()) > 0.99, "but for what two interpolations blur"
