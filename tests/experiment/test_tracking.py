"""Epochs logged elsewhere, read back by each tracker's own reader: every epoch once, whatever happened to the run."""

import json
import os
import sqlite3
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stn_train.data.images import ImageSet
from stn_train.data.sources import load_images
from stn_train.errors import Stopped, UserError
from stn_train.experiment import runtime as runtime
from stn_train.experiment.run import open_run, run_trials
from stn_train.experiment.runtime import Runtime
from stn_train.experiment.tracking import check_tracker, tracked
from stn_train.run_folder import Diagnostics, RunFolder
from stn_train.specs import ExperimentSpec, TrialSpec, trials_of

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
    train, test = (ImageSet(split.images[:100], split.labels[:100]) for split in load_images("digits"))
    monkeypatch.setattr(runtime, "load_split", lambda source, split, root: {"train": train, "test": test}[split])


def run(path: Path, log: bool = True, stop: float = 3.0, tracker: str = "tensorboard") -> list[Scalars]:
    """Run the trial, until it has done more than `stop` epochs; what TensorBoard's log held after each."""
    folder, read = RunFolder(path), []
    on_cpu = Runtime(torch.device("cpu"))
    open_run(SPEC, [TRIAL], folder, on_cpu)
    progress = run_trials([TRIAL], folder, on_cpu, lambda epochs: epochs > stop)
    try:
        for step in tracked(progress, folder, tracker) if log else progress:
            if log and step.record and tracker == "tensorboard":
                read.append(scalars(path))
    except Stopped:
        assert stop < 3
    return read


def scalars(path: Path) -> Scalars:
    """The steps and the values of each scalar, as they were put there."""
    reader = EventAccumulator(str(path / "tensorboard" / TRIAL.key), purge_orphaned_data=False)
    reader.Reload()
    return {name: [(event.step, event.value) for event in reader.Scalars(name)] for name in reader.Tags()["scalars"]}


def in_metrics(path: Path, trial: TrialSpec = TRIAL) -> Scalars:
    """What metrics.jsonl has in their place."""
    records = RunFolder(path).trial(trial).load_metrics()
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


def side_by_side(path: Path, tracker: str) -> list[TrialSpec]:
    """Run two trials in turn, an epoch each."""
    folder, on_cpu = RunFolder(path), Runtime(torch.device("cpu"))
    trials = [TRIAL, TRIAL.changed(seed=1)]
    in_turn = zip(*(run_trials([trial], folder, on_cpu) for trial in trials), strict=True)
    for _ in tracked((progress for both in in_turn for progress in both), folder, tracker):
        pass
    return trials


def test_trials_side_by_side_have_a_log_each(tmp_path: Path) -> None:
    trials = side_by_side(tmp_path, "tensorboard")
    assert scalars(tmp_path) == in_metrics(tmp_path)
    other = EventAccumulator(str(tmp_path / "tensorboard" / trials[1].key)).Reload()
    losses = [value for _, value in in_metrics(tmp_path, trials[1])["loss"]]
    assert [event.value for event in other.Scalars("loss")] == losses


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
    check_tracker("tensorboard")
    (tmp_path / "tensorboard").mkdir()
    monkeypatch.delitem(sys.modules, "tensorboard")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UserError, match="the package tensorboard is not installed"):
        check_tracker("tensorboard")


def in_trackio(path: Path, key: str) -> Scalars:
    """What Trackio's database of a run's folder holds of a trial's only run there."""
    database = Path(os.environ["TRACKIO_DIR"], f"{path.name}.db")
    with closing(sqlite3.connect(database)) as connection:
        found = connection.execute("select run_name, step, metrics from metrics order by id").fetchall()
    rows = [row for row in found if row[0].startswith(key)]
    assert len({name for name, _, _ in rows}) <= 1
    read: Scalars = {}
    for _, step, metrics in rows:
        for name, value in json.loads(metrics).items():
            read.setdefault(name, []).append((step, value))
    return read


def in_wandb(path: Path, key: str) -> Scalars:
    """What the files of Weights & Biases in a run's folder hold of a trial's only run, written without a network."""
    read: Scalars = {}
    files = sorted((path / "wandb").glob("offline-run-*/run-*.wandb"), key=lambda file: file.stat().st_mtime_ns)
    names = set()
    for file in files:
        records = [*wandb_records(file.read_bytes())]
        if not any(record.run.display_name.startswith(key) for record in records):
            continue
        names.add(file.name)
        for record in records:
            values = {"/".join(one.nested_key) or one.key: one.value_json for one in record.history.item}
            for name in values.keys() - {"_step", "_runtime", "_timestamp"}:
                read.setdefault(name, []).append((record.history.step.num, json.loads(values[name])))
    assert len(names) <= 1
    return read


def wandb_records(data: bytes) -> Iterator[Any]:
    """As LevelDB's logs have them: in blocks of 32 kB, each with its length and 1 (whole) or 2, 3, 4 (first, middle and
    last part)."""
    from wandb.proto.wandb_internal_pb2 import Record

    place, whole = 7, b""
    while place + 7 <= len(data):
        if 0x8000 - place % 0x8000 < 7:
            place += 0x8000 - place % 0x8000
        length, part = struct.unpack_from("<HB", data, place + 4)
        whole, place = whole + data[place + 7 : place + 7 + length], place + 7 + length
        if part in (1, 4):
            yield Record.FromString(whole)
            whole = b""


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("TRACKIO_DIR", str(tmp_path_factory.mktemp("trackio")))  # read once, when it is imported
        yield


def assert_comes_to_hold(tracker: Callable[..., Scalars], path: Path, trial: TrialSpec = TRIAL) -> None:
    """Weights & Biases writes on after it has finished."""
    patience = time.monotonic() + 30
    while tracker(path, trial.key) != in_metrics(path, trial) and time.monotonic() < patience:
        time.sleep(0.1)
    assert tracker(path, trial.key) == in_metrics(path, trial)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("tracker", [in_trackio, in_wandb])
@pytest.mark.slow
def test_trackio_and_wandb_hold_each_epoch_once(tmp_path: Path, tracker: Callable[..., Scalars]) -> None:
    """A run that was begun without logs, stopped twice, finished and asked for again."""
    name = tracker.__name__.removeprefix("in_")
    pytest.importorskip(name)
    run(tmp_path / "once", log=False, stop=1.4)
    for stop in (2.4, 3, 3):
        run(tmp_path / "once", stop=stop, tracker=name)
        time.sleep(1.1)  # Weights & Biases names what it writes by the second
        assert_comes_to_hold(tracker, tmp_path / "once")


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("tracker", [in_trackio, in_wandb])
@pytest.mark.slow
def test_trackio_and_wandb_follow_trials_side_by_side(tmp_path: Path, tracker: Callable[..., Scalars]) -> None:
    name = tracker.__name__.removeprefix("in_")
    pytest.importorskip(name)
    for trial in side_by_side(tmp_path / "together", name):
        assert len(in_metrics(tmp_path / "together", trial)["loss"]) == 3
        assert_comes_to_hold(tracker, tmp_path / "together", trial)
