"""Whether a network needs its theta, and what theta tells by itself."""

import math

import pytest
import torch

from stn_train.data.datasets import make_fixed_dataset
from stn_train.data.sources import load_images
from stn_train.evaluation.alignment import alignment_metrics
from stn_train.evaluation.classify import class_from_theta, classify
from stn_train.models.network import build_model
from stn_train.specs import DatasetSpec, ModelSpec

CPU = torch.device("cpu")
_, TEST = load_images("digits")
R = DatasetSpec.model_validate("r")
FIXED, *_ = make_fixed_dataset(R, TEST.subset(torch.arange(120)), "test")
LABELS = torch.randint(0, 10, (400,), generator=torch.Generator().manual_seed(1))
DIGIT = torch.arange(400)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_model(ModelSpec.model_validate("st_cnn"), R.canvas, 60_000).eval()


@pytest.mark.parametrize("name", ["st_cnn", "st_cnn_equivariant"])
def test_with_its_own_theta_a_network_predicts_what_it_does(name):
    torch.manual_seed(0)
    network = build_model(ModelSpec.model_validate(name), R.canvas, 60_000).eval()
    found = classify(network, FIXED.images, CPU, "float32")
    again = classify(network, FIXED.images, CPU, "float32", theta=found.thetas[0])
    assert torch.equal(again.logits, found.logits)
    assert torch.equal(again.thetas[0], found.thetas[0])


def test_one_that_does_the_same_to_every_image_loses_nothing_by_swapping(network):
    found = classify(network, FIXED.images, CPU, "float32")
    alignment = alignment_metrics(R, FIXED, network, found.thetas, CPU, "float32")
    assert alignment.swapped_error == pytest.approx(float((found.predicted != FIXED.labels).double().mean()))


def test_a_theta_that_shows_nothing_leaves_one_class(network):
    away = torch.tensor([[0.01, 0.0, 5.0, 0.0, 0.01, 5.0]]).expand(len(FIXED), -1)
    blank = network(torch.zeros(1, 1, *R.canvas)).argmax()
    assert (classify(network, FIXED.images, CPU, "float32", theta=away).predicted == blank).all()


def test_theta_that_is_the_class_tells_it_whatever_its_units():
    theta = torch.stack([1000 * LABELS.double().cos(), 1e-3 * LABELS.double().sin()], dim=1)
    assert class_from_theta(theta, LABELS, DIGIT) == 1
    assert class_from_theta(theta, 9 - LABELS, DIGIT) == 1, "whatever the classes are called"


def test_theta_by_chance_tells_it_as_often_as_guessing():
    theta = torch.randn(4000, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 10, (4000,), generator=torch.Generator().manual_seed(1))
    told = class_from_theta(theta, labels, torch.arange(4000))
    assert abs(told - 0.1) < 4 * math.sqrt(0.1 * 0.9 / 2000)


def test_a_digit_is_never_told_by_itself():
    """Eight images of each digit have one theta, which no other digit has: among others, that tells nothing."""
    of_a_digit = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    theta, digit = of_a_digit.repeat(8, 1), torch.arange(400).repeat(8)
    assert class_from_theta(theta, LABELS.repeat(8), digit) < 0.25


def test_of_few_images_nothing_is_told():
    assert class_from_theta(torch.zeros(20, 2), torch.zeros(20, dtype=torch.long), torch.arange(20)) is None
