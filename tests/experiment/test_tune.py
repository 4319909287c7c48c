"""Tuning: as many settings for each model, told by validation digits alone; the same ones however often it stops."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from stn_train.config import load_config
from stn_train.data.images import ImageSet
from stn_train.data.sources import load_images
from stn_train.errors import Stopped, TrialError, UserError
from stn_train.experiment import run as run_module
from stn_train.experiment import runtime
from stn_train.experiment.runtime import Runtime
from stn_train.experiment.tune import Setting, on_one_dataset, tune, winners
from stn_train.run_folder import RunFolder, TrialResult
from stn_train.specs import ExperimentSpec, TrialSpec, trials_of

TRIALS = 7
"""So many that the last ones are not drawn at random."""
MODELS = {"cnn_paper": False, "st_cnn_paper": True, "st_cnn_paper-identity": False}
"""By name whether a localisation network learns."""
ON_CPU = Runtime(torch.device("cpu"))


def spec(**changes: Any) -> ExperimentSpec:
    identity = {"name": "st_cnn_paper-identity", "base": "st_cnn_paper", "transformer": {"pose": "identity"}}
    keys = {"name": "small", "source": "digits", "datasets": ["r"], "parameters": 20_000, "seeds": [3, 4]}
    training = {"epochs": 2, "batch_size": 64}
    models = ["cnn_paper", "st_cnn_paper", identity]
    return ExperimentSpec.model_validate({**keys, "models": models, "training": training, **changes})


@pytest.fixture(scope="module", autouse=True)
def few_training_digits() -> Iterator[None]:
    """A step an epoch; whoever reads the test digits fails."""
    training, _ = load_images("digits")
    few = {"train": ImageSet(training.images[:96], training.labels[:96])}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "load_split", lambda source, split, root: few[split])
        yield


def tried(
    folder: Path,
    trials: int = TRIALS,
    after_step: Callable[[float], bool] = lambda epochs: False,
    experiment: ExperimentSpec | None = None,
) -> list[Setting]:
    steps = tune(experiment or spec(), trials, 1, folder, ON_CPU, after_step)
    return [step for step in steps if isinstance(step, Setting)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, list[Setting]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, tried(folder)


def test_each_model_is_tried_as_often_and_first_as_it_was(undisturbed):
    _, settings = undisturbed
    assert [(one.number, one.model) for one in settings] == [(n, model) for n in range(TRIALS) for model in MODELS]
    for first in settings[: len(MODELS)]:
        assert (first.lr, first.weight_decay) == (0.003, 0.01)
        assert first.localisation_lr == (0.05 if MODELS[first.model] else None)
    for model, localises in MODELS.items():
        values = {(one.lr, one.weight_decay, one.localisation_lr) for one in settings if one.model == model}
        assert len(values) == TRIALS
        assert all((localisation_lr is not None) == localises for *_, localisation_lr in values)


def test_a_setting_is_an_ordinary_trial_on_validation_digits(undisturbed):
    folder, settings = undisturbed
    for setting in settings:
        run = RunFolder(folder / f"trial-{setting.number:03}")
        experiment = run.load_experiment()
        (trial,) = (trial for trial in trials_of(experiment) if trial.model.name == setting.model)
        result = run.trial(trial).load(TrialResult, run.trial(trial).result)
        assert result.trial == trial
        assert (result.split, result.error, trial.seed) == ("validation", setting.error, 3)
        assert (trial.training.lr, trial.training.weight_decay) == (setting.lr, setting.weight_decay)
        assert trial.training.epochs == 1


def test_the_best_is_a_configuration_that_trains_by_it(undisturbed):
    folder, settings = undisturbed
    experiment, best = load_config(str(folder / "tuned.yaml")), winners(settings)
    assert (experiment.name, experiment.validation, experiment.seeds) == ("small-tuned", False, (3, 4))
    for trial in trials_of(experiment):
        winner = best[trial.model.name]
        assert winner.loss == min(one.loss for one in settings if one.model == trial.model.name)
        assert (trial.training.lr, trial.training.weight_decay) == (winner.lr, winner.weight_decay)
        assert trial.training.localisation_lr == (winner.localisation_lr or trial.training.localisation_lr)
        assert trial.training.epochs == 2
    assert [model.tuned.trials for model in experiment.models if model.tuned] == [TRIALS] * len(MODELS)


def test_what_was_tried_is_a_table(undisturbed):
    folder, settings = undisturbed
    lines = (folder / "tried.csv").read_text().splitlines()
    assert lines[0] == "number,model,lr,localisation_lr,weight_decay,error"
    assert len(lines) == 1 + len(settings)


def test_stopped_again_and_again_it_tries_the_same(undisturbed, tmp_path):
    folder, settings = undisturbed
    for steps in (0, 1, 4, 8):
        left = iter(range(steps))
        with pytest.raises(Stopped):
            tried(tmp_path, after_step=lambda epochs, left=left: next(left, None) is None)
        assert not (tmp_path / "tuned.yaml").exists()
    assert tried(tmp_path) == settings
    assert (tmp_path / "tuned.yaml").read_bytes() == (folder / "tuned.yaml").read_bytes()


def test_with_more_trials_it_searches_on(undisturbed, tmp_path):
    _, settings = undisturbed
    fewer = 2 * len(MODELS)
    assert tried(tmp_path, 2) == settings[:fewer]
    trained: list[float] = []
    assert tried(tmp_path, 3, lambda epochs: bool(trained.append(epochs))) == settings[: 3 * len(MODELS)]
    assert trained == [1.0] * len(MODELS)


def test_another_recipe_is_refused_in_the_same_folder(tmp_path):
    tried(tmp_path, 2)
    with pytest.raises(UserError, match="batch_size was 64 and is 32; name another folder by --output-dir"):
        tried(tmp_path, 2, experiment=spec(training={"batch_size": 32}))


def failing(monkeypatch, fails: Callable[[TrialSpec], bool]) -> None:
    as_it_is = run_module.run_trial

    def run_trial(trial, *others):
        if fails(trial):
            raise TrialError("the loss is not finite")
        return as_it_is(trial, *others)

    monkeypatch.setattr(run_module, "run_trial", run_trial)


def test_a_setting_that_diverges_loses(tmp_path, monkeypatch):
    failing(monkeypatch, lambda trial: trial.training.lr == 0.003)
    settings = tried(tmp_path, 3)
    assert [one.error for one in settings[: len(MODELS)]] == [None] * len(MODELS)
    assert all(one.number > 0 and one.error is not None for one in winners(settings).values())
    assert (tmp_path / "tuned.yaml").exists()


def test_where_every_setting_of_a_model_fails_there_is_none_to_write(tmp_path, monkeypatch):
    failing(monkeypatch, lambda trial: trial.model.name == "cnn_paper")
    with pytest.raises(TrialError, match="no setting of cnn_paper could be trained"):
        tried(tmp_path, 2)
    assert not (tmp_path / "tuned.yaml").exists()


def test_tuned_again_the_settings_of_both_searches_count(tmp_path):
    experiment = spec(
        models=[
            {"name": "cnn_paper", "base": "cnn_paper", "tuned": {"trials": 12, "lr": 0.01, "elastic_augmentation": 0.5}}
        ]
    )
    assert tried(tmp_path, 2, experiment=experiment)[0].lr == 0.01
    (model,) = load_config(str(tmp_path / "tuned.yaml")).models
    assert model.tuned is not None
    assert model.tuned.trials == 14
    assert model.tuned.elastic_augmentation == 0.5, "not searched for"


def test_no_learning_rate_below_the_least_is_tried(tmp_path):
    least = spec(models=["cnn_paper"], training={"epochs": 1, "batch_size": 64, "lr": 1e-12})
    assert all(setting.lr >= 1e-12 for setting in tried(tmp_path, 4, experiment=least))


def test_models_are_tuned_on_one_dataset():
    several = spec(datasets=["r", "rts"])
    assert [dataset.name for dataset in on_one_dataset(several, "rts").datasets] == ["rts"]
    assert on_one_dataset(spec(), None) == on_one_dataset(spec(), "r") == spec()
    with pytest.raises(UserError, match="choose one of r, rts"):
        on_one_dataset(several, None)
    with pytest.raises(UserError, match="--dataset rtss: small has no such dataset; did you mean 'rts'"):
        on_one_dataset(several, "rtss")
