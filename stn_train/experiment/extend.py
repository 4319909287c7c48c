"""More epochs for a run that has finished: its learning rate's schedule begins anew, and its trials are trained on."""

from stn_train.errors import FolderBusyError, UserError
from stn_train.experiment.run import check_same_trial, check_trials, held_trial, joined
from stn_train.experiment.runtime import Runtime, load_digits_of
from stn_train.experiment.trial import network_of
from stn_train.run_folder import RunFolder, TrialFolder
from stn_train.specs import ExperimentSpec, TrialSpec, trials_of
from stn_train.storage import busy_sentence, folder_lock, is_locked
from stn_train.training.checkpoint import fall_back, newest_whole, read_checkpoint, restore, save_checkpoint
from stn_train.training.loop import TrainingState


def extend(experiment: ExperimentSpec, folder: RunFolder, runtime: Runtime) -> ExperimentSpec:
    """Prepare a folder's trials to be trained on to the epochs of `experiment`; the experiment that they are now of.

    A schedule that has been followed to its end has brought the learning rate down, and is not the first part of a
    longer one: so it is followed once more, over the epochs that are added (a warm restart; Loshchilov & Hutter,
    arXiv:1608.03983), and `training.restarts` says so. A trial ends as one does that is trained with this restart from
    the start. Raises UserError, and changes nothing, where the folder holds no run, or one of more epochs, or a trial
    cannot be trained on.
    """
    held = folder.load_experiment()
    before, asked = held.training, experiment.training.epochs
    if asked < before.epochs:
        raise UserError(
            f"{folder.path} was trained for {before.epochs} epochs, and training.epochs is {asked}; ask for more to "
            "--extend it"
        )
    restarts = (*before.restarts, before.epochs) if asked > before.epochs else before.restarts
    extended = experiment.changed(training=experiment.training.changed(restarts=restarts))
    trials, reopened = {trial.key: trial for trial in trials_of(extended)}, []
    for trial in trials_of(joined(held, extended)):
        files = folder.trial(trial)
        if files.path.exists() and is_locked(files.path):
            raise FolderBusyError(busy_sentence(files.path))
        if restarts and trial.key in trials and held_trial(files) == _before(trial):
            read_checkpoint(newest_whole(files.checkpoint) or files.checkpoint)
            reopened.append(trial)
        else:
            check_same_trial(trial, files)
    if reopened:
        check_trials([*trials.values()], extended.prebuilt)
        if extended.prebuilt is None:
            load_digits_of(reopened[0], "training", runtime)
    for trial in reopened:
        _reopen(trial, folder.trial(trial), runtime)
    return extended


def _before(trial: TrialSpec) -> TrialSpec:
    """The trial before its last restart."""
    recipe = trial.training
    return trial.changed(training=recipe.changed(epochs=recipe.restarts[-1], restarts=recipe.restarts[:-1]))


def _reopen(trial: TrialSpec, files: TrialFolder, runtime: Runtime) -> None:
    """Make what the files hold of the trial before its last restart the same state of `trial`, unfinished."""
    with folder_lock(files.path):
        fall_back(files.checkpoint)
        content = read_checkpoint(files.checkpoint)
        if content["trial"] == _before(trial):
            state = TrainingState.start(network_of(trial, runtime), trial.training)
            restore(state, content, files.checkpoint)
            save_checkpoint(files.checkpoint, trial, state, content["records"])
        files.result.unlink(missing_ok=True)
