"""What a trial is given to train on when it asks for few digits."""

from typing import Any

import pytest
import torch

from stn_train.data.datasets import OnlineDataset, hold_out
from stn_train.data.sources import load_digits
from stn_train.experiment.runtime import Runtime, TrialData, load_trial_data
from stn_train.specs import ExperimentSpec, trials_of


def problem(digits: int | None, **keys: Any) -> TrialData:
    spec = ExperimentSpec.model_validate(
        {
            "name": "few",
            "source": "digits",
            "datasets": ["tc"],
            "models": ["cnn"],
            "training": {"train_size": digits},
            **keys,
        }
    )
    return load_trial_data(trials_of(spec)[0], Runtime(torch.device("cpu")))


def images(problem: TrialData) -> set[bytes]:
    """The digits that it trains on."""
    assert isinstance(problem.training, OnlineDataset)
    assert len(problem.training.digits) == problem.training_digits
    return {image.numpy().tobytes() for image in problem.training.digits.images}


def test_all_digits_are_those_of_the_source_as_they_are() -> None:
    training, _ = load_digits("digits")
    everything = problem(None)
    assert isinstance(everything.training, OnlineDataset)
    assert torch.equal(everything.training.digits.images, training.images)
    assert everything.training.digits.repeats == training.repeats


@pytest.mark.parametrize("validation", [False, True])
def test_few_digits_keep_the_epoch_and_what_is_reported_on(validation: bool) -> None:
    everything, few = (problem(digits, validation=validation) for digits in (None, 200))
    assert few.training_digits == 200
    assert len(few.training) == pytest.approx(len(everything.training), rel=0.05)
    assert torch.equal(few.fixed.images, everything.fixed.images)
    assert images(few) < images(everything)


def test_held_out_digits_are_not_among_the_few() -> None:
    training, _ = load_digits("digits")
    _, held = hold_out(training)
    most = problem(len(training) - len(held), validation=True)
    assert not images(most) & {image.numpy().tobytes() for image in held.images}


def test_clutter_is_cut_from_the_few() -> None:
    few = problem(100).training
    assert isinstance(few, OnlineDataset)
    lit = few.digits.images.clone()
    few.digits.images.zero_()
    dark = next(few.batches(0, 0, 256)).images
    few.digits.images.copy_(lit)
    assert dark.max() == 0, "nothing is seen but these digits and what is cut from them"
    assert next(few.batches(0, 0, 256)).images.max() > 0.9
