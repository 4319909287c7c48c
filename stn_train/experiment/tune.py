"""Equal tuning: as many settings of the recipe are tried for each model, on validation digits, and its best is kept.

runs/<name>-tuning/
  trial-000/ trial-001/ ...    ordinary runs, each of one setting of every model; the first is the configuration's own
  tried.csv                    every setting, and the validation error that it led to
  tuned.yaml                   the configuration, with the best setting of each model

Nothing else is kept of the search: it is seeded, so that the same command (with the same version of Optuna) asks for
the same settings, skips those that have finished, and goes on.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from stn_train.config import dump
from stn_train.errors import TrialError, UserError, did_you_mean
from stn_train.experiment.run import RunProgress, open_run, run_trials
from stn_train.experiment.runtime import Runtime
from stn_train.run_folder import RunFolder, TrialResult
from stn_train.specs import ExperimentSpec, ModelSpec, TrialSpec, TunedSpec, trials_of
from stn_train.specs.fields import LEAST, LONGEST_NAME
from stn_train.storage import write

if TYPE_CHECKING:
    import optuna

_AT_RANDOM = 5
"""So many settings of a model are drawn at random before the search learns from those before."""


@dataclass(frozen=True)
class Setting:
    """A setting that was tried for a model. `localisation_lr`: None where no localisation network learns. `error`: in
    percent of the validation images; None where it could not be trained."""

    number: int
    model: str
    lr: float
    localisation_lr: float | None
    weight_decay: float
    error: float | None

    @property
    def loss(self) -> float:
        """The error, which the search makes small; one that could not be trained counts as always wrong."""
        return 100.0 if self.error is None else self.error

    def tuned(self, trials: int) -> TunedSpec:
        """What a configuration says where this is the best of so many."""
        return TunedSpec(
            trials=trials, lr=self.lr, localisation_lr=self.localisation_lr, weight_decay=self.weight_decay
        )


def on_one_dataset(experiment: ExperimentSpec, dataset: str | None) -> ExperimentSpec:
    """The experiment on the dataset of this name, or on its only one. Raises UserError where that is not clear."""
    known = {entry.name: entry for entry in experiment.datasets}
    if dataset is None and len(known) > 1:
        names = ", ".join(known)
        raise UserError(f"models are tuned on one dataset; choose one of {names}, as in --dataset {next(iter(known))}")
    if dataset is not None and dataset not in known:
        raise UserError(f"--dataset {dataset}: {experiment.name} has no such dataset{did_you_mean(dataset, known)}")
    return experiment.changed(datasets=(known[dataset or next(iter(known))],))


def tune(
    experiment: ExperimentSpec,
    trials: int,
    epochs: int | None,
    folder: Path,
    runtime: Runtime,
    after_step: Callable[[float], bool] = lambda epochs: False,
) -> Iterator[RunProgress | Setting]:
    """Try so many settings of each model of an experiment on one dataset; yields as it goes, and writes tuned.yaml.

    Each is an ordinary trial with the experiment's first seed, which trains for `epochs`, or the experiment's own, and
    is told by its error on validation digits: the test digits are not read. `after_step`: see `run_trials`. Raises
    UserError where Optuna is not installed and for what `open_run` finds, and TrialError, at the end, where no setting
    of a model could be trained.
    """
    recipe = experiment.training if epochs is None else experiment.training.changed(epochs=epochs)
    seed = experiment.seeds[0]
    base = experiment.changed(validation=True, seeds=(seed,), training=recipe)
    studies = {trial.model.name: _study(seed) for trial in trials_of(base)}
    spaces = {trial.model.name: _space(trial) for trial in trials_of(base)}
    tried: list[Setting] = []
    for number in range(trials):
        asked = {model: study.ask(spaces[model]) for model, study in studies.items()} if number else {}
        changes = {model: {key: _rounded(value) for key, value in one.params.items()} for model, one in asked.items()}
        batch = _with(base, {model: TunedSpec(trials=1, **changed) for model, changed in changes.items()})
        run, ordinary = RunFolder(folder / f"trial-{number:03}"), trials_of(batch)
        open_run(batch, ordinary, run, runtime)
        for progress in run_trials(ordinary, run, runtime, after_step):
            if progress.busy is not None:
                raise UserError(progress.busy)
            yield replace(
                progress,
                number=number * len(ordinary) + progress.number,
                total=trials * len(ordinary),
                before=(number + progress.before) / trials,
                share=progress.share / trials,
            )
            if progress.skipped or progress.finished or progress.failure:
                setting = _setting(number, progress.trial, run)
                if asked:
                    studies[setting.model].tell(asked[setting.model], setting.loss)
                tried.append(setting)
                yield setting
        write(folder / "tried.csv", pd.DataFrame(map(asdict, tried)).to_csv(index=False))
    best = winners(tried)
    if hopeless := [model for model, setting in best.items() if setting.error is None]:
        raise TrialError(f"no setting of {', '.join(hopeless)} could be trained; what failed is told above")
    counts = {model.name: trials + (model.tuned.trials if model.tuned else 0) for model in experiment.models}
    tuned = _with(experiment, {model: setting.tuned(counts[model]) for model, setting in best.items()})
    heading = (
        f"# The best of {trials} settings of each model, on validation digits, with training.epochs={recipe.epochs}.\n"
    )
    name = f"{experiment.name[: LONGEST_NAME - len('-tuned')]}-tuned"
    write(folder / "tuned.yaml", heading + dump(tuned.changed(name=name)))


def winners(tried: Iterable[Setting]) -> dict[str, Setting]:
    """Of each model the setting with the lowest error; of several, the earliest."""
    best: dict[str, Setting] = {}
    for setting in tried:
        best[setting.model] = min(best.get(setting.model, setting), setting, key=lambda one: one.loss)
    return best


def _space(trial: TrialSpec) -> "dict[str, optuna.distributions.BaseDistribution]":
    """Where settings are looked for, all on logarithmic scales."""
    from optuna.distributions import FloatDistribution

    lr = trial.training.lr
    ranges = {"lr": (max(lr / 10, LEAST), min(10 * lr, 100.0)), "weight_decay": (0.0001, 0.1)}
    if trial.model.localises:
        ranges["localisation_lr"] = 0.01, 1.0
    return {key: FloatDistribution(low, high, log=True) for key, (low, high) in ranges.items()}


def _study(seed: int) -> "optuna.Study":
    try:
        import optuna
    except ImportError:
        raise UserError("the package optuna is not installed; pip install 'stn-train[tune]' installs it") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=_AT_RANDOM))


def _rounded(value: float) -> float:
    """To three figures: no more are worth writing down."""
    return float(f"{value:.3g}")


def _with(experiment: ExperimentSpec, tuned: Mapping[str, TunedSpec]) -> ExperimentSpec:
    """The experiment with these settings of its models, by name; what is not searched for stays as it is."""

    def changed(model: ModelSpec) -> ModelSpec:
        if (setting := tuned.get(model.name)) is None:
            return model
        return model.changed(tuned=(model.tuned or setting).changed(**setting.model_dump(exclude_none=True)))

    return experiment.changed(models=tuple(map(changed, experiment.models)))


def _setting(number: int, trial: TrialSpec, run: RunFolder) -> Setting:
    files, recipe = run.trial(trial), trial.training
    return Setting(
        number=number,
        model=trial.model.name,
        lr=recipe.lr,
        localisation_lr=recipe.localisation_lr if trial.model.localises else None,
        weight_decay=recipe.weight_decay,
        error=files.load(TrialResult, files.result).error if files.result.exists() else None,
    )
