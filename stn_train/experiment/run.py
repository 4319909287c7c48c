"""A whole experiment in one folder: skips what is finished, goes on with what is not, refuses what has changed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stn_train import storage
from stn_train.config import dump
from stn_train.errors import Stopped, UserError
from stn_train.experiment.check import check_trials
from stn_train.experiment.plan import differences, joined
from stn_train.experiment.runtime import Runtime, environment
from stn_train.experiment.trial import Failure, run_trial
from stn_train.models.user_classifier import line_of
from stn_train.run_folder import EpochRecord, RunFolder, TrialFailure, TrialFolder
from stn_train.specs import ExperimentSpec, TrialSpec, trials_of
from stn_train.storage import check_links, clear_leftovers, folder_lock
from stn_train.training.checkpoint import fall_back, newest_whole, read_checkpoint


@dataclass(frozen=True)
class RunProgress:
    """Where a run is: trial `number` of `total`; `record` is its latest epoch's, None at its start.

    `skipped` says that it was finished before, `finished` that it is now; `warning` is what the user must know, and
    `failure` why the trial cannot go on.
    """

    trial: TrialSpec
    number: int
    total: int
    record: EpochRecord | None = None
    skipped: bool = False
    finished: bool = False
    warning: str | None = None
    failure: Failure | None = None


def run_experiment(
    experiment: ExperimentSpec,
    trials: list[TrialSpec],
    folder: RunFolder,
    runtime: Runtime,
    after_step: Callable[[float], bool] = lambda epochs: False,
) -> Iterator[RunProgress]:
    """Run these trials of an experiment in `folder`, which may hold a run of it already; yields as it goes.

    `after_step` is told the epochs done, a fraction, and says whether to stop (Stopped is raised). A trial that fails
    is recorded and told as failed, and the others go on. Raises UserError before anything is trained where a trial in
    the folder has another specification, or for what `check_trials` finds.
    """
    pending = [trial for trial in trials if not folder.trial(trial).result.exists()]
    check_trials(pending, experiment.prebuilt)
    with folder_lock(folder.path, stop=lambda: after_step(0.0)):
        check_links(folder.path)
        everything = joined(folder.load_experiment(), experiment) if folder.config.exists() else experiment
        check_unchanged(everything, folder)
        for file in (folder.config, folder.environment):
            clear_leftovers(folder.path, file.name)
        storage.write_text(folder.config, dump(everything))
        if pending:
            storage.write_record(folder.environment, environment(runtime))
    for number, trial in enumerate(trials, start=1):
        files = folder.trial(trial)
        if files.result.exists():
            yield RunProgress(trial, number, len(trials), skipped=True)
            continue
        with folder_lock(files.path):
            clear_leftovers(files.path)
            files.failure.unlink(missing_ok=True)
            yield RunProgress(trial, number, len(trials), warning=fall_back(files.checkpoint))
            try:
                for record in run_trial(trial, files, runtime, after_step):
                    yield RunProgress(trial, number, len(trials), record)
            except Stopped:
                raise
            except (Exception, SystemExit) as error:  # whatever a network raises
                if isinstance(error, UserError | OSError) and not line_of(trial.model.classifier, error):
                    raise  # of all trials alike: the digits, the disk
                failure = Failure.of(error, trial.model.classifier)
                storage.write_record(files.failure, TrialFailure(why=failure.why).model_dump(mode="json"))
                yield RunProgress(trial, number, len(trials), failure=failure)
                continue
        yield RunProgress(trial, number, len(trials), finished=True)


def check_unchanged(experiment: ExperimentSpec, folder: RunFolder) -> None:
    """Raise UserError where a trial that the folder holds is not what `experiment` says it is."""
    for trial in trials_of(experiment):
        check_same_trial(trial, folder.trial(trial))


def check_same_trial(trial: TrialSpec, files: TrialFolder) -> None:
    """Raise UserError where a trial's folder holds another trial."""
    if files.result.exists():
        before = files.load_result().trial
    elif checkpoint := newest_whole(files.checkpoint):
        before = read_checkpoint(checkpoint)["trial"]
    else:
        return
    if before != trial:
        raise UserError(
            f"{files.path} holds another trial: {', '.join(differences(before, trial))}; "
            "name another folder by --output-dir, or delete this one"
        )
