"""An experiment run from Python: stopped after any step and taken up again it finds the same, and it says nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from stn_train.data.sources import Digits, load_digits
from stn_train.errors import Stopped, UserError
from stn_train.experiment import runtime as runtime
from stn_train.experiment.run import run_experiment
from stn_train.experiment.runtime import Runtime
from stn_train.run_folder import RunFolder
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
    training, test = load_digits("digits")
    few = (
        Digits(training.images[: 64 * STEPS], training.labels[: 64 * STEPS]),
        Digits(test.images[:60], test.labels[:60]),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "load_digits", lambda source, root: few)
        yield


def run(folder: Path, *stops: float, experiment: ExperimentSpec = SPEC) -> list[tuple[int | None, bool, bool]]:
    """Run an experiment to its end, stopped so many epochs in on the way: what was yielded, in brief."""
    yielded = []
    for stop in (*stops, 1e9):
        stopped = False
        try:
            for progress in run_experiment(
                experiment, trials_of(experiment), RunFolder(folder), ON_CPU, lambda epochs, stop=stop: epochs >= stop
            ):
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


def found(folder: Path) -> list[bytes]:
    return [(folder / "trials/r/st_cnn/seed-0" / name).read_bytes() for name in FILES]


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


def test_what_is_not_asked_for_is_not_run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert list(run_experiment(SPEC, [], folder, ON_CPU)) == []
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


def test_a_changed_trial_is_refused_also_half_way(tmp_path):
    with pytest.raises(Stopped):
        list(run_experiment(SPEC, trials_of(SPEC), RunFolder(tmp_path), ON_CPU, lambda epochs: True))
    changed = SPEC.model_copy(update={"parameters": 110_000})
    with pytest.raises(UserError, match="parameters was 100000 and is 110000; name another folder by --output-dir"):
        list(run_experiment(changed, trials_of(changed), RunFolder(tmp_path), ON_CPU))
