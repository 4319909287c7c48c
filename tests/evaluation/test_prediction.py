"""What is said of a single image: probabilities, and how its transformer turns, resizes and moves what is seen."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stn_train.evaluation.classify import rotated_images
from stn_train.evaluation.prediction import Transformation, predict_image
from stn_train.geometry import AFFINE, ATTENTION, FAMILIES, PROJECTIVE, ROTATION, SCALE, TRANSLATION, Family
from stn_train.models.network import Network
from stn_train.models.transformer import SpatialTransformer

IMAGE = torch.randint(0, 256, (1, 42, 42), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


class Constant(nn.Module):
    """A localisation network that gives one theta."""

    def __init__(self, theta: list[float]) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.theta.expand(len(images), -1)


def seen(family: Family, theta: Any, image: torch.Tensor = IMAGE) -> Transformation:
    transformer = SpatialTransformer(Constant([float(number) for number in theta]), family, (20, 20))
    network = Network(transformer, nn.Sequential(nn.Flatten(), nn.Linear(400, 3)))
    (found,) = predict_image(network, image)[1]
    return found


def told(found: Transformation) -> Any:
    return pytest.approx((found.rotation, found.scale, found.x, found.y), abs=1e-3)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_identity_changes_nothing(name):
    assert told(seen(FAMILIES[name], FAMILIES[name].identity)) == (0, 1, 0, 0)


@pytest.mark.parametrize("image", [IMAGE, IMAGE[:, :21]], ids=["square", "wide"])
def test_each_family_does_what_its_numbers_say(image):
    half = image.shape[1] / 2
    assert told(seen(TRANSLATION, (0.5, -0.25), image)) == (0, 1, -0.5 * half, 0.25 * half)
    assert told(seen(SCALE, (0.5,), image)) == (0, 2, 0, 0)
    assert told(seen(ROTATION, (math.radians(30),), image)) == (-30, 1, 0, 0)


def test_scaled_and_moved_at_once_it_moves_before_it_is_resized():
    assert told(seen(ATTENTION, (0.5, 1 / 21, 2 / 21))) == (0, 2, -1, -2)


def test_a_projection_is_told_by_the_affine_map_next_to_it():
    found = seen(PROJECTIVE, (1, 0, 0, 0, 1, 0, 0.05, 0))
    assert (found.rotation, found.y) == pytest.approx((0, 0), abs=1e-3)
    assert 0.9 < found.scale < 1.1


def test_rotated_clockwise_is_what_the_eye_sees():
    """The output of a transformer that turns by so much is the image turned by so much."""
    angle = math.radians(-90)
    theta = [math.cos(angle), -math.sin(angle), 0, math.sin(angle), math.cos(angle), 0]
    image = torch.zeros(1, 20, 20, dtype=torch.uint8)
    image[0, 2:6, 3:9] = 255
    found = seen(AFFINE, theta, image)
    assert found.rotation == pytest.approx(90, abs=1e-3)
    clockwise = rotated_images(image[None].float() / 255, 90)[0].numpy()
    assert np.allclose(found.output, clockwise, atol=1e-4)
    assert np.allclose(found.output[0], np.rot90(image[0].numpy() / 255, -1), atol=1e-4)


def test_probabilities_are_those_of_the_logits():
    network = Network(None, nn.Sequential(nn.Flatten(), nn.Linear(42 * 42, 3)))
    probabilities, transformations = predict_image(network, IMAGE)
    with torch.no_grad():
        expected = network(IMAGE[None].float() / 255).softmax(dim=1)[0].numpy()
    assert np.allclose(probabilities, expected, atol=1e-6)
    assert probabilities.sum() == pytest.approx(1)
    assert transformations == ()
