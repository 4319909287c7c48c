"""The pictures of a checkpoint, also of one whose training has not ended."""

from collections.abc import Collection, Iterator
from pathlib import Path

from stn_train.evaluation.classify import classify
from stn_train.experiment.load import faults_told, load_trained
from stn_train.experiment.runtime import Runtime
from stn_train.experiment.snapshots import gallery, has_gallery, snapshot
from stn_train.experiment.trial import build_for, check_snapshots
from stn_train.models.precision import precision_on
from stn_train.report.plots import confusions, learning_curves, png
from stn_train.report.snapshots import KINDS, Drawing, drawings

PICTURES = ("curves", *KINDS, "confusion")
"""What can be drawn, in the order of the report; only "curves" and "confusion" without a transformer at the input."""


def visualize(checkpoint: Path, wanted: Collection[str], runtime: Runtime) -> Iterator[Drawing]:
    """Draw the `wanted` pictures, of PICTURES, as far as there are any of this checkpoint.

    Raises UserError where it is missing or damaged.
    """
    trained = load_trained(checkpoint, runtime)
    trial = trained.trial
    name, title = f"{trial.model.name}@{trial.dataset.name}.png", f"{trial.model.name} on {trial.dataset.name}"
    split = "validation" if trial.validation else "test"
    if "curves" in wanted and trained.records:
        curves = learning_curves(f"Learning curves of {title}", split, {trial.model.name: [trained.records]})
        yield Drawing(f"Learning curves of {title}", f"curves_{name}", f"{split} error and training loss", png(curves))
    if not {*KINDS, "confusion"} & set(wanted):
        return
    problem = trained.problem(runtime)
    variant, precision = problem.variant, precision_on(runtime.device, trial.training)
    with faults_told(trained):
        predictions = classify(
            trained.network, variant.images, runtime.device, precision, problem.poses, trial.model.tta_angles
        )
    if set(KINDS) & set(wanted) and has_gallery(trial):
        before = snapshot(trial, runtime, build_for(trial, runtime).network, problem)
        check_snapshots(before, trained.epoch_logs, checkpoint)
        history = [before, *(look["seen"] for look in trained.epoch_logs)]
        seen = gallery(trial, runtime, trained.network, problem, predictions, history)
        arrays = {kind: {key: array.numpy() for key, array in of_kind.items()} for kind, of_kind in seen.items()}
        yield from drawings(trial, {kind: of_kind for kind, of_kind in arrays.items() if kind in wanted})
    if "confusion" in wanted:
        counts = predictions.confusion(variant.labels, trial.dataset.classes).numpy()
        figure = confusions(f"Confusion of {title}", {trial.model.name: counts})
        yield Drawing(f"Confusion of {title}", f"confusion_{name}", "percent of each true class", png(figure))
