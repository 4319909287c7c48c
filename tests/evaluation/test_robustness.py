"""Quantities that are held: they are the same for every image, and nothing else changes."""

import numpy as np
import pytest
import torch

from stn_train.data.distortion import Distortion, sample_distortion
from stn_train.data.sources import load_digits
from stn_train.evaluation.metrics import LEVELS, held, trained_range
from stn_train.specs import DATASETS, DatasetSpec

_, TEST = load_digits("digits")
FEW = TEST.subset(torch.arange(50))


def drawn(spec: DatasetSpec) -> Distortion:
    return sample_distortion(spec, FEW, 0, "test")[0]


@pytest.mark.parametrize("name", ["plain", "rts", "tc", "e"])
@pytest.mark.parametrize(("factor", "quantity"), [("rotation", "rotation"), ("scale", "scale")])
def test_what_is_held_is_the_same_for_every_image_and_the_rest_as_before(name, factor, quantity):
    spec = DatasetSpec.model_validate(name)
    level = LEVELS[factor][1]
    before, after = drawn(spec), drawn(held(spec, factor, level))
    assert (getattr(after, quantity) == level).all()
    for other in {"rotation", "scale", "shear"} - {quantity}:
        assert np.array_equal(getattr(after, other), getattr(before, other))
    if before.clutter is not None:
        assert torch.equal(after.clutter, before.clutter)


@pytest.mark.parametrize(("name", "rounding"), [("rts_wide", 0.0), ("rts", 0.5)])
def test_a_shift_from_corner_to_corner_is_halved_in_the_middle(name, rounding):
    spec = DatasetSpec.model_validate(name)
    low, middle, high = (drawn(held(spec, "translation", level)).shift for level in (-1.0, 0.0, 1.0))
    assert (low < middle).all()
    assert (middle < high).all()
    np.testing.assert_allclose((low + high) / 2, middle, rtol=1e-7, atol=rounding)


@pytest.mark.parametrize("name", ["rts", "tc"])
def test_clutter_has_as_many_patches_as_are_asked_for(name):
    spec = DatasetSpec.model_validate(name)
    assert drawn(held(spec, "clutter", 0)).clutter is None
    assert [drawn(held(spec, "clutter", level)).clutter.shape[1] for level in (2, 16)] == [2, 16]


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("factor", LEVELS)
def test_every_level_is_a_dataset_and_what_is_held_is_the_range(name, factor):
    spec = DatasetSpec.model_validate(name)
    for level in LEVELS[factor]:
        kept = held(spec, factor, level)
        assert DatasetSpec.model_validate(kept.model_dump()) == kept
        assert trained_range(kept, factor) == (level, level)
