"""An experiment run from Python: stopped after any step and taken up again it finds the same, and it says nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from stn_train import storage
from stn_train.data.images import ImageSet
from stn_train.data.sources import load_images
from stn_train.errors import Stopped, UserError
from stn_train.experiment import runtime as runtime
from stn_train.experiment import trial as trial_module
from stn_train.experiment.run import RunProgress, open_run, run_trials
from stn_train.experiment.runtime import Runtime
from stn_train.run_folder import RunFolder, TrialFolder
from stn_train.specs import ExperimentSpec, trials_of

SPEC = ExperimentSpec.model_validate(
    {
        "name": "small",
        "source": "digits",
        "datasets": ["r"],
        "models": ["st_cnn"],
        "parameters": 100_000,
        "training": {"epochs": 2, "batch_size": 64},
    }
)
STEPS = 3
ON_CPU = Runtime(torch.device("cpu"))
FILES = (
    "result.json",
    "predictions.npz",
    "examples.npz",
    "means.npz",
    "rotation_sweep.npz",
    "training.npz",
    "metrics.jsonl",
)


@pytest.fixture(scope="module", autouse=True)
def few_digits() -> Iterator[None]:
    """Three steps an epoch."""
    training, test = load_images("digits")
    few = {
        "train": ImageSet(training.images[: 64 * STEPS], training.labels[: 64 * STEPS]),
        "test": ImageSet(test.images[:60], test.labels[:60]),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "load_split", lambda source, split, root: few[split])
        yield


def begun(
    folder: Path, experiment: ExperimentSpec = SPEC, after_step: Callable[[float], bool] = lambda epochs: False
) -> Iterator[RunProgress]:
    trials = trials_of(experiment)
    assert open_run(experiment, trials, RunFolder(folder), ON_CPU) == experiment
    return run_trials(trials, RunFolder(folder), ON_CPU, after_step)


def run(folder: Path, *stops: float, experiment: ExperimentSpec = SPEC) -> list[tuple[int | None, bool, bool]]:
    """Run an experiment to its end, stopped so many epochs in on the way: what was yielded, in brief."""
    yielded = []
    for stop in (*stops, 1e9):
        stopped = False
        try:
            for progress in begun(folder, experiment, lambda epochs, stop=stop: epochs >= stop):
                epoch = progress.record.epoch if progress.record else None
                yielded.append((epoch, progress.skipped, progress.finished))
        except Stopped:
            stopped = True
        assert stopped == (stop < 2.01)
    return yielded


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    start, finished = (None, False, False), (None, False, True)
    assert run(folder) == [start, (1, False, False), (2, False, False), finished]
    return folder


def files_in(folder: Path) -> TrialFolder:
    return RunFolder(folder).trial(trials_of(SPEC)[0])


def found(folder: Path) -> dict[str, bytes]:
    return {name: (files_in(folder).path / name).read_bytes() for name in FILES}


def test_run_again_it_is_skipped(undisturbed):
    before = found(undisturbed)
    assert run(undisturbed) == [(None, True, False)]
    assert found(undisturbed) == before


@pytest.mark.parametrize("step", range(1, 2 * STEPS + 1))
def test_stopped_after_any_step_it_ends_the_same(undisturbed, tmp_path, step):
    run(tmp_path, step / STEPS - 0.01)
    assert found(tmp_path) == found(undisturbed)


def test_stopped_after_every_step_it_ends_the_same(undisturbed, tmp_path):
    run(tmp_path, *(step / STEPS - 0.01 for step in range(1, 2 * STEPS + 1)))
    assert found(tmp_path) == found(undisturbed)


@pytest.mark.parametrize(
    ("write", "times"),
    [
        *((write, times) for times in (1, 2) for write in ("write", "write_arrays", "save_checkpoint")),
        ("write_arrays", 3),  # after the last epoch, before anything of the result
    ],
)
def test_killed_at_any_file_of_an_epoch_it_ends_the_same(undisturbed, tmp_path, monkeypatch, write, times):
    """Also the animation's frames and the epochs' metrics, which may be ahead of the checkpoint."""
    as_it_is, calls = getattr(trial_module, write), iter(range(1, times + 1))

    def killed(*given: object) -> None:
        if next(calls) == times:
            raise KeyboardInterrupt
        as_it_is(*given)

    with monkeypatch.context() as patch:
        patch.setattr(trial_module, write, killed)
        with pytest.raises(KeyboardInterrupt):
            list(begun(tmp_path))
    run(tmp_path)
    assert found(tmp_path) == found(undisturbed)


def killed_after(epoch: int, folder: Path) -> TrialFolder:
    """A trial that was killed when it had written the checkpoint of an epoch."""
    progress = begun(folder)
    assert any(step.record and step.record.epoch == epoch for step in progress)
    progress.close()
    return files_in(folder)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-10]),
    "empty": lambda path: path.write_bytes(b""),
    "of other arrays": lambda path: storage.write_arrays(path, {"epoch": np.arange(2)}),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(("epoch", "frames"), [(1, [0, 2]), (2, [0])])
def test_no_training_is_lost_for_its_animation(undisturbed, tmp_path, damage, epoch, frames):
    """A training.npz that is missing or damaged is begun again, and all else ends the same."""
    files = killed_after(epoch, tmp_path)
    DAMAGE[damage](files.path / "training.npz")
    run(tmp_path)
    assert files.load_gallery()["training"]["epoch"].tolist() == frames
    one, other = found(tmp_path), found(undisturbed)
    assert {name for name in FILES if one[name] != other[name]} == {"training.npz"}


@pytest.mark.parametrize("damage", ["missing", "cut short", "an epoch short"])
@pytest.mark.parametrize("epoch", [1, 2])
def test_no_training_is_lost_for_its_metrics(undisturbed, tmp_path, damage, epoch):
    """The checkpoint has them, too, and metrics.jsonl is written anew."""
    files = killed_after(epoch, tmp_path)
    lines = files.metrics.read_text().splitlines(keepends=True)
    damages = {**DAMAGE, "an epoch short": lambda path: storage.write(path, "".join(lines[: epoch - 1]), storage.LINES)}
    damages[damage](files.metrics)
    run(tmp_path)
    assert found(tmp_path) == found(undisturbed)


def test_what_is_not_asked_for_is_not_run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    open_run(SPEC, [], folder, ON_CPU)
    assert list(run_trials([], folder, ON_CPU)) == []
    assert folder.load_experiment() == SPEC
    assert not (folder.path / "trials").exists()


def test_a_run_with_nothing_to_train_keeps_the_environment_of_what_was_trained(undisturbed):
    environment = undisturbed / "environment.json"
    before = environment.read_bytes()
    environment.write_text('{"device": "another machine"}\n')
    run(undisturbed)
    assert environment.read_text() == '{"device": "another machine"}\n'
    environment.write_bytes(before)


def test_nothing_is_printed(undisturbed, tmp_path, capfd):
    run(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_run_is_opened_as_all_that_its_folder_has_been_asked_for(tmp_path):
    more = SPEC.model_copy(update={"seeds": (1,)})
    assert open_run(SPEC, [], RunFolder(tmp_path), ON_CPU) == SPEC
    everything = open_run(more, [], RunFolder(tmp_path), ON_CPU)
    assert everything.seeds == (0, 1)
    assert everything == RunFolder(tmp_path).load_experiment() == open_run(SPEC, [], RunFolder(tmp_path), ON_CPU)


def test_a_changed_trial_is_refused_also_half_way(tmp_path):
    with pytest.raises(Stopped):
        list(begun(tmp_path, after_step=lambda epochs: True))
    changed = SPEC.model_copy(update={"parameters": 110_000})
    with pytest.raises(UserError, match="parameters was 100000 and is 110000; name another folder by --output-dir"):
        open_run(changed, trials_of(changed), RunFolder(tmp_path), ON_CPU)
