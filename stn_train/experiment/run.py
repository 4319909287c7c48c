"""A whole experiment in one folder: skips what is finished, goes on with what is not, refuses what has changed."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from stn_train.config import dump
from stn_train.data.images import source_size
from stn_train.errors import FolderBusyError, Stopped, TrialError, UserError, first_line
from stn_train.experiment.runtime import Runtime, environment, lacks_operation
from stn_train.experiment.trial import network_of, run_trial, size_of
from stn_train.models.network import BudgetError
from stn_train.models.own import line_of
from stn_train.run_folder import EpochRecord, RunFolder, TrialFailure, TrialFolder, TrialResult
from stn_train.specs import ExperimentSpec, ModelSpec, Spec, TrialSpec, changes, trials_of
from stn_train.storage import at_home, folder_lock, write, write_record
from stn_train.training.checkpoint import fall_back, newest_whole, read_checkpoint, restore_localisation

_MACS_OF_AN_IMAGE = 5e6
"""So many MACs take about as long, on a CPU, as to distort an image and to move it through the smallest network."""


@dataclass(frozen=True)
class RunProgress:
    """Where a run is: trial `number` of `total`; `record` is its latest epoch's, None at its start.

    The trial is expected to take a `share` of the run's time, after a share `before` that those ahead of it take.
    `skipped` says that it was finished before, `finished` that it is now; `warning` is what the user must know, and
    `failure` why the trial cannot go on. `worker` says where it is trained, where that is not this process, and `busy`
    who else trains it.
    """

    trial: TrialSpec
    number: int
    total: int
    before: float = 0.0
    share: float = 0.0
    record: EpochRecord | None = None
    skipped: bool = False
    finished: bool = False
    warning: str | None = None
    failure: TrialFailure | None = None
    worker: str = ""
    busy: str | None = None


def open_run(
    experiment: ExperimentSpec,
    trials: Sequence[TrialSpec],
    folder: RunFolder,
    runtime: Runtime,
    stop: Callable[[], bool] = lambda: False,
) -> ExperimentSpec:
    """Prepare a folder, which may hold a run already, for these trials of an experiment; the experiment of the folder.

    Waits while another process writes at the folder's top; raises Stopped where `stop` says so meanwhile. Raises
    UserError where a trial in the folder has another specification, or for what `check_trials` finds.
    """
    pending = [trial for trial in trials if not folder.trial(trial).result.exists()]
    check_trials(pending, experiment.prebuilt)
    with folder_lock(folder.path, stop):
        everything = in_folder(experiment, folder)
        begun = folder.environment.exists() or (folder.path / "trials").exists() or not folder.config.exists()
        if not begun and folder.config.read_bytes() != dump(folder.load_experiment()).encode():
            raise UserError(
                f"{folder.config} was written by hand, and would be overwritten; name another folder by --output-dir"
            )
        write(folder.config, dump(everything))
        if pending:
            write_record(folder.environment, environment(runtime))
    return everything


def run_trials(
    trials: Sequence[TrialSpec],
    folder: RunFolder,
    runtime: Runtime,
    after_step: Callable[[float], bool] = lambda epochs: False,
) -> Iterator[RunProgress]:
    """Run these trials one after another in a folder that `open_run` has prepared; yields as it goes.

    `after_step` is told the epochs done, a fraction, and says whether to stop (Stopped is raised). A trial that fails
    is recorded and told as failed, and the others go on. What another process trains is left to it, and told as busy at
    the end, where it still does.
    """
    left = planned(trials, folder)
    while left:
        busy: list[RunProgress] = []
        for progress in left:
            trial, files = progress.trial, folder.trial(progress.trial)
            if files.result.exists():
                yield replace(progress, skipped=True)
                continue
            try:
                with folder_lock(files.path):
                    files.failure.unlink(missing_ok=True)
                    begun = any(files.path.glob("checkpoint*.pt"))
                    yield replace(progress, warning=fall_back(files.checkpoint) if begun else None)
                    try:
                        for record in run_trial(trial, files, runtime, after_step):
                            yield replace(progress, record=record)
                    except Stopped:
                        raise
                    except (Exception, SystemExit) as error:  # whatever a network raises
                        if isinstance(error, UserError | OSError) and not line_of(trial.model, error):
                            raise  # of all trials alike: the digits, the disk
                        failure = failure_of(trial, error, runtime.device)
                        write_record(files.failure, failure.model_dump(mode="json"))
                        yield replace(progress, failure=failure)
                        continue
            except FolderBusyError as error:
                busy.append(replace(progress, busy=str(error)))
                continue
            yield replace(progress, finished=True)
        if len(busy) == len(left):
            yield from busy
            return
        left = [replace(progress, busy=None) for progress in busy]


def planned(trials: Sequence[TrialSpec], folder: RunFolder) -> list[RunProgress]:
    """The start of each trial, with its share of the time: by epochs and MACs, and by what each image costs."""
    costs = [
        0.0
        if folder.trial(trial).result.exists()
        else trial.training.epochs * (size_of(trial).macs + _MACS_OF_AN_IMAGE)
        for trial in trials
    ]
    whole, total = sum(costs) or 1.0, len(trials)
    return [
        RunProgress(trial, number, total, before=sum(costs[: number - 1]) / whole, share=cost / whole)
        for number, (trial, cost) in enumerate(zip(trials, costs, strict=True), start=1)
    ]


def failure_of(trial: TrialSpec, error: BaseException, device: torch.device) -> TrialFailure:
    """Why a trial could not go on, from what it raised on a device; a mistake of ours with its traceback."""
    known = lacks_operation(error, device) or (str(error) if isinstance(error, TrialError) else None)
    if known is not None:
        return TrialFailure(why=known)
    line = line_of(trial.model, error)
    trace = None if line else "".join(traceback.format_exception(error))
    return TrialFailure(why=f"{type(error).__name__}: {first_line(error)}{line}", traceback=trace)


def held_trial(files: TrialFolder) -> TrialSpec | None:
    """The trial whose result or checkpoint a folder holds."""
    if files.result.exists():
        return files.load(TrialResult, files.result).trial
    if checkpoint := newest_whole(files.checkpoint):
        held: TrialSpec = read_checkpoint(checkpoint)["trial"]
        return held
    return None


def in_folder(experiment: ExperimentSpec, folder: RunFolder) -> ExperimentSpec:
    """The experiment of a folder in which this one is run, after what has been run there.

    Raises UserError where both do not go together, or a trial in the folder has another specification.
    """
    everything = joined(folder.load_experiment(), experiment) if folder.config.exists() else experiment
    for trial in trials_of(everything):
        if folder.trial(trial).path.exists():
            check_same_trial(trial, folder.trial(trial))
    return everything


def check_same_trial(trial: TrialSpec, files: TrialFolder) -> None:
    """Raise UserError where a trial's folder holds another trial."""
    before = held_trial(files)
    if before is not None and before != trial:
        longer = before == trial.changed(training=trial.training.changed(epochs=before.training.epochs))
        extend = "add --extend to train on from there, " if longer else ""
        raise UserError(
            f"{files.path} holds another trial: {', '.join(differences(before, trial))}; "
            f"{extend}name another folder by --output-dir, or delete this one"
        )


def check_trials(trials: Sequence[TrialSpec], prebuilt: str | None) -> None:
    """Raise UserError, a sentence for each mistake, where trials cannot be run.

    That is where a model cannot be built or not start as it should, a source has too few digits, to train on or to
    report on, or a prebuilt data set is another's.
    """
    mistakes: dict[str, None] = {}
    missed: dict[str, int] = {}
    cells = {(trial.dataset.name, trial.model.name): trial for trial in trials}.values()
    for trial in cells:
        try:
            size_of(trial)
            if trial.model.transformer and trial.model.transformer.localisation_from:
                restore_localisation(network_of(trial, Runtime(torch.device("cpu"))), trial.model)
        except BudgetError as error:
            missed[str(error)] = error.nearest
        except UserError as error:
            mistakes |= dict.fromkeys(map(str, error.args))
    if missed:
        budget = suitable_budget(list(cells), max(missed.values()))
        way_out = f"; every model here can have parameters={budget}" if budget else ""
        mistakes |= {f"{sentence}{way_out}": None for sentence in missed}
    for trial in {trial.dataset.name: trial for trial in trials}.values():
        wanted, label = trial.training.train_size, trial.source.label
        there, reported, _ = source_size(trial.source, trial.validation)
        if wanted is not None and wanted > there:
            mistakes[f"training.train_size is {wanted:,}, and {label} has {there:,} to train on; lower it"] = None
        if reported < 2:
            kind, more = "test images", "some"
            if trial.validation:
                kind, more = "images for validation", "training images, of which they are a sixth"
            needed = f"{reported}, and an error's interval needs at least two"
            mistakes[f"{label} has too few {kind}: {needed}; add {more}"] = None
        if prebuilt is not None:
            from stn_train.data.prebuilt import read_manifest

            try:
                read_manifest(trial.dataset, trial.source, at_home(prebuilt))
            except UserError as error:
                mistakes |= dict.fromkeys(map(str, error.args))
    if mistakes:
        raise UserError(*mistakes)


def suitable_budget(trials: Sequence[TrialSpec], near: int) -> int | None:
    """A budget of parameters that the models of all these trials can meet, the nearest to `near` in steps of 2 %.

    None where there is none within a factor of two.
    """
    for step in sorted(range(-35, 36), key=abs):
        budget = int(float(f"{near * 1.02**step:.3g}"))
        try:
            for trial in trials:
                size_of(trial.changed(parameters=budget))
        except UserError:
            continue
        return budget
    return None


def joined(before: ExperimentSpec, now: ExperimentSpec) -> ExperimentSpec:
    """The experiment of a folder that `now` is run in after `before`: the datasets, models and seeds of both.

    Everything else, and an entry that both name, is as `now` has it. Raises UserError where that is more than an
    experiment may have.
    """
    datasets = {entry.name: entry for entry in (*before.datasets, *now.datasets)}
    models = {entry.name: entry for entry in (*before.models, *now.models)}
    seeds = tuple(dict.fromkeys((*before.seeds, *now.seeds)))
    try:
        return now.changed(datasets=tuple(datasets.values()), models=tuple(models.values()), seeds=seeds)
    except UserError as error:
        raise UserError(
            f"this does not fit what the folder holds already: {error}; name another folder by --output-dir"
        ) from None


def differences(before: Spec, now: Spec) -> list[str]:
    """What differs between two records of a kind, in words such as `training.epochs was 20 and is 5`."""
    return [f"{key} was {old} and is {new}" for key, (old, new) in changes(before, now).items()]


def check_import(model: ModelSpec, named_in: Path) -> None:
    """Raise UserError where a model that a stored file names has a part that is not ours."""
    for key, name in model.own_parts:
        raise UserError(
            f"{named_in} names the {key} {name}, whose code would be run; where you trust it, say so by --allow-imports"
        )


def check_imports(experiment: ExperimentSpec, config: str) -> None:
    """Raise UserError where a configuration that lies in a run's folder, and so may be whoever's made the run, names a
    part that is not ours."""
    folder = Path(config).resolve().parent
    if Path(config).is_file() and any((folder / name).exists() for name in ("trials", "environment.json")):
        for model in experiment.models:
            check_import(model, Path(config))
