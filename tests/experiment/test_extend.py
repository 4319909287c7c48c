"""`--extend`: a run that is trained on ends as one that had its restart from the start, or says why it cannot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stn_train.data.images import ImageSet
from stn_train.data.sources import load_images
from stn_train.errors import Stopped, UserError
from stn_train.experiment import runtime
from stn_train.experiment.extend import extend
from stn_train.experiment.run import open_run, run_trials
from stn_train.experiment.runtime import Runtime
from stn_train.run_folder import RunFolder
from stn_train.specs import ExperimentSpec, trials_of

CPU = Runtime(torch.device("cpu"))


@pytest.fixture(autouse=True)
def few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps an epoch."""
    train, test = (ImageSet(split.images[:100], split.labels[:100]) for split in load_images("digits"))
    monkeypatch.setattr(runtime, "load_split", lambda source, split, root: {"train": train, "test": test}[split])


def spec(seeds: tuple[int, ...] | list[int] = (0,), **training: Any) -> ExperimentSpec:
    recipe = {"batch_size": 50, "precision": "float32", "curriculum": 0.9, "classifier_delay": 0.4, **training}
    models = [{"name": "small", "base": "st_cnn", "transformer": {"localisation": "fc_paper"}}]
    whole = {"name": "small", "source": "digits", "datasets": ["r"], "models": models, "training": recipe}
    return ExperimentSpec.model_validate({**whole, "parameters": 60_000, "epoch_multiplier": 2, "seeds": list(seeds)})


def train(experiment: ExperimentSpec, folder: RunFolder, stop: Callable[[float], bool] = lambda epochs: False) -> None:
    trials = trials_of(experiment)
    open_run(experiment, trials, folder, CPU)
    for progress in run_trials(trials, folder, CPU, stop):
        assert progress.failure is None, progress.failure


def found(folder: RunFolder, experiment: ExperimentSpec) -> list[bytes]:
    files = folder.trial(trials_of(experiment)[0])
    return [(files.path / name).read_bytes() for name in ("result.json", "metrics.jsonl", "predictions.npz")]


@pytest.mark.parametrize("schedule", ["one_cycle", "steps"])
def test_a_run_that_is_extended_ends_as_one_with_that_restart_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: str
) -> None:
    folder, other = RunFolder(tmp_path / "extended"), RunFolder(tmp_path / "at_one_go")
    train(spec(epochs=1, schedule=schedule), folder)
    longer = extend(spec(epochs=2, schedule=schedule), folder, CPU)
    assert longer.training.restarts == (1,)
    assert not folder.finished(longer)
    with pytest.raises(Stopped):
        train(longer, folder, lambda epochs: epochs > 2.2)
    train(extend(spec(epochs=2, schedule=schedule), folder, CPU), folder)  # the same command again goes on
    train(spec(epochs=2, schedule=schedule, restarts=[1]), other)
    assert found(folder, longer) == found(other, longer)
    rates = [record.lr for record in folder.trial(trials_of(longer)[0]).load_metrics()]
    assert rates[:2] == pytest.approx(rates[2:])
    again = extend(spec(epochs=2, schedule=schedule), folder, CPU)
    assert again.training.restarts == (1,)
    assert folder.finished(again)
    monkeypatch.setattr(runtime, "load_split", lambda source, split, root: pytest.fail("nothing is left to train"))
    extend(spec(epochs=2, schedule=schedule), folder, Runtime(CPU.device))


def test_a_longer_run_is_another_trial_and_is_told_of_extend(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    train(spec(epochs=2), folder)
    with pytest.raises(UserError, match="--extend"):
        train(spec(epochs=3), folder)
    with pytest.raises(UserError, match=r"training\.epochs is 1"):
        extend(spec(epochs=1), folder, CPU)
    with pytest.raises(UserError, match=r"training\.lr"):
        train(extend(spec(epochs=3, lr=0.1), folder, CPU), folder)
    assert folder.finished(spec(epochs=2)), "what was refused has changed nothing"
    with pytest.raises(UserError, match=r"config\.yaml"):
        extend(spec(epochs=3), RunFolder(tmp_path / "nowhere"), CPU)


def _no_digits(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    def load_split(source: object, split: object, root: object) -> ImageSet:
        raise UserError("no digits")

    monkeypatch.setattr(runtime, "load_split", load_split)
    return {}


def _no_checkpoint(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    for path in folder.trial(trials_of(spec(seeds=[0, 1], epochs=1))[1]).path.glob("checkpoint*.pt"):
        path.unlink()
    return {}


def _busy(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr("stn_train.experiment.extend.is_locked", lambda path: path.name == "seed-1")
    return {}


@pytest.mark.parametrize(
    ("why", "named"),
    [
        (lambda folder, monkeypatch: {"lr": 0.1}, "training.lr"),
        (lambda folder, monkeypatch: {"seeds": [0]}, "seed-1"),
        (lambda folder, monkeypatch: {"train_size": 100_000}, "train_size"),
        (_no_digits, "no digits"),
        (_no_checkpoint, "seed-1"),
        (_busy, "seed-1"),
    ],
    ids=["other recipe", "other seeds", "too few digits", "no digits", "no checkpoint", "busy"],
)
def test_what_cannot_be_extended_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: Any, named: str
) -> None:
    folder, both = RunFolder(tmp_path), spec(seeds=[0, 1], epochs=1)
    train(both, folder)
    changed = why(folder, monkeypatch)
    held = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UserError) as refused:
        extend(spec(**{"seeds": [0, 1], "epochs": 2} | changed), folder, Runtime(CPU.device))
    assert named in str(refused.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == held
    assert len(folder.finished(both)) == 2


@pytest.mark.parametrize("restarts", [[3], [2, 1], [1, 1]])
def test_restarts_ascend_and_come_before_the_end(restarts: list[int]) -> None:
    with pytest.raises(ValueError, match="restarts"):
        spec(epochs=3, restarts=restarts)
