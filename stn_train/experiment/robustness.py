"""How the trained networks of a run do on images that differ from those that they were trained on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from stn_train.data.distortion import Split
from stn_train.errors import Stopped, UserError
from stn_train.evaluation.metrics import Robustness, others
from stn_train.evaluation.robustness import robustness_of
from stn_train.experiment.load import load_trained, predict
from stn_train.experiment.runtime import Runtime, load_digits_of
from stn_train.run_folder import RunFolder, TrialFolder
from stn_train.specs import DatasetSpec, ExperimentSpec, TrialSpec
from stn_train.storage import folder_lock, write_record


@dataclass(frozen=True)
class RobustnessProgress:
    """Trial `number` of `total` has been measured, now or (`skipped`) before, or could not be (`failure`)."""

    trial: TrialSpec
    number: int
    total: int
    skipped: bool = False
    failure: UserError | None = None


def measure_robustness(
    folder: RunFolder, experiment: ExperimentSpec, runtime: Runtime, stop: Callable[[], bool] = lambda: False
) -> Iterator[RobustnessProgress]:
    """Measure every finished trial of a run and write its robustness.json; skips those that have been measured.

    See `robustness_of`; each network is also asked about the other datasets of the run, on the canvas that it knows.
    Where `stop` says so after a trial, raises Stopped. A trial whose checkpoint is missing or damaged stops no other.
    """
    with folder_lock(folder.path, stop):
        finished = folder.finished(experiment)
    for number, trial in enumerate(finished, start=1):
        files = folder.trial(trial)
        crossed = [
            other
            for other in others(trial.dataset, experiment.datasets)
            if other.has_true_pose or trial.model.pose != "oracle"
        ]
        if files.robustness.exists():
            known = [one.dataset for one in files.load(Robustness, files.robustness).crossed]
            if all(other in known for other in crossed):
                yield RobustnessProgress(trial, number, len(finished), skipped=True)
                continue
        with folder_lock(files.path):
            try:
                found = _ask(trial, files, crossed, runtime)
            except UserError as error:  # of this checkpoint alone
                yield RobustnessProgress(trial, number, len(finished), failure=error)
                continue
            write_record(files.robustness, found.model_dump(mode="json"))
        yield RobustnessProgress(trial, number, len(finished))
        if stop():
            raise Stopped


def _ask(trial: TrialSpec, files: TrialFolder, crossed: Sequence[DatasetSpec], runtime: Runtime) -> Robustness:
    digits = load_digits_of(trial, "fixed", runtime)
    trained = load_trained(files.checkpoint, runtime)
    split: Split = "validation" if trial.validation else "test"
    return robustness_of(trial.dataset, digits, split, partial(predict, trained, runtime), crossed)
