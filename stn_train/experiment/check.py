"""What is wrong with an experiment, as far as it can be told before anything is trained."""

from collections.abc import Sequence

from stn_train.data.datasets import read_manifest
from stn_train.data.sources import training_size
from stn_train.errors import UserError
from stn_train.experiment.trial import model_of
from stn_train.specs import TrialSpec
from stn_train.storage import at_home


def check_trials(trials: Sequence[TrialSpec], prebuilt: str | None) -> None:
    """Raise UserError, a sentence for each mistake, where trials cannot be run.

    That is where a model cannot be built, a source has too few digits, or a prebuilt data set is another's.
    """
    mistakes: dict[str, None] = {}
    for trial in {(trial.dataset.name, trial.model.name): trial for trial in trials}.values():
        try:
            model_of(trial)
        except UserError as error:
            mistakes |= dict.fromkeys(map(str, error.args))
    for trial in {trial.dataset.name: trial for trial in trials}.values():
        wanted, there = trial.training.train_size, training_size(trial.source, trial.validation)
        if wanted is not None and wanted > there:
            what = f"training.train_size is {wanted:,}, and {trial.source} has {there:,} to train on; lower it"
            mistakes[what] = None
        if prebuilt is not None:
            try:
                read_manifest(trial.dataset, trial.source, at_home(prebuilt))
            except UserError as error:
                mistakes |= dict.fromkeys(map(str, error.args))
    if mistakes:
        raise UserError(*mistakes)
