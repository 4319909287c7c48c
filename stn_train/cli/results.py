"""`stn-train eval`, `report` and `status`: look at what was trained."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stn_train.cli.common import (
    AllowImports,
    AsJson,
    DataRoot,
    Device,
    Run,
    Target,
    Threads,
    a_path,
    a_picture,
    tell_failed,
)
from stn_train.errors import UserError

if TYPE_CHECKING:
    from stn_train.experiment.load import Evaluation


def eval_(
    target: Target,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="A dataset's name, as rts; the checkpoint's own if not given.")
    ] = None,
    tta_angles: Annotated[
        str | None,
        typer.Option(
            metavar="DEG,DEG",
            help="Read each image also turned clockwise by each of these; the model's own if not given, none if empty.",
        ),
    ] = None,
    as_json: AsJson = False,
    data_root: DataRoot = None,
    device: Device = None,
    threads: Threads = None,
    allow_imports: AllowImports = False,
) -> None:
    """Measure checkpoints on any dataset, also one that they were not trained on.

    Of several, controls that are given the true pose are left out where the dataset has none, and one that cannot be
    measured stops no other (then the exit code is 1).

    For instance: stn-train eval runs/rts --dataset r

    With test-time augmentation: stn-train eval runs/rts --tta-angles=-10,10
    """
    from stn_train.experiment.load import NoPoseError, checkpoints_in, evaluate
    from stn_train.experiment.runtime import open_runtime
    from stn_train.report.page import evaluation as evaluation_text
    from stn_train.storage import json_text

    turned = None if tta_angles is None else _degrees(tta_angles)
    runtime = open_runtime(device, threads, data_root, allow_imports=allow_imports)
    found: list[dict[str, Any]] = []
    left_out: list[NoPoseError] = []
    failed: list[UserError] = []
    for checkpoint in checkpoints_in(target):
        try:
            evaluation = evaluate(checkpoint, dataset, runtime, turned)
        except NoPoseError as error:
            left_out.append(error)
            continue
        except UserError as error:
            failed.append(error)
            continue
        values = _values(evaluation)
        if not as_json:  # each as it comes: a folder may hold many
            typer.echo(("\n" if found else "") + evaluation_text(values, evaluation.alignment))
        found.append(values)
    if not found:
        raise (failed or left_out)[0]
    if as_json:
        typer.echo(json_text(found, only_ascii=True))
    for sentence in dict.fromkeys(map(str, left_out)):
        typer.echo(f"left out: {sentence}", err=True)
    tell_failed(failed)


def _degrees(text: str) -> tuple[float, ...]:
    from pydantic import TypeAdapter

    from stn_train.specs import TtaAngles

    try:
        tta_angles: tuple[float, ...] = TypeAdapter(TtaAngles).validate_python(
            [float(turn) for turn in text.split(",") if text]
        )
    except ValueError:
        raise UserError(
            f"--tta-angles {text}: expected at most 36 different angles from -180 to 180 degrees, none of them 0, "
            "separated by commas, such as -10,10"
        ) from None
    return tta_angles


def report(run: Run) -> None:
    """Write the report of a run again, from its files, without training.

    For instance: stn-train report runs/rts
    """
    from stn_train.report.page import summary
    from stn_train.report.write import report_run
    from stn_train.run_folder import RunFolder

    written = report_run(RunFolder(run))
    typer.echo(summary(written.results))
    typer.echo("\n" + "\n".join(f"wrote {path}" for path in written.files))


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN RUN...", parser=a_path, help="Folders of runs; the first is the baseline."),
    ],
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=a_picture,
            help="A picture (.png, .svg, .pdf, ...): error against training digits.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs: each model with the same model, or the only one, of the first run, on the same test images.

    For instance: stn-train compare runs/table1 runs/table1-recipe-paper

    How errors fall with more training digits: stn-train compare runs/rts runs/low_data --plot digits.png
    """
    from stn_train.report.compare import compare_runs, trials_by_digits
    from stn_train.report.page import side_by_side
    from stn_train.report.write import json_document
    from stn_train.run_folder import RunFolder
    from stn_train.storage import json_text

    if len(set(runs)) < max(len(runs), 2):
        raise UserError("expected at least two runs, each named once: stn-train compare RUN RUN")
    folders = [RunFolder(run) for run in runs]
    results = compare_runs(folders)
    if plot is not None:
        from stn_train.report.plots import errors_by_digits, save_figure

        save_figure(errors_by_digits(trials_by_digits(folders)), plot)
    typer.echo(json_text(json_document(results), only_ascii=True) if as_json else side_by_side(results))
    if plot is not None and not as_json:
        typer.echo(f"\nwrote {plot}")


def status(run: Run) -> None:
    """Tell which trials of a run are done, running, interrupted or pending.

    For instance: stn-train status runs/rts
    """
    from stn_train.report.status import status, status_text
    from stn_train.run_folder import RunFolder

    typer.echo(status_text(status(RunFolder(run))))


def _values(evaluation: "Evaluation") -> dict[str, Any]:
    from stn_train.report.measures import class_error
    from stn_train.statistics import error_over_seeds

    error = error_over_seeds(evaluation.wrong[None], evaluation.digit)
    return {
        "checkpoint": str(evaluation.checkpoint),
        "model": evaluation.trial.model.name,
        "trained_on": evaluation.trial.dataset.name,
        "seed": evaluation.trial.seed,
        "epoch": evaluation.epoch,
        "epochs": evaluation.trial.training.epochs,
        "dataset": evaluation.dataset.model_dump(mode="json", exclude_none=True),
        "split": "validation" if evaluation.trial.validation else "test",
        "tta_angles": list(evaluation.tta_angles),
        "images": len(evaluation.wrong),
        "errors": int(evaluation.wrong.sum()),
        "error": {"value": error.value, "low": error.low, "high": error.high},
        "class_errors": [class_error(evaluation.confusion, label) for label in range(len(evaluation.confusion))],
        "confusion": evaluation.confusion.tolist(),
        "alignment": evaluation.alignment and evaluation.alignment.model_dump(mode="json"),
    }
