"""Distortions that grow while a network learns: how they begin, how they end, and what lies between."""

import numpy as np
import pytest
import torch
from made_up import first, spec_of

from stn_train.data.batches import FreshData
from stn_train.data.distortion import distortion_family, draw
from stn_train.data.ink import Ink

CPU = torch.device("cpu")
NAMES = ["r", "rts", "shear", "p", "e", "tc", "addition"]


def images(spec, digits, epoch, **options):
    together, *_ = FreshData.of(spec, digits, CPU, **options).batches(0, epoch, len(digits))
    return together.images


@pytest.mark.parametrize("name", NAMES)
def test_all_of_a_distortion_is_the_distortion(name):
    assert spec_of(name).eased(1.0) == spec_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_none_of_a_distortion_leaves_the_digit_as_it_is(real_digits, name):
    digits, spec = first(real_digits[0], 40), spec_of(name).eased(0.0)
    for drawn in draw(spec, digits, Ink.of(digits), 0, "train"):
        assert np.all(drawn.rotation == 0)
        assert np.all(drawn.scale == 1)
        assert np.all(drawn.shear == 0)
        frames = distortion_family(spec).grid(drawn.theta, (28, 28), 1.0)
        assert (frames[:, 1:, 1:] - frames[:, :-1, :-1] - spec.canvas[0] / 28 * 2 / 28).abs().max() < 1e-5


@pytest.mark.parametrize(("name", "share"), [("rts", 0.25), ("shear", 0.5), ("p", 0.5), ("e", 0.3), ("tc", 0.75)])
def test_a_distortion_is_shortened_along_its_own_way(real_digits, name, share):
    digits, spec = first(real_digits[0], 40), spec_of(name)
    ink = Ink.of(digits)
    (less,), (whole,), (none,) = (draw(spec.eased(part), digits, ink, 3, "train") for part in (share, 1.0, 0.0))
    assert less.rotation == pytest.approx(share * whole.rotation)
    assert less.shear == pytest.approx(share * whole.shear)
    assert spec.scale is None or np.all((less.scale >= spec.scale[0] ** share) & (less.scale <= spec.scale[1] ** share))
    far, near = ((drawn.theta - none.theta).norm(dim=1) for drawn in (whole, less))
    assert (near < far).float().mean() > 0.9
    assert (near > 0).all()


@pytest.mark.parametrize("name", ["rts", "addition"])
def test_training_images_are_distorted_more_from_epoch_to_epoch_until_all_is_there(real_digits, name):
    digits, spec = first(real_digits[0], 40), spec_of(name)
    for epoch, share in enumerate((0.0, 0.25, 0.5, 0.75, 1.0, 1.0)):
        assert torch.equal(images(spec, digits, epoch, grown=4), images(spec.eased(share), digits, epoch))
    assert torch.equal(images(spec, digits, 4, grown=4), images(spec, digits, 4))
    assert not torch.equal(images(spec, digits, 3, grown=4), images(spec, digits, 3))
