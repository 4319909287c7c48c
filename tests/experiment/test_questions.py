"""Questions: the same answers from workers as from this process, whatever happens to a worker or to one question."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import torch

from stn_train.colocalisation.report import ColocalisationFolder
from stn_train.colocalisation.run import ColocalisationProgress, run_colocalisation
from stn_train.colocalisation.spec import ColocalisationSpec, cells_of
from stn_train.data.images import ImageSet
from stn_train.data.sources import load_images
from stn_train.errors import FolderBusyError, Stopped, TrialError, UserError
from stn_train.experiment import runtime as runtime
from stn_train.experiment.executors import Setup
from stn_train.experiment.questions import Answer, Question, answer, answers
from stn_train.experiment.robustness import measure_robustness
from stn_train.experiment.run import open_run, run_trials
from stn_train.experiment.runtime import Runtime
from stn_train.run_folder import RunFolder
from stn_train.specs import ExperimentSpec, trials_of
from stn_train.storage import folder_lock, is_locked

SMALL = {
    "name": "small",
    "source": "digits",
    "datasets": ["r"],
    "models": ["fcn"],
    "parameters": 50_000,
    "seeds": [0, 1, 2],
    "training": {"epochs": 1, "batch_size": 64, "train_size": 100},
}
CELLS = {
    "task": "colocalisation",
    "name": "cells",
    "source": "digits",
    "datasets": [{"name": "t", "base": "translation", "canvas": 56}],
    "classes": [1, 3, 5],
    "encoder": {"dataset": {"name": "moved", "translation": 1}, "parameters": 10_000, "epochs": 1},
    "localiser": {"localisation": "keypoints", "margin": 1.0, "steps": 3, "batch_size": 8, "lr": 0.003},
}


@pytest.fixture(scope="module", autouse=True)
def few_digits() -> Iterator[None]:
    split = load_images("digits")
    few = {
        name: ImageSet(one.images[:150], one.labels[:150]) for name, one in zip(("train", "test"), split, strict=True)
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "load_split", lambda source, split, root: few[split])
        yield


@dataclass
class InTurn:
    """Workers in this process, which work in turn. `lose`: the keys whose worker is lost, as often as each appears."""

    runtime: Runtime
    lose: list[str] = field(default_factory=list)
    jobs: dict[int, tuple[Question, Iterator[Answer]]] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)

    def room(self) -> int:
        return 2

    def begin(self, job: Question) -> int:
        self.begun.append(job.key)
        sent: Question = pickle.loads(pickle.dumps(job))
        self.jobs[len(self.begun)] = sent, answer(sent, Setup(1, self.runtime), "cpu", lambda: False)
        return len(self.begun)

    def messages(self) -> Iterator[tuple[int, Answer | None]]:
        for handle, (question, told) in [*reversed(self.jobs.items())]:
            said = next(told)
            lost = said.ended and question.key in self.lose
            if lost:
                self.lose.remove(question.key)
            if said.ended:
                self.jobs.pop(handle)
            yield handle, None if lost else pickle.loads(pickle.dumps(said))

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass


def half(number: int, runtime: Runtime) -> Iterator[float | int]:
    """Half of an even number, in two steps."""
    if number < 0:
        raise UserError("negative")
    yield 0.5
    if number % 2:
        raise TrialError("odd")
    if number == 0:
        raise ZeroDivisionError
    yield number // 2


def asked(*numbers: int) -> list[Question]:
    return [Question(str(number), partial(half, number)) for number in numbers]


@pytest.fixture(params=[True, False], ids=["here", "workers"])
def workers(request) -> Callable[..., InTurn | None]:
    return lambda **how: None if request.param else InTurn(Runtime(torch.device("cpu")), **how)


def keep(told: list[Any], coming: Iterable[Any]) -> None:
    """Append what comes, one by one."""
    for one in coming:
        told.append(one)


def ended(questions: list[Question], workers: InTurn | None) -> dict[str, Answer]:
    told = [*answers(questions, Runtime(torch.device("cpu")), workers)]
    assert len([one for _, one in told if one.ended]) == len(questions), "each ends once"
    return {question.key: one for question, one in told if one.ended}


def test_one_that_cannot_be_answered_stops_no_other(workers):
    found = ended([*asked(4, 3, -2, 8), Question("known", half, known=7)], workers())
    assert {key: one.value for key, one in found.items()} == {"4": 2, "3": None, "-2": None, "8": 4, "known": 7}
    assert isinstance(found["3"].error, TrialError)
    assert isinstance(found["-2"].error, UserError)


def test_a_mistake_of_ours_is_raised(workers):
    with pytest.raises(ZeroDivisionError):
        ended(asked(0, 2), workers())


def test_it_stops_when_it_is_asked_to(workers):
    told: list[Any] = []
    with pytest.raises(Stopped):
        keep(told, answers(asked(2, 4, 6), Runtime(torch.device("cpu")), workers(), lambda: len(told) > 2))
    assert sum(one.ended for _, one in told) < 3


def test_a_question_whose_worker_is_lost_is_asked_again_but_not_for_ever():
    lost_once = InTurn(Runtime(torch.device("cpu")), lose=["2"])
    assert {one.value for one in ended(asked(2, 4, 6), lost_once).values()} == {1, 2, 3}
    assert lost_once.begun.count("2") == 2
    found = ended(asked(2, 4, 6), InTurn(Runtime(torch.device("cpu")), lose=["2"] * 9))
    assert "lost 3 times" in str(found["2"].error)
    assert [found[key].value for key in ("4", "6")] == [2, 3]


def test_what_another_process_works_on_is_told_and_the_others_are_locked_until_their_answer_is_heard(tmp_path, workers):
    questions = [
        Question(str(number), partial(half, number), lock=partial(folder_lock, tmp_path / str(number)))
        for number in (2, 4, 6)
    ]
    with folder_lock(tmp_path / "4"):
        for question, one in answers(questions, Runtime(torch.device("cpu")), workers()):
            assert is_locked(tmp_path / question.key)
            assert isinstance(one.error, FolderBusyError) == (question.key == "4")
    assert not any(is_locked(tmp_path / question.key) for question in questions)


# --- what is asked --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunFolder:
    """Three trials that have finished, of which one's checkpoint is damaged."""
    folder, spec = RunFolder(tmp_path_factory.mktemp("run") / "small"), ExperimentSpec.model_validate(SMALL)
    here = Runtime(torch.device("cpu"))
    open_run(spec, trials_of(spec), folder, here)
    assert sum(one.finished for one in run_trials(trials_of(spec), folder, here)) == 3
    damaged = folder.trial(trials_of(spec)[1]).checkpoint
    damaged.write_bytes(damaged.read_bytes()[:-5])
    return folder


@pytest.mark.slow
def test_robustness_of_many_trials_is_the_same_on_workers_and_one_that_fails_stops_no_other(run):
    spec, here = run.load_experiment(), Runtime(torch.device("cpu"))
    found = []
    for workers in (None, InTurn(here)):
        told = [*measure_robustness(run, spec, here, workers=workers)]
        assert sorted((one.number, one.failure is None) for one in told) == [(1, True), (2, False), (3, True)]
        files = {path: path.read_bytes() for path in run.path.rglob("robustness.json")}
        assert len(files) == 2
        again = [*measure_robustness(run, spec, here, workers=InTurn(here))]
        assert sorted(one.number for one in again if one.skipped) == [1, 3]
        for path in files:
            path.unlink()
        found.append(files)
    assert found[0] == found[1]


def test_colocalisation_is_the_same_on_workers_and_goes_on_where_it_was_stopped(tmp_path):
    spec, here = ColocalisationSpec.model_validate(CELLS), Runtime(torch.device("cpu"))
    cells, alone, shared = cells_of(spec), *(ColocalisationFolder(tmp_path / name) for name in ("alone", "shared"))
    [*run_colocalisation(spec, cells, alone, here)]
    told: list[ColocalisationProgress] = []

    def stop() -> bool:
        return any(one.part != "encoder" and one.found is not None for one in told)

    with pytest.raises(Stopped):
        keep(told, run_colocalisation(spec, cells, shared, here, stop, InTurn(here)))
    kept = [*shared.path.glob("cells/*/*/result.json")]
    assert 0 < len(kept) < 3
    again = [*run_colocalisation(spec, cells, shared, here, workers=InTurn(here))]
    assert len([one for one in again if one.skipped]) == len(kept)
    for name in ("result.json", "samples.npz"):
        for path in alone.path.rglob(f"cells/*/*/{name}"):
            assert (shared.path / path.relative_to(alone.path)).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_two_processes_print_and_write_the_same(run, tmp_path):
    def command(*words: str) -> str:
        line = [sys.executable, "-m", "stn_train", *words, "--threads", "1"]
        ended = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
        assert (ended.returncode, "Traceback" in ended.stderr) == (words[0] != "colocalise", False), ended.stderr
        return ended.stdout

    alone = command("eval", str(run.path), "--json")
    assert len(json.loads(alone)["checkpoints"]) == 2
    assert command("eval", str(run.path), "--json", "--jobs", "2") == alone
    (tmp_path / "cells.yaml").write_text(json.dumps(CELLS))
    command("colocalise", "--config", "cells.yaml")
    command("colocalise", "--config", "cells.yaml", "--jobs", "2", "--output-dir", "shared")
    for path in (
        path for name in ("result.json", "samples.npz") for path in tmp_path.rglob(f"runs/cells/cells/*/*/{name}")
    ):
        shared = tmp_path / "shared" / path.relative_to(tmp_path / "runs/cells")
        assert shared.read_bytes() == path.read_bytes()
    command("robustness", str(run.path), "--jobs", "2")
    assert len([*run.path.rglob("robustness.json")]) == 2
