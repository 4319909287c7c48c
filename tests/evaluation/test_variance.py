"""Class means: of the right images, whatever the batch; and the share of what varies that lies within classes."""

import pytest
import torch
from torch import nn

from stn_train.evaluation import classify
from stn_train.evaluation.classify import class_means, within_classes

CPU = torch.device("cpu")


@pytest.mark.parametrize("size", [1, 4, 100])
def test_means_are_those_of_each_class_before_and_after(monkeypatch, size):
    monkeypatch.setattr(classify, "BATCH", size)
    images = torch.randint(0, 256, (11, 1, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = torch.arange(11) % 3
    before, after = class_means(nn.AvgPool2d(2), images, labels, 4, CPU)
    for label in range(3):
        mean = (images[labels == label].float() / 255).mean(dim=0)
        torch.testing.assert_close(before[label], mean)
        torch.testing.assert_close(after[label], nn.functional.avg_pool2d(mean, 2))
    assert not before[3].any()
    assert not after[3].any()


def images_of(*rows: list[int]) -> torch.Tensor:
    """One image of 1 x 2 pixels each."""
    return torch.tensor(rows, dtype=torch.uint8).view(-1, 1, 1, 2)


def shares(images: torch.Tensor, labels: list[int]) -> tuple[float | None, float | None]:
    return within_classes(nn.AvgPool2d(1), images, torch.tensor(labels), max(labels) + 1, CPU)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_within_and_between_classes_is_all_that_varies(monkeypatch, size):
    monkeypatch.setattr(classify, "BATCH", size)
    images = torch.randint(0, 256, (40, 1, 5, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = torch.arange(40) % 4
    share, of_output = within_classes(nn.AvgPool2d(5), images, labels, 4, CPU)
    vectors = images.flatten(1).double()
    vectors = vectors / vectors.norm(dim=1)[:, None]
    within = sum((vectors[labels == k] - vectors[labels == k].mean(0)).square().sum() for k in range(4))
    assert share == pytest.approx(float(within / (vectors - vectors.mean(0)).square().sum()), abs=1e-5)
    assert of_output is None, "a single pixel of norm 1 is the same for all"


def test_where_all_images_of_a_class_are_one_nothing_varies_within():
    images = images_of([200, 0], [100, 0], [0, 7], [0, 70])
    assert shares(images, [0, 0, 1, 1]) == pytest.approx((0, 0), abs=1e-6), "brightness does not count"


def test_where_classes_have_the_same_mean_everything_varies_within():
    assert shares(images_of([9, 0], [0, 9], [9, 0], [0, 9]), [0, 0, 1, 1]) == pytest.approx((1, 1), abs=1e-6)


def test_blank_images_are_not_taken_for_alike():
    assert shares(images_of([0, 0], [0, 0]), [0, 1]) == (1, 1)


def test_images_that_are_all_one_have_no_share():
    assert shares(images_of([5, 5], [50, 50]), [0, 1]) == (None, None)
