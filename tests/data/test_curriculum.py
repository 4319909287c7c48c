"""Distortions that grow while a network learns: how they begin, how they end, and what lies between."""

import numpy as np
import pytest
import torch
from made_up import first, spec_of

from stn_train.data.datasets import OnlineDataset, render
from stn_train.data.distortion import distortion_family, sample_distortion
from stn_train.experiment.runtime import Runtime, load_trial_data
from stn_train.specs import ElasticSpec, ExperimentSpec, PerspectiveSpec, trials_of

CPU = torch.device("cpu")
NAMES = ["r", "rts", "shear", "p", "e", "tc", "addition"]


def images(spec, digits, epoch, **options):
    together, *_ = OnlineDataset(spec, digits, **options).batches(0, epoch, len(digits))
    return together.images


@pytest.mark.parametrize("name", NAMES)
def test_all_of_a_distortion_is_the_distortion(name):
    assert spec_of(name).eased(1.0) == spec_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_none_of_a_distortion_shows_the_digit_upright_in_the_middle(real_digits, name):
    digits, spec = first(real_digits[0], 40), spec_of(name).eased(0.0)
    for drawn in sample_distortion(spec, digits, 0, "train"):
        assert np.all(drawn.rotation == 0)
        assert np.all(drawn.scale == 1)
        assert np.all(drawn.shear == 0)
        frames = distortion_family(spec).grid(drawn.theta, spec.canvas, 1.0)
        assert (frames[:, 1:, 1:] - frames[:, :-1, :-1] - 2 / 28).abs().max() < 1e-5
        if spec.translation is None or spec.placement == "frame":
            assert np.all(drawn.shift == 0)
        else:
            bare = spec.model_copy(update={"clutter": None, "addition": False})
            ink = render(bare, digits, (drawn,), torch.arange(40))[:, 0] > 0
            for across in (1, 2):
                inked = ink.any(dim=across).int()
                before, after = inked.argmax(dim=1), inked.flip(1).argmax(dim=1)
                assert (before - after).abs().max() <= 1


def test_a_distortion_is_shortened_to_its_share():
    rts = spec_of("rts").eased(0.25)
    assert rts.rotation == (-11.25, 11.25)
    assert rts.scale == pytest.approx((0.7**0.25, 1.2**0.25))
    assert rts.translation == (-0.25, 0.25)
    assert spec_of("shear").eased(0.5).shear == (-22.5, 22.5)
    corners, elastic = spec_of("p").eased(0.5).perspective, spec_of("e").eased(0.5).elastic
    assert corners == PerspectiveSpec(std=2.5, direction="diagonal")
    assert elastic == ElasticSpec(std=0.75)
    assert spec_of("tc").eased(0.5).clutter == spec_of("tc").clutter


@pytest.mark.parametrize("name", ["translation", "tc_wide", "r"])
def test_each_image_goes_its_own_way_in_even_steps(real_digits, name):
    """Not another distortion at each share: the same one, gone further."""
    digits, spec = first(real_digits[0], 40), spec_of(name)
    (none,), (less,), (whole,) = (sample_distortion(spec.eased(share), digits, 3, "train") for share in (0.0, 0.3, 1.0))
    assert less.rotation == pytest.approx(0.3 * whole.rotation)
    if name != "r":
        assert less.shift - none.shift == pytest.approx(0.3 * (whole.shift - none.shift))
        assert np.abs(whole.shift - none.shift).max() > 5


@pytest.mark.parametrize("name", ["rts", "addition"])
def test_training_images_are_distorted_more_from_epoch_to_epoch_until_all_is_there(real_digits, name):
    digits, spec = first(real_digits[0], 40), spec_of(name)
    for epoch, share in enumerate((0.0, 0.25, 0.5, 0.75, 1.0, 1.0)):
        assert torch.equal(images(spec, digits, epoch, grown=4), images(spec.eased(share), digits, epoch))
    assert torch.equal(images(spec, digits, 4, grown=4), images(spec, digits, 4))
    assert not torch.equal(images(spec, digits, 3, grown=4), images(spec, digits, 3))


@pytest.mark.parametrize(
    ("epochs", "curriculum", "grown"), [(10, 0.6, 6), (10, 0.0, 0), (2, 0.6, 1), (1, 0.6, 0), (4, 1.0, 3)]
)
def test_a_trial_trains_on_distortions_that_grow_as_its_recipe_says(epochs, curriculum, grown):
    """And sees all of them in its last epoch at the latest; a classifier that trains longer has them grow longer."""
    spec = ExperimentSpec.model_validate(
        {
            "name": "growing",
            "source": "digits",
            "datasets": ["rts"],
            "models": ["cnn", "fcn"],
            "epoch_multiplier": {"fcn": 5},
            "training": {"epochs": epochs, "curriculum": curriculum, "elastic_augmentation": 1.5},
        }
    )
    cnn, fcn = (load_trial_data(trial, Runtime(CPU))[0] for trial in trials_of(spec))
    assert cnn.elastic_augmentation == fcn.elastic_augmentation == 1.5
    assert cnn.grown == pytest.approx(grown)
    assert fcn.grown == pytest.approx(min(5 * epochs * curriculum, 5 * epochs - 1))
