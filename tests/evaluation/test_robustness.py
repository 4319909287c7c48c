"""Quantities that are held: they are the same for every image, and nothing else changes."""

import numpy as np
import pytest
import torch

from stn_train.data.datasets import FixedDataset
from stn_train.data.distortion import Distortion, sample_distortion
from stn_train.data.images import ImageSet
from stn_train.data.sources import load_images
from stn_train.evaluation.classify import Predictions
from stn_train.evaluation.metrics import LEVELS, held, trained_range
from stn_train.evaluation.robustness import robustness_of
from stn_train.models.network import build_model
from stn_train.specs import DATASETS, DatasetSpec, ExperimentSpec, ModelSpec, TrialSpec, trials_of

_, TEST = load_images("digits")
FEW = TEST.subset(torch.arange(50))


def predictions(fixed: FixedDataset, wrong: torch.Tensor) -> Predictions:
    """Of a network that gets just these images wrong."""
    predicted = torch.where(wrong, (fixed.labels + 1) % 10, fixed.labels)
    return Predictions(torch.zeros(len(wrong), 10), predicted, (), 0.0)


def trial_of(source: str, dataset: object, **model: object) -> TrialSpec:
    spec = {"source": source, "models": [{"name": "mine", "base": "cnn", **model}], "datasets": [dataset]}
    return trials_of(ExperimentSpec.model_validate({"name": "asked", **spec}))[0]


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
        assert trained_range(trial_of("mnist", kept), factor) == (level, level)


def test_the_range_of_training_is_what_the_network_saw():
    assert trained_range(trial_of("mnist", "rts"), "rotation") == (-45, 45)
    assert trained_range(trial_of("mnist", "rts", rotation_augmentation=180), "rotation") == (-180, 180)
    assert trained_range(trial_of("mnist_rot", "plain"), "rotation") == (-180, 180)
    assert trained_range(trial_of("mnist_rot", "plain"), "scale") == (1, 1)
    assert trained_range(trial_of("./photos", "plain"), "rotation") is None, "who knows how they were taken?"
    assert trained_range(trial_of("./photos", "rotation"), "rotation") == (-45, 45)


def test_of_a_network_that_errs_at_some_angles_these_are_found_and_each_image_counts_once():
    """It errs on images 3 and 5 at 45 degrees and on 5 at 60, and reads the angle off how each was distorted."""

    def predict(dataset: DatasetSpec, fixed: FixedDataset) -> Predictions:
        degrees = torch.rad2deg(torch.atan2(fixed.theta[:, 1], fixed.theta[:, 0]))
        number = torch.arange(len(fixed))
        at_45, at_60 = ((degrees - angle).abs() < 0.01 for angle in (45, 60))
        return predictions(fixed, ((number == 3) & at_45) | ((number == 5) & (at_45 | at_60)))

    found = robustness_of(DatasetSpec.model_validate("rts"), FEW, "test", predict)
    points = [point for point in found.points if point.factor == "rotation"]
    assert {point.level: point.errors for point in points if point.errors} == {45: 2, 60: 1}
    assert found.wrong_at_some_angle == 2
    assert len(points) == 24
    assert all(point.images == len(FEW) for point in points)


@pytest.mark.parametrize(("canvas", "asked"), [(28, LEVELS.keys() - {"translation"}), (30, LEVELS.keys())])
def test_what_changes_no_image_says_nothing_of_a_network(canvas, asked):
    """A digit's frame of 28 x 28 pixels has no room on a canvas of as many."""
    dataset = DatasetSpec.model_validate({"name": "full", "canvas": canvas, "placement": "frame"})
    found = robustness_of(dataset, FEW, "test", lambda _, fixed: predictions(fixed, torch.zeros(len(fixed)).bool()))
    assert {point.factor for point in found.points} == asked


@pytest.mark.parametrize("localisation", ["equivariant", "conv"])
@torch.no_grad()
def test_what_an_untrained_equivariant_network_predicts_is_the_same_at_every_angle(localisation):
    """As far as its classifier reads no coordinates, which tell the angle; and another network's is not.

    Exactly at quarter turns, elsewhere up to what reading between the pixels of 8 x 8 digits changes.
    """
    transformer = {"family": "similarity", "localisation": localisation}
    spec = ModelSpec.model_validate({"name": "a", "classifier": "cnn", "transformer": transformer})
    torch.manual_seed(0)
    network = build_model(spec, (44, 44), 60_000).eval()
    first: list[torch.Tensor] = []

    def predict(dataset: DatasetSpec, fixed: FixedDataset) -> Predictions:
        logits = network(fixed.images.float() / 255)
        first.append(logits)
        even = (logits - first[0].mean(dim=0)) / first[0].std(dim=0)  # else it predicts one class of all
        at_first = ((first[0] - first[0].mean(dim=0)) / first[0].std(dim=0)).argmax(dim=1)
        return predictions(fixed, (even.argmax(dim=1) != at_first)[: len(fixed.labels)])

    dataset = DatasetSpec.model_validate({"name": "wide", "canvas": 44})
    digits = ImageSet(FEW.images, FEW.labels)
    points = robustness_of(dataset, digits, "test", predict).points
    differ = torch.tensor([point.errors / point.images for point in points if point.factor == "rotation"])
    if localisation == "equivariant":
        assert differ[::6].tolist() == [0, 0, 0, 0]
        assert differ.max() < 0.5
    else:
        assert differ[6::6].min() > 0.5
