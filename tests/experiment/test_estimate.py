"""How long trials are expected to take: measured for every kind of trial, without the digits that they ask for."""

from typing import Any

import pytest
import torch

from stn_train.data.images import ImageSet
from stn_train.data.prebuilt import build_prebuilt
from stn_train.data.sources import load_images
from stn_train.experiment.estimate import plan, seconds_of_epoch
from stn_train.experiment.runtime import Runtime
from stn_train.run_folder import RunFolder
from stn_train.specs import ExperimentSpec, TrialSpec, trials_of

CPU = Runtime(torch.device("cpu"), data_root="/nowhere")


def trial_of(**keys: Any) -> TrialSpec:
    """A trial of MNIST, which is not there."""
    small = {"name": "a", "datasets": ["r"], "models": ["fcn"], "parameters": 60_000, "training": {"batch_size": 64}}
    return trials_of(ExperimentSpec.model_validate({**small, **keys}))[0]


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"validation": True, "datasets": ["addition"]},
        {"training": {"batch_size": 64, "curriculum": 0.5, "train_size": 200, "elastic_augmentation": 1.0}},
        {"recipe": "paper", "models": [{"name": "turned", "base": "st_fcn", "tta_angles": [10]}]},
        {"models": [{"name": "oracle", "base": "st_cnn", "transformer": {"pose": "oracle"}}], "parameters": None},
    ],
    ids=lambda keys: ", ".join(keys),
)
def test_every_kind_of_trial_is_measured_without_its_digits(keys):
    assert 0 < seconds_of_epoch(trial_of(**keys), CPU) < float("inf")


def test_on_prebuilt_data_sets_too(tmp_path):
    train, test = (ImageSet(digits.images[:200], digits.labels[:200]) for digits in load_images("digits"))
    trial = trial_of(prebuilt=str(tmp_path))
    build_prebuilt(trial.dataset, trial.source, {"train": train, "test": test}, tmp_path)
    assert seconds_of_epoch(trial, Runtime(torch.device("cpu"), prebuilt=str(tmp_path))) > 0


def test_a_trial_takes_its_epochs_and_a_cell_its_seeds(tmp_path):
    experiment = ExperimentSpec.model_validate(
        {"name": "a", "datasets": ["r"], "models": ["fcn"], "training": {"epochs": 30}, "seeds": [0, 1, 2]}
    )
    (cell,) = plan(trials_of(experiment), RunFolder(tmp_path), CPU)
    assert cell.seconds_left == pytest.approx(3 * cell.seconds_per_trial)
    assert list(tmp_path.iterdir()) == [], "nothing is written"


def test_more_images_and_more_evaluation_take_longer():
    """A source of 60,000 digits against one of 1,800, each shown ten times: far beyond what timing could blur."""
    large, small = (seconds_of_epoch(trial_of(source=source), CPU) for source in ("mnist", "digits"))
    assert large > small
