"""`localisation_from`: another network starts from a trained localisation network, and keeps it where it is frozen."""

from pathlib import Path
from typing import Any

import pytest
import torch

from stn_train.data.images import ImageSet
from stn_train.data.sources import load_images
from stn_train.errors import UserError
from stn_train.experiment import runtime
from stn_train.experiment.load import load_trained
from stn_train.experiment.run import open_run, run_trials
from stn_train.experiment.runtime import Runtime
from stn_train.experiment.trial import network_of
from stn_train.models.transformer import SpatialTransformer
from stn_train.run_folder import RunFolder, TrialFolder
from stn_train.specs import ExperimentSpec, TrialSpec, trials_of
from stn_train.training.checkpoint import restore_localisation

CPU = Runtime(torch.device("cpu"))
Weights = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps an epoch."""
    train, test = (ImageSet(split.images[:100], split.labels[:100]) for split in load_images("digits"))
    monkeypatch.setattr(runtime, "load_split", lambda source, split, root: {"train": train, "test": test}[split])


def trial_of(classifier: str = "fcn", ema_decay: float = 0.5, **transformer: Any) -> tuple[ExperimentSpec, TrialSpec]:
    """A trial with a localisation network that has batch normalisation."""
    model = {"name": "mine", "classifier": classifier, "transformer": {"family": "similarity", **transformer}}
    recipe = {"epochs": 2, "batch_size": 50, "ema_decay": ema_decay, "localisation_lr": 1.0}
    whole = {"name": "small", "source": "digits", "datasets": ["r"], "models": [model], "training": recipe}
    experiment = ExperimentSpec.model_validate({**whole, "parameters": 60_000})
    return experiment, trials_of(experiment)[0]


def train(path: Path, experiment: ExperimentSpec) -> TrialFolder:
    folder, trials = RunFolder(path), trials_of(experiment)
    open_run(experiment, trials, folder, CPU)
    for progress in run_trials(trials, folder, CPU):
        assert progress.failure is None, progress.failure
    return folder.trial(trials[0])


def learnt(checkpoint: Path) -> Weights:
    """The localisation network's, of the weights that are evaluated."""
    return localisation(load_trained(checkpoint, CPU).network.transformer)


def localisation(transformer: torch.nn.Module | None) -> Weights:
    assert isinstance(transformer, SpatialTransformer)
    state = transformer.localisation.state_dict()
    return {name.removeprefix("module."): tensor.clone() for name, tensor in state.items()}


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("ema_decay", [0.0, 0.5])
def test_a_frozen_localisation_network_is_the_checkpoints_to_the_end(tmp_path: Path, ema_decay: float) -> None:
    source = train(tmp_path / "source", trial_of(ema_decay=ema_decay, localisation="conv")[0]).checkpoint
    keys: dict[str, Any] = {"classifier": "cnn", "ema_decay": ema_decay, "localisation_from": str(source)}
    frozen = train(tmp_path / "frozen", trial_of(freeze=True, **keys)[0])
    assert same(learnt(frozen.checkpoint), learnt(source))
    assert frozen.load_metrics()[-1].loss < frozen.load_metrics()[0].loss, "the classifier learns"
    free = train(tmp_path / "free", trial_of(**keys)[0])
    assert not same(learnt(free.checkpoint), learnt(source))
    again = train(tmp_path / "again", trial_of(freeze=True, **keys | {"localisation_from": str(frozen.checkpoint)})[0])
    assert same(learnt(again.checkpoint), learnt(source)), "from one that was frozen itself"


def test_it_starts_from_what_is_evaluated_and_needs_the_file_no_longer_when_it_has_finished(tmp_path: Path) -> None:
    source = train(tmp_path / "source", trial_of()[0]).checkpoint
    experiment, trial = trial_of(classifier="cnn", localisation_from=str(source))
    network = network_of(trial, CPU)
    assert not same(localisation(network.transformer), learnt(source))
    restore_localisation(network, trial.model)
    assert same(localisation(network.transformer), learnt(source))
    finished = train(tmp_path / "run", experiment).checkpoint
    source.unlink()
    learnt(finished)


def test_another_networks_checkpoint_is_refused_before_training(tmp_path: Path) -> None:
    source = str(train(tmp_path / "source", trial_of()[0]).checkpoint)
    for told, transformer in {
        "its family is similarity": {"family": "affine"},
        "its localisation is conv": {"localisation": "keypoints"},
        "its bounds is None": {"bounds": 0.5},
    }.items():
        with pytest.raises(UserError, match=told):
            train(tmp_path / "run", trial_of(localisation_from=source, **transformer)[0])
    with pytest.raises(UserError, match=r"nowhere\.pt is missing"):
        train(tmp_path / "run", trial_of(localisation_from="nowhere.pt")[0])
    oracle = str(train(tmp_path / "oracle", trial_of(pose="oracle")[0]).checkpoint)
    with pytest.raises(UserError, match="no localisation network"):
        train(tmp_path / "run", trial_of(localisation_from=oracle)[0])
    assert not (tmp_path / "run/trials").exists()
