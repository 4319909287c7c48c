"""Questions about an experiment that need no torch: what joins a folder, what has changed, whose code is imported."""

from pathlib import Path
from typing import Any

from stn_train.errors import UserError
from stn_train.specs import CLASSIFIERS, ExperimentSpec, ModelSpec, Spec


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
    old, new = _flat(before.model_dump(mode="json")), _flat(now.model_dump(mode="json"))
    keys = dict.fromkeys((*old, *new))
    return [f"{key} was {old.get(key)} and is {new.get(key)}" for key in keys if old.get(key) != new.get(key)]


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, below in value.items():
        flat |= _flat(below, f"{prefix}{key}.") if isinstance(below, dict) else {f"{prefix}{key}": below}
    return flat


def check_import(model: ModelSpec, named_in: Path) -> None:
    """Raise UserError where a model that a stored file names has a classifier that is not ours."""
    if model.classifier not in CLASSIFIERS:
        raise UserError(
            f"{named_in} names the classifier {model.classifier}, whose code would be run; "
            "where you trust it, say so by --allow-imports"
        )


def check_imports(experiment: ExperimentSpec, config: str) -> None:
    """Raise UserError where a configuration that lies in a run's folder, and so may be whoever's made the run, names a
    classifier that is not ours."""
    folder = Path(config).resolve().parent
    if Path(config).is_file() and any((folder / name).exists() for name in ("trials", "environment.json")):
        for model in experiment.models:
            check_import(model, Path(config))
