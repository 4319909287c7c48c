"""Digits bent in their own frame before they are distorted, as if by another hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_up import first, spec_of
from scipy.ndimage import center_of_mass, map_coordinates
from torch.nn.functional import pad

from stn_train.data.datasets import OnlineDataset, render
from stn_train.data.distortion import sample_distortion
from stn_train.data.images import ImageSet
from stn_train.geometry import thin_plate_spline

CPU = torch.device("cpu")
REGULAR = torch.tensor(thin_plate_spline(4).identity)


def images_of(spec, digits, elastic_augmentation, seed=0, epoch=0):
    draws = sample_distortion(spec, digits, seed, "train", epoch, elastic_augmentation)
    return render(spec, digits, draws, torch.arange(len(draws[0].theta)))


def test_control_points_are_off_by_a_normal_of_so_many_pixels(real_digits):
    digits = first(real_digits[0], 500, repeats=4)
    (drawn,) = sample_distortion(spec_of("plain"), digits, 0, "train", elastic_augmentation=0.5)
    assert drawn.elastic_theta is not None
    pixels = 14 * (drawn.elastic_theta - REGULAR)
    assert pixels.shape == (2000, 32)
    assert pixels.mean().abs() < 0.01
    assert abs(pixels.std() - 0.5) < 0.01
    assert np.abs(np.corrcoef(pixels.T.numpy()) - np.eye(32)).max() < 0.1


def test_each_image_shows_its_digit_read_at_the_splines_places_and_moved_back(real_digits):
    digits = first(real_digits[0], 20)
    (drawn,) = sample_distortion(spec_of("plain"), digits, 0, "train", elastic_augmentation=1.0)
    images = render(spec_of("plain"), digits, (drawn,), torch.arange(20))
    places = thin_plate_spline(4).grid(drawn.elastic_theta, (28, 28))
    for number in range(20):
        digit = digits.images[number, 0].double().numpy() / 255
        x, y = (14 * places[number].double().numpy() + 13.5).transpose(2, 0, 1)
        bent = map_coordinates(digit, [y, x], order=1, mode="grid-constant")
        down, right = np.subtract(center_of_mass(bent), center_of_mass(digit))
        expected = map_coordinates(digit, [y + down, x + right], order=1, mode="grid-constant")
        assert np.abs(images[number, 0].numpy() - expected).max() < 1e-4


@pytest.mark.parametrize("canvas", [60, [56, 72]])
@pytest.mark.parametrize("size", [(36, 36), (36, 48), (48, 36)])  # with room, so that no ink is bent out of the frame
def test_the_inks_centre_stays_about_where_it_is(real_digits, canvas, size):
    """MNIST puts it near the frame's middle; where digits are turned about that, it tells which way is up."""
    height, width = size
    spec = spec_of(canvas=canvas, placement="frame", whole_pixels=False)
    digits = first(real_digits[0], 50)
    padded = pad(digits.images, [(width - 28) // 2, (width - 28) // 2, (height - 28) // 2, (height - 28) // 2])
    digits = replace(digits, images=padded)

    def centres(elastic_augmentation):
        images = images_of(spec, digits, elastic_augmentation)
        return np.array([center_of_mass(image.numpy()) for image in images[:, 0]])

    off = np.linalg.norm(centres(1.0) - centres(0.0), axis=1)  # in pixels; 0.6 in the median, were it not put back
    assert np.median(off) < 0.1
    assert off.max() < 0.4


@pytest.mark.parametrize("name", ["rts", "p", "e", "tc", "addition"])
def test_bending_changes_the_digit_and_not_where_it_is_put(real_digits, name):
    digits, spec = first(real_digits[0], 30), spec_of(name)
    bent, straight = (sample_distortion(spec, digits, 0, "train", 1, pixels) for pixels in (1.0, 0.0))
    for one, other in zip(bent, straight, strict=True):
        assert torch.equal(one.theta, other.theta)
        assert other.elastic_theta is None
    assert not torch.equal(images_of(spec, digits, 1.0), images_of(spec, digits, 0.0))


def test_every_seed_epoch_channel_and_showing_has_a_hand_of_its_own(real_digits):
    digits = ImageSet(real_digits[0].images[:1].expand(3, 1, 28, 28), torch.zeros(3, dtype=torch.int64), repeats=2)
    elastic_thetas = [
        elastic_theta
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
        for drawn in sample_distortion(spec_of("addition"), digits, seed, "train", epoch, 1.0)
        for elastic_theta in drawn.elastic_theta
    ]
    assert len({elastic_theta.numpy().tobytes() for elastic_theta in elastic_thetas}) == 3 * 2 * 6


@pytest.mark.parametrize("name", ["rts", "p", "e"])
def test_images_are_the_same_under_autocast(real_digits, name):
    data = OnlineDataset(spec_of(name), first(real_digits[0], 20), elastic_augmentation=1.0)
    plain, *_ = data.batches(0, 0, 20)
    with torch.autocast("cpu", torch.bfloat16):
        under, *_ = data.batches(0, 0, 20)
    assert torch.equal(plain.images, under.images)


@pytest.mark.parametrize("name", ["rts", "addition"])
def test_training_reads_the_same_bent_images_whatever_the_batch(real_digits, name):
    data = OnlineDataset(spec_of(name), first(real_digits[0], 60), elastic_augmentation=1.0)
    together, *_ = data.batches(0, 0, 60)
    parts = torch.cat([batch.images for batch in data.batches(0, 0, 7)])
    assert torch.equal(together.images[: len(parts)], parts)
    plain, *_ = OnlineDataset(spec_of(name), first(real_digits[0], 60)).batches(0, 0, 60)
    assert torch.equal(plain.labels, together.labels)
    assert not torch.equal(plain.images, together.images)
