"""Rotated MNIST, made anew: which digits are in which part, by what angles they are turned, and how they are shown."""

import math

import numpy as np
import pytest
import torch

from stn_train.config import load_config
from stn_train.data import datasets, sources
from stn_train.data.images import ImageSet
from stn_train.data.sources import load_images
from stn_train.errors import UserError
from stn_train.experiment.runtime import load_trial_data, open_runtime
from stn_train.specs import SOURCES, baseline_of, trials_of

COUNT, TRAIN, TEST = 700, 120, 500
BOTH = ("mnist_rot", "mnist_rot_centred")
CONFIG = ["name=mine", "datasets=[rotation]", "parameters=null"]


@pytest.fixture
def hands(monkeypatch):
    """700 made-up digits in place of MNIST's: hands of a clock that point to the right, each labelled by its number.

    Each is as bright as its number says; its ink's centre lies beside the frame's middle, as that of MNIST's digits.
    """
    y, x = torch.meshgrid(*[torch.arange(28) - 13.5] * 2, indexing="ij")
    labels = torch.arange(COUNT)
    hand = ((x > 0) & (x < 11) & (y.abs() < 2)) | (x.square() + y.square() < 9)
    images = hand * (50 + labels % 200).byte()[:, None, None, None]
    parts = {"train": ImageSet(images[:600], labels[:600]), "test": ImageSet(images[600:], labels[600:])}
    monkeypatch.setattr(sources, "load_known", lambda _, part, root: parts[part])
    for name in BOTH:
        monkeypatch.setitem(SOURCES, name, SOURCES[name] | {"counts": (TRAIN, TEST)})


def angles(images: torch.Tensor) -> np.ndarray:
    """Where the hands point, in degrees, clockwise as seen: they reach far to one side."""
    y, x = torch.meshgrid(*[torch.arange(28) - 13.5] * 2, indexing="ij")
    far = images[:, 0].double() * (x.square() + y.square())
    down, across = (far * y).sum(dim=(1, 2)), (far * x).sum(dim=(1, 2))
    return torch.atan2(down, across).rad2deg().numpy()


@pytest.mark.parametrize("name", BOTH)
def test_the_parts_of_rotated_mnist_share_no_digit_and_are_whole(hands, name):
    train, test = load_images(name)
    assert (len(train), len(test)) == (TRAIN, TEST)
    assert len(set(train.labels.tolist()) | set(test.labels.tolist())) == TRAIN + TEST
    assert any(label >= 600 for label in train.labels.tolist())  # of MNIST's own test digits


@pytest.mark.parametrize("name", BOTH)
def test_rotated_mnist_keeps_each_digit_its_label(hands, name):
    for split in load_images(name):
        assert torch.equal(split.images.amax(dim=(1, 2, 3)).long(), 50 + split.labels % 200)


def ink_centres(images: torch.Tensor) -> torch.Tensor:
    """How far from the frame's middle the ink's centre lies, in pixels: N x 2, (x, y)."""
    middle, ink = torch.arange(28, dtype=torch.float64) - 13.5, images[:, 0].double()
    mass = ink.sum(dim=(1, 2))
    return torch.stack([ink.sum(dim=1) @ middle / mass, ink.sum(dim=2) @ middle / mass], dim=1)


def test_centred_a_digit_does_not_tell_by_its_place_how_it_was_turned(hands):
    """Turned about the frame's middle, its ink's centre turns with it."""
    for split in load_images("mnist_rot_centred"):
        assert ink_centres(split.images).abs().max() < 0.1, "but for reading between pixels"
    for split in load_images("mnist_rot"):
        centre = ink_centres(split.images).numpy()
        told = np.rad2deg(np.arctan2(centre[:, 1], centre[:, 0])) - angles(split.images)
        assert np.abs((told + 180) % 360 - 180).max() < 1
        np.testing.assert_allclose(np.hypot(*centre.T), np.hypot(*centre.T).mean(), atol=0.1)


def test_both_have_the_same_digits_turned_by_the_same_angles(hands):
    for split, centred in zip(*map(load_images, BOTH), strict=True):
        assert torch.equal(split.labels, centred.labels)
        np.testing.assert_allclose((angles(split.images) - angles(centred.images) + 180) % 360, 180, atol=2)


@pytest.mark.parametrize("name", BOTH)
def test_rotated_mnist_is_the_same_bytes_whatever_the_batches(hands, name, monkeypatch):
    first = load_images(name)
    monkeypatch.setattr(sources, "_BATCH", 7)
    for split, again in zip(first, load_images(name), strict=True):
        assert torch.equal(split.images, again.images)
        assert torch.equal(split.labels, again.labels)


@pytest.mark.parametrize("name", BOTH)
def test_rotated_mnist_is_turned_evenly_all_around_and_the_parts_each_in_their_way(hands, name):
    train, test = (angles(split.images) for split in load_images(name))
    for found in (train, test):
        expected = len(found) / 8
        in_octants, _ = np.histogram(found, bins=8, range=(-180, 180))
        assert np.abs(in_octants - expected).max() < 4 * math.sqrt(expected)
    assert not np.allclose(train, test[:TRAIN], atol=1)


@pytest.mark.parametrize("name", BOTH)
def test_rotated_mnist_turned_again_in_a_test_is_not_turned_by_the_same_angles(hands, name):
    """What turns a source's images must not be what had turned them: the sums would be uneven."""
    _, test = load_images(name)
    spec = load_config("quickstart", ["datasets=[{base: plain, name: again, rotation: 180, placement: frame}]"])
    again, *_ = datasets.make_fixed_dataset(spec.datasets[0], test, "test")
    twice = (angles(again.images) - 2 * angles(test.images)) % 360
    assert np.histogram(twice, bins=8, range=(0, 360))[0].min() > 0


# --- rotation augmentation ----------------------------------------------------------------------------------------


def test_rotation_augmentation_turns_what_is_trained_on_and_no_test():
    models = "models=[cnn, {name: cnn_turned, base: cnn, rotation_augmentation: 180}]"
    plain, turned = trials_of(load_config("quickstart", [*CONFIG, models]))
    runtime = open_runtime("cpu", None, None)
    (data, _, fixed), (data_turned, _, fixed_turned) = (load_trial_data(trial, runtime) for trial in (plain, turned))
    assert torch.equal(fixed.images, fixed_turned.images)
    batch, batch_turned = (next(each.batches(0, 0, 256)) for each in (data, data_turned))
    assert torch.equal(batch.labels, batch_turned.labels)
    assert not torch.equal(batch.images, batch_turned.images)
    assert (data.spec.rotation, data_turned.spec.rotation) == ((-45.0, 45.0), (-180.0, 180.0))


def test_a_transformer_with_rotation_augmentation_is_compared_with_a_classifier_that_has_it():
    models = (
        "models=[cnn, {name: cnn_turned, base: cnn, rotation_augmentation: 180}, "
        "{name: st_turned, base: st_cnn, rotation_augmentation: 180}, st_cnn]"
    )
    spec = load_config("quickstart", [*CONFIG, models])
    cnn, cnn_turned, st_turned, st_cnn = spec.models
    assert (baseline_of(st_turned, spec.models), baseline_of(st_cnn, spec.models)) == (cnn_turned, cnn)


def test_rotation_augmentation_is_refused_where_images_are_prebuilt():
    models = "models=[{name: cnn_turned, base: cnn, rotation_augmentation: 180}]"
    with pytest.raises(UserError, match="rotation_augmentation"):
        load_config("quickstart", [*CONFIG, models, "prebuilt=somewhere"])
