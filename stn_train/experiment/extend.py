"""More epochs for a run that has finished: its learning rate's schedule begins anew, and its trials are trained on."""

from stn_train.errors import UserError
from stn_train.experiment.runtime import Runtime
from stn_train.experiment.trial import network_of
from stn_train.run_folder import RunFolder, TrialFolder, TrialResult
from stn_train.specs import ExperimentSpec, TrialSpec, trials_of
from stn_train.storage import folder_lock
from stn_train.training.checkpoint import fall_back, newest_whole, read_checkpoint, restore, save_checkpoint
from stn_train.training.loop import TrainingState


def extend(experiment: ExperimentSpec, folder: RunFolder, runtime: Runtime) -> ExperimentSpec:
    """Prepare a folder's trials to be trained on to the epochs of `experiment`; the experiment that they are now of.

    A schedule that has been followed to its end has brought the learning rate down, and is not the first part of a
    longer one: so it is followed once more, over the epochs that are added (a warm restart; Loshchilov & Hutter,
    arXiv:1608.03983), and `training.restarts` says so. A trial ends as one does that is trained with this restart from
    the start. Raises UserError where the folder holds no run, or one of more epochs, or has lost a checkpoint.
    """
    before, asked = folder.load_experiment().training, experiment.training.epochs
    if asked < before.epochs:
        raise UserError(
            f"{folder.path} was trained for {before.epochs} epochs, and training.epochs is {asked}; ask for more to "
            "--extend it"
        )
    restarts = (*before.restarts, before.epochs) if asked > before.epochs else before.restarts
    extended = experiment.changed(training=experiment.training.changed(restarts=restarts))
    if restarts:
        for trial in trials_of(extended):
            _reopen(trial, folder.trial(trial), runtime)
    return extended


def _reopen(trial: TrialSpec, files: TrialFolder, runtime: Runtime) -> None:
    """Make what the files hold, where it is `trial` before its last restart, the same state of `trial`, unfinished."""
    recipe = trial.training
    before = trial.changed(training=recipe.changed(epochs=recipe.restarts[-1], restarts=recipe.restarts[:-1]))
    if not files.result.exists() and newest_whole(files.checkpoint) is None:
        return
    with folder_lock(files.path):
        fall_back(files.checkpoint)
        content = read_checkpoint(files.checkpoint)
        if content["trial"] == before:
            state = TrainingState.start(network_of(trial, runtime), recipe)
            restore(state, content, files.checkpoint)
            save_checkpoint(files.checkpoint, trial, state, content["records"])
        if files.result.exists() and files.load(TrialResult, files.result).trial == before:
            files.result.unlink()
