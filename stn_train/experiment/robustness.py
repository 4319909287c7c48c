"""How the trained networks of a run do on images that differ from those that they were trained on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from stn_train.evaluation.metrics import Robustness, others
from stn_train.evaluation.robustness import robustness_of
from stn_train.experiment.executors import Workers
from stn_train.experiment.load import load_trained, predict
from stn_train.experiment.questions import Question, answers
from stn_train.experiment.runtime import Runtime, load_digits_of
from stn_train.run_folder import RunFolder, TrialFolder
from stn_train.specs import DatasetSpec, ExperimentSpec, TrialSpec, has_true_pose
from stn_train.storage import folder_lock, write_record


@dataclass(frozen=True)
class RobustnessProgress:
    """Trial `number` of `total` has been measured, now or (`skipped`) before, or could not be (`failure`)."""

    trial: TrialSpec
    number: int
    total: int
    skipped: bool = False
    failure: Exception | None = None


def measure_robustness(
    folder: RunFolder,
    experiment: ExperimentSpec,
    runtime: Runtime,
    stop: Callable[[], bool] = lambda: False,
    workers: Workers | None = None,
) -> Iterator[RobustnessProgress]:
    """Measure every finished trial of a run and write its robustness.json; skips those that have been measured.

    See `robustness_of`; each network is also asked about the other datasets of the run, on the canvas that it knows.
    Side by side where there are workers. Where `stop` says so, raises Stopped, and what is being measured is lost. A
    trial whose checkpoint is missing or damaged, or that another process works on, stops no other.
    """
    with folder_lock(folder.path, stop):
        finished = folder.finished(experiment)
    begun = {trial.key: RobustnessProgress(trial, number, len(finished)) for number, trial in enumerate(finished, 1)}
    questions = (_question(trial, folder.trial(trial), experiment) for trial in finished)
    for question, answer in answers(questions, runtime, workers, stop):
        progress = begun[question.key]
        if answer.error is not None:
            progress = replace(progress, failure=answer.error)
        elif question.known is None:
            write_record(folder.trial(progress.trial).robustness, answer.value.model_dump(mode="json"))
        yield replace(progress, skipped=question.known is not None)


def _question(trial: TrialSpec, files: TrialFolder, experiment: ExperimentSpec) -> Question:
    """How robust a finished trial's network is: known where all that is asked now has been asked before."""
    crossed = [
        other
        for other in others(trial.dataset, experiment.datasets)
        if trial.model.pose != "oracle" or has_true_pose(other, trial.source)
    ]
    before = files.load(Robustness, files.robustness) if files.robustness.exists() else None
    known = before and all(other in [one.dataset for one in before.crossed] for other in crossed)
    ask = partial(_measured, trial, files.checkpoint, crossed)
    return Question(trial.key, ask, before if known else None, partial(folder_lock, files.path))


def _measured(trial: TrialSpec, checkpoint: Path, crossed: Sequence[DatasetSpec], runtime: Runtime) -> Robustness:
    digits = load_digits_of(trial, "fixed", runtime)
    trained = load_trained(checkpoint, runtime)
    return robustness_of(trial.dataset, digits, trial.split, partial(predict, trained, runtime), crossed)
