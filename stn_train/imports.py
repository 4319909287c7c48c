"""Whose code is imported: what a user's own configuration names, and what files name only if the user says so.

Torch-free. Importing a classifier's module runs it, so a checkpoint or a run's folder of somebody else's may not.
"""

from pathlib import Path

from stn_train.errors import UserError
from stn_train.specs import CLASSIFIERS, ExperimentSpec, ModelSpec


def refuse_import(model: ModelSpec, named_in: Path) -> None:
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
            refuse_import(model, Path(config))
