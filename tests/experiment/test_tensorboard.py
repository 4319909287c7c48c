"""Logs for TensorBoard, read back with its own reader: every epoch once, whatever happened to the run."""

import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stn_train.data.sources import Digits, load_digits
from stn_train.errors import Stopped, UserError
from stn_train.experiment import runtime as runtime
from stn_train.experiment.run import open_run, run_trials
from stn_train.experiment.runtime import Runtime
from stn_train.experiment.tensorboard import check_installed, logged
from stn_train.run_folder import Diagnostics, RunFolder
from stn_train.specs import ExperimentSpec, trials_of

SPEC = ExperimentSpec.model_validate(
    {
        "name": "small",
        "source": "digits",
        "datasets": ["r"],
        "models": [{"name": "row", "classifier": "cnn", "transformer": {"before": [0, 0]}}],
        "parameters": 60_000,
        "training": {"epochs": 3, "batch_size": 50},
    }
)
TRIAL = trials_of(SPEC)[0]
Scalars = dict[str, list[tuple[int, float]]]


@pytest.fixture(autouse=True)
def few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps an epoch."""
    train, test = (Digits(split.images[:100], split.labels[:100]) for split in load_digits("digits"))
    monkeypatch.setattr(runtime, "load_split", lambda source, split, root: {"train": train, "test": test}[split])


def run(path: Path, log: bool = True, stop: float = 3.0) -> list[Scalars]:
    """Run the trial, until it has done more than `stop` epochs; what its log held after each."""
    folder, read = RunFolder(path), []
    on_cpu = Runtime(torch.device("cpu"))
    open_run(SPEC, [TRIAL], folder, on_cpu)
    progress = run_trials([TRIAL], folder, on_cpu, lambda epochs: epochs > stop)
    try:
        for step in logged(progress, folder) if log else progress:
            if log and step.record:
                read.append(scalars(path))
    except Stopped:
        assert stop < 3
    return read


def scalars(path: Path) -> Scalars:
    """The steps and the values of each scalar, as they were put there."""
    reader = EventAccumulator(str(path / "tensorboard" / TRIAL.key), purge_orphaned_data=False)
    reader.Reload()
    return {name: [(event.step, event.value) for event in reader.Scalars(name)] for name in reader.Tags()["scalars"]}


def in_metrics(path: Path) -> Scalars:
    """What metrics.jsonl has in their place."""
    records = RunFolder(path).trial(TRIAL).load_metrics()
    found = {name: [(one.epoch, getattr(one, name)) for one in records] for name in ("error", "loss", "lr")}
    for number in (0, 1):
        for name in Diagnostics.model_fields:
            values = [(one.epoch, getattr(one.transformers[number], name)) for one in records]
            found[f"transformer_{number + 1}/{name}"] = values
    return {name: [(epoch, pytest.approx(value)) for epoch, value in values] for name, values in found.items()}


def test_every_epoch_is_logged_when_it_is_done_and_changes_no_result(tmp_path: Path) -> None:
    read = run(tmp_path / "with")
    assert [[epoch for epoch, _ in of_run["loss"]] for of_run in read] == [[1], [1, 2], [1, 2, 3]]
    assert read[-1] == in_metrics(tmp_path / "with")
    run(tmp_path / "without", log=False)
    for name in ("result.json", "metrics.jsonl", "predictions.npz"):
        with_, without = (tmp_path / folder / "trials" / TRIAL.key / name for folder in ("with", "without"))
        assert with_.read_bytes() == without.read_bytes()


@pytest.mark.parametrize("log", [True, False])
def test_stopped_and_taken_up_again_it_holds_each_epoch_once(tmp_path: Path, log: bool) -> None:
    run(tmp_path, log, stop=1.9)
    run(tmp_path)
    assert scalars(tmp_path) == in_metrics(tmp_path)
    assert len(scalars(tmp_path)["loss"]) == 3


def test_trials_side_by_side_have_a_log_each(tmp_path: Path) -> None:
    folder, on_cpu = RunFolder(tmp_path), Runtime(torch.device("cpu"))
    trials = [TRIAL, TRIAL.changed(seed=1)]
    in_turn = zip(*(run_trials([trial], folder, on_cpu) for trial in trials), strict=True)
    for _ in logged((progress for both in in_turn for progress in both), folder):
        pass
    assert scalars(tmp_path) == in_metrics(tmp_path)
    other = EventAccumulator(str(tmp_path / "tensorboard" / trials[1].key)).Reload()
    losses = [record.loss for record in folder.trial(trials[1]).load_metrics()]
    assert [event.value for event in other.Scalars("loss")] == pytest.approx(losses)


def test_what_was_finished_before_is_logged_once_too(tmp_path: Path) -> None:
    run(tmp_path, log=False)
    files = RunFolder(tmp_path).trial(TRIAL)
    for lost in ((), (), (files.result,)):  # as it is; again; killed before it wrote its result
        for file in lost:
            file.unlink()
        run(tmp_path)
        assert scalars(tmp_path) == in_metrics(tmp_path)
        assert len(scalars(tmp_path)["loss"]) == 3


def test_a_folder_of_its_name_is_not_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()
    (tmp_path / "tensorboard").mkdir()
    monkeypatch.delitem(sys.modules, "tensorboard")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UserError, match="the package tensorboard is not installed"):
        check_installed()
