"""Trials side by side: the same bytes as one after another, whatever happens to workers; and who trains which trial."""

import os
import pickle
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest
import torch

from stn_train import storage
from stn_train.data.images import ImageSet
from stn_train.data.sources import load_images
from stn_train.errors import Stopped
from stn_train.experiment import runtime as runtime
from stn_train.experiment.estimate import CellPlan, duration
from stn_train.experiment.executors import LOST, Job, Message, Processes, Setup, run_side_by_side, work
from stn_train.experiment.run import RunProgress, open_run, run_trials
from stn_train.experiment.runtime import Runtime
from stn_train.run_folder import RunFolder
from stn_train.specs import ExperimentSpec, trials_of
from stn_train.storage import folder_lock, worker_in

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))
from undisturbed import assert_undisturbed

SPEC = ExperimentSpec.model_validate(
    {
        "name": "small",
        "source": "digits",
        "datasets": ["r"],
        "models": ["st_fcn", "fcn"],
        "parameters": 50_000,
        "seeds": [0, 1],
        "training": {"epochs": 3, "batch_size": 64},
    }
)
TRIALS = trials_of(SPEC)
KEYS = [trial.key for trial in TRIALS]


@pytest.fixture(scope="module", autouse=True)
def few_digits() -> Iterator[None]:
    training, test = load_images("digits")
    few = {
        "train": ImageSet(training.images[:192], training.labels[:192]),
        "test": ImageSet(test.images[:60], test.labels[:60]),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "load_split", lambda source, split, root: few[split])
        patch.setattr("stn_train.experiment.executors.SECONDS", 0.01)
        yield


@dataclass
class Inline:
    """Workers in this process, which work in turn, an epoch each. `lose`: which of their messages never come, whose
    workers are lost with them, by the number of the message; but no trial so often in a row that it counts as failed:
    which trial a message is of depends on how soon the disk had the one before."""

    setup: Setup
    count: int = 2
    lose: set[int] = field(default_factory=set)
    jobs: dict[int, Iterator[Message]] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    told: int = 0
    lost: int = 0
    fruitless: Counter[str] = field(default_factory=Counter)
    stopping: bool = False

    def room(self) -> int:
        return self.count

    def begin(self, job: Job) -> int:
        self.begun.append(job.trial.key)
        sent: Job = pickle.loads(pickle.dumps(job))
        self.jobs[len(self.begun)] = work(sent, self.setup, "cpu", lambda: self.stopping)
        return len(self.begun)

    def messages(self) -> Iterator[tuple[int, Message | None]]:
        for handle in [*self.jobs]:
            message = next(self.jobs[handle])
            self.told += 1
            key = self.begun[handle - 1]
            if self.told in self.lose and self.fruitless[key] < LOST - 1:
                self.lost += 1
                self.fruitless[key] += 1
                self.jobs.pop(handle).close()
                yield handle, None
                continue
            if message.record is not None:
                self.fruitless[key] = 0
            if message.ended:
                self.jobs.pop(handle).close()
            yield handle, pickle.loads(pickle.dumps(message))

    def stop(self) -> None:
        self.stopping = True

    def close(self) -> None:
        self.jobs.clear()


def opened(folder: Path) -> tuple[RunFolder, Runtime]:
    here = Runtime(torch.device("cpu"))
    open_run(SPEC, TRIALS, RunFolder(folder), here)
    return RunFolder(folder), here


def side_by_side(
    path: Path, stop: Callable[[], bool] = lambda: False, **how: object
) -> tuple[Inline, list[RunProgress]]:
    folder, here = opened(path)
    workers = Inline(Setup.of(TRIALS, here), **how)  # type: ignore[arg-type]
    return workers, list(run_side_by_side(workers, TRIALS, folder, stop))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, few_digits) -> Path:
    """The folder of a run, one trial after another."""
    path = tmp_path_factory.mktemp("undisturbed")
    folder, here = opened(path)
    assert [one.trial.key for one in run_trials(TRIALS, folder, here) if one.finished] == KEYS
    return path


def test_the_same_bytes_as_one_after_another_and_nothing_else_is_left(tmp_path, undisturbed, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    workers, told = side_by_side(tmp_path / "run")
    assert_undisturbed(tmp_path / "run", undisturbed)
    assert list(scratch.iterdir()) == []
    assert {one.trial.key for one in told if one.finished} == set(KEYS)
    assert [sum(one.record is not None for one in told if one.trial.key == key) for key in KEYS] == [3] * 4
    assert workers.begun == [KEYS[1], KEYS[0], KEYS[3], KEYS[2]], "seed by seed, the longest first"
    assert sum(one.share for one in told if one.finished) == pytest.approx(1)


def test_a_run_that_was_begun_one_after_another_goes_on_side_by_side_and_back(tmp_path, undisturbed):
    folder, here = opened(tmp_path)
    with pytest.raises(Stopped):
        list(run_trials(TRIALS, folder, here, lambda epochs: epochs > 1.5))
    count = iter(range(1000))
    with pytest.raises(Stopped):
        side_by_side(tmp_path, lambda: next(count) == 2)
    assert not folder.finished(SPEC)
    assert len([*tmp_path.rglob("checkpoint.pt")]) == 2, "both that were trained are saved"
    list(run_trials(TRIALS, folder, here))
    assert_undisturbed(tmp_path, undisturbed)


def test_what_the_user_keeps_in_a_trials_folder_stays_there(tmp_path):
    files = opened(tmp_path)[0].trial(TRIALS[0])
    (files.path / "pictures").mkdir(parents=True)
    note = files.path / "notes.txt"
    note.write_text("of the user")
    files.robustness.write_text("of a network before")
    side_by_side(tmp_path)
    assert note.read_text() == "of the user"
    assert (files.path / "pictures").is_dir()
    assert not files.robustness.exists()


@pytest.mark.parametrize("lose", [{1}, {4, 5, 9}, set(range(3, 40, 4))])
def test_a_trial_whose_worker_is_lost_goes_on_from_its_last_epoch_to_the_same_bytes(tmp_path, undisturbed, lose):
    workers, told = side_by_side(tmp_path, lose=lose)
    assert len([one for one in told if one.warning]) == workers.lost > 0
    assert sorted(one.trial.key for one in told if one.finished) == sorted(KEYS), "each ends once"
    epochs = [(one.trial.key, one.record.epoch) for one in told if one.record]
    assert len(epochs) == len(set(epochs)), "no epoch is told twice"
    assert_undisturbed(tmp_path, undisturbed)


def test_on_a_slow_disk_a_lost_trial_goes_on_from_what_was_sent_before(tmp_path, undisturbed, monkeypatch):
    def write(path, *arguments, **how):  # type: ignore[no-untyped-def]
        time.sleep(0.3 if path.name == "checkpoint.pt" else 0)
        storage.write(path, *arguments, **how)

    monkeypatch.setattr("stn_train.experiment.executors.write", write)
    workers, told = side_by_side(tmp_path, lose={4, 5, 9})
    assert workers.told > 9
    epochs = [(one.trial.key, one.record.epoch) for one in told if one.record]
    assert sorted(epochs) == [(key, epoch) for key in sorted(KEYS) for epoch in (1, 2, 3)]
    assert_undisturbed(tmp_path, undisturbed)


def test_a_trial_whose_workers_are_lost_again_and_again_fails_and_the_others_go_on(tmp_path):
    class Deadly(Inline):
        def messages(self) -> Iterator[tuple[int, Message | None]]:
            for handle, message in super().messages():
                deadly = self.begun[handle - 1] == KEYS[1] and message is not None and message.record is not None
                if deadly:
                    self.jobs.pop(handle).close()
                yield handle, None if deadly else message

    folder, here = opened(tmp_path)
    told = list(run_side_by_side(Deadly(Setup.of(TRIALS, here)), TRIALS, folder, lambda: False))
    (failed,) = [one for one in told if one.failure]
    assert failed.trial.key == KEYS[1]
    assert "3 times" in failed.failure.why
    assert folder.trial(TRIALS[1]).failure.exists()
    assert {one.trial.key for one in told if one.finished} == {KEYS[0], *KEYS[2:]}


def test_a_trial_that_fails_is_recorded_and_the_others_go_on(tmp_path, monkeypatch):
    import stn_train.experiment.executors as executors

    def fail_once(trial, *arguments):  # type: ignore[no-untyped-def]
        if trial.key == KEYS[0]:
            raise OSError(28, "No space left on device")
        return run_trial(trial, *arguments)

    run_trial = executors.run_trial
    monkeypatch.setattr(executors, "run_trial", fail_once)
    _, told = side_by_side(tmp_path)
    (failed,) = [one for one in told if one.failure]
    assert (failed.trial.key, "No space left" in failed.failure.why) == (KEYS[0], True)
    assert RunFolder(tmp_path).trial(TRIALS[0]).failure.exists()
    assert {one.trial.key for one in told if one.finished} == set(KEYS[1:])


def test_who_trains_a_trial_is_told_with_what_was_lost_before(tmp_path):
    folder, here = opened(tmp_path)
    workers, seen = Inline(Setup.of(TRIALS, here), lose={3}), []
    for progress in run_side_by_side(workers, TRIALS, folder, lambda: False):
        worker = worker_in(folder.trial(progress.trial).path)
        if progress.record is not None and worker is not None:
            seen.append((progress.trial.key, worker.retries))
            assert progress.worker == f"{worker.host}, process {worker.process}"
    assert set(seen) == {(KEYS[1], 1), *((key, 0) for key in (KEYS[0], *KEYS[2:]))}


@pytest.mark.parametrize("alone", [True, False])
def test_what_another_process_trains_is_left_to_it(tmp_path, alone):
    folder, here = opened(tmp_path)
    with folder_lock(folder.trial(TRIALS[0]).path):
        if alone:
            told = list(run_trials(TRIALS, folder, here))
        else:
            told = list(run_side_by_side(Inline(Setup.of(TRIALS, here)), TRIALS, folder, lambda: False))
    assert [one.trial.key for one in told if one.busy] == [KEYS[0]]
    assert {one.trial.key for one in told if one.finished} == set(KEYS[1:])


def test_a_cluster_without_a_node_for_a_while_is_waited_for(tmp_path):
    folder, here = opened(tmp_path)
    workers, places = Inline(Setup.of(TRIALS, here)), iter([0, 0, 0, 0])
    workers.room = lambda: next(places, 2)  # type: ignore[method-assign]
    told = list(run_side_by_side(workers, TRIALS, folder, lambda: False))
    assert {one.trial.key for one in told if one.finished} == set(KEYS)
    assert not any(one.busy for one in told)


@pytest.mark.parametrize("alone", [True, False])
def test_what_another_process_leaves_unfinished_is_taken_over(tmp_path, undisturbed, alone):
    folder, here = opened(tmp_path)
    lock = folder_lock(folder.trial(TRIALS[0]).path)
    lock.__enter__()
    told = []
    workers = Inline(Setup.of(TRIALS, here))
    for one in run_trials(TRIALS, folder, here) if alone else run_side_by_side(workers, TRIALS, folder, lambda: False):
        told.append(one)
        if len([each for each in told if each.finished]) == 2 and lock is not None:
            lock.__exit__(None, None, None)
            lock = None
    assert sorted(one.trial.key for one in told if one.finished) == sorted(KEYS)
    assert_undisturbed(tmp_path, undisturbed)


def test_processes_train_the_same_and_stop_saved(tmp_path, undisturbed):
    folder, here = opened(tmp_path)
    workers = Processes(1, ["cpu"], Setup.of(TRIALS, here))
    metrics = folder.trial(TRIALS[1]).metrics
    with pytest.raises(Stopped):
        list(run_side_by_side(workers, TRIALS, folder, metrics.exists))
    assert len([*tmp_path.rglob("checkpoint.pt")]) == 1
    workers.close()
    assert all(not process.is_alive() for _, process in workers.processes.values())
    list(run_trials(TRIALS, folder, here))
    assert_undisturbed(tmp_path, undisturbed)


def test_ctrl_c_ends_no_process_that_is_just_starting(tmp_path, monkeypatch):
    start = SpawnProcess.start

    def struck(process: SpawnProcess) -> None:
        start(process)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT)

    monkeypatch.setattr(SpawnProcess, "start", struck)
    folder, here = opened(tmp_path)
    workers = Processes(1, ["cpu"], Setup.of(TRIALS, here))
    told = list(run_side_by_side(workers, TRIALS, folder, lambda: False))
    workers.close()
    assert [one.warning for one in told if one.warning] == []
    assert {one.trial.key for one in told if one.finished} == set(KEYS)


def test_a_localisation_network_to_start_from_is_sent_along(tmp_path, undisturbed):
    """A worker has no such file; its trials have the same bytes as where there is one."""
    (source,) = undisturbed.glob("trials/r/st_fcn/seed-0/checkpoint.pt")
    there = shutil.copy(source, tmp_path / "there.pt")
    started = {"localisation": "fc_paper", "localisation_from": str(there), "freeze": True}
    model = {"name": "mine", "classifier": "fcn", "transformer": started}
    spec = ExperimentSpec.model_validate({**SPEC.model_dump(), "models": [model], "seeds": [0]})
    for name in ("alone", "side_by_side"):
        folder, here = RunFolder(tmp_path / name), Runtime(torch.device("cpu"))
        open_run(spec, trials_of(spec), folder, here)
        told = run_trials(trials_of(spec), folder, here)
        if name == "side_by_side":
            workers = Inline(Setup.of(trials_of(spec), here))
            there.unlink()
            told = run_side_by_side(workers, trials_of(spec), folder, lambda: False)
        assert [one.failure for one in told if one.finished or one.failure] == [None]
    assert_undisturbed(tmp_path / "side_by_side", tmp_path / "alone")


def test_a_long_last_trial_is_begun_first_and_counted_so():
    def cell(*left: float) -> CellPlan:
        return CellPlan("r", "m", (28, 28), None, None, 1, 1, 1, (0, 1), 0, max(left), sum(left), left)

    cells = [cell(1, 1), cell(1, 1), cell(4, 0)]
    assert (duration(cells, 1), duration(cells, 2), duration(cells, 50)) == (8, 4, 4)
