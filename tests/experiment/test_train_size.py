"""What a trial is given to train on when it asks for few digits."""

from typing import Any

import pytest
import torch

from stn_train.data.datasets import FixedDataset, OnlineDataset, hold_out
from stn_train.data.sources import load_digits
from stn_train.experiment.runtime import Runtime, load_trial_data
from stn_train.specs import ExperimentSpec, trials_of


def loaded(digits: int | None, **keys: Any) -> tuple[OnlineDataset, FixedDataset]:
    """What is trained on, which is as many digits as is said, and the fixed images."""
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
    training, count, fixed = load_trial_data(trials_of(spec)[0], Runtime(torch.device("cpu")))
    assert isinstance(training, OnlineDataset)
    assert len(training.digits) == count
    return training, fixed


def images(training: OnlineDataset) -> set[bytes]:
    """The digits that it trains on."""
    return {image.numpy().tobytes() for image in training.digits.images}


def test_all_digits_are_those_of_the_source_as_they_are() -> None:
    training, _ = load_digits("digits")
    everything, _ = loaded(None)
    assert torch.equal(everything.digits.images, training.images)
    assert everything.digits.repeats == training.repeats


@pytest.mark.parametrize("validation", [False, True])
def test_few_digits_shorten_the_epoch_in_proportion_and_keep_what_is_reported_on(validation: bool) -> None:
    (everything, all_fixed), (few, fixed) = (loaded(digits, validation=validation) for digits in (None, 200))
    assert len(few.digits) == 200
    assert len(few) / len(everything) == len(few.digits) / len(everything.digits)
    assert torch.equal(fixed.images, all_fixed.images)
    assert images(few) < images(everything)


def test_held_out_digits_are_not_among_the_few() -> None:
    training, _ = load_digits("digits")
    _, held = hold_out(training)
    most, _ = loaded(len(training) - len(held), validation=True)
    assert not images(most) & {image.numpy().tobytes() for image in held.images}


def test_clutter_is_cut_from_the_few() -> None:
    few, _ = loaded(100)
    lit = few.digits.images.clone()
    few.digits.images.zero_()
    dark = next(few.batches(0, 0, 256)).images
    few.digits.images.copy_(lit)
    assert dark.max() == 0, "nothing is seen but these digits and what is cut from them"
    assert next(few.batches(0, 0, 256)).images.max() > 0.9
