"""`stn-train eval`, `report` and `status`: look at what was trained."""

from contextlib import closing
from functools import partial
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
    complete_dataset,
    tell_failed,
)
from stn_train.cli.workers import Devices, Jobs, asked
from stn_train.errors import UserError

if TYPE_CHECKING:
    from stn_train.experiment.load import Evaluation
    from stn_train.experiment.questions import Answer


TtaDegrees = Annotated[
    str | None,
    typer.Option(
        metavar="DEG,DEG",
        help="Read each image also turned clockwise by each of these; the model's own if not given, none if empty.",
    ),
]


def eval_(
    target: Target,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A dataset's name, as rts; the checkpoint's own if not given.",
            autocompletion=complete_dataset,
        ),
    ] = None,
    tta_angles: TtaDegrees = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="Also the errors of each class.")] = False,
    confusion: Annotated[bool, typer.Option("--confusion", help="Also which classes are taken for which.")] = False,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV: a line for each model, every measure.")] = False,
    data_root: DataRoot = None,
    device: Device = None,
    threads: Threads = None,
    allow_imports: AllowImports = False,
    jobs: Jobs = None,
    devices: Devices = None,
) -> None:
    """Compare checkpoints on test images, of any dataset.

    Also of one that they were not trained on. Controls that are given the true pose are left out where the dataset has
    none, and one that cannot be measured stops no other (then the exit code is 1).

    For instance: stn-train eval runs/rts --dataset r

    With test-time augmentation: stn-train eval runs/rts --tta-angles=-10,10
    """
    from stn_train.cli.progress import ProgressDisplay
    from stn_train.experiment.load import NoPoseError, checkpoints_in, evaluate
    from stn_train.experiment.questions import Question, answers

    if as_json + as_csv + (per_class or confusion) > 1:
        raise UserError(
            "--json and --csv have every measure, and go neither together nor with --per-class or --confusion"
        )
    turned = None if tta_angles is None else _degrees(tta_angles)
    checkpoints = checkpoints_in(target)
    questions = [Question(str(one), partial(evaluate, one, dataset, tta_angles=turned)) for one in checkpoints]
    ended: dict[str, Answer] = {}
    with (
        asked(jobs, devices, device, threads, data_root, allow_imports) as (runtime, workers),
        closing(ProgressDisplay(len(checkpoints) == 1, "")) as display,
    ):
        display.begin("evaluating", len(checkpoints), "checkpoints")
        for question, answer in answers(questions, runtime, workers):
            ended[question.key] = answer
            display.after_step(len(ended))
    in_order = [ended[question.key] for question in questions]
    found: list[Evaluation] = [answer.value for answer in in_order if answer.error is None]
    errors = [answer.error for answer in in_order if answer.error is not None]
    left_out = [error for error in errors if isinstance(error, NoPoseError)]
    failed = [error for error in errors if not isinstance(error, NoPoseError)]
    if not found:
        raise (failed or left_out)[0]
    first: dict[str, Path] = {}
    for each in found:
        key = f"{each.trained_on}/{each.result.trial.model.name}/seed-{each.result.trial.seed}"
        if first.setdefault(key, each.checkpoint) is not each.checkpoint:
            raise UserError(
                f"{first[key]} and {each.checkpoint} are both {key}; name the folder of one run, or compare runs by "
                "`stn-train compare`"
            )
    typer.echo(_evaluations(found, per_class, confusion, as_json, as_csv), nl=not as_csv)
    bare = [each.parent for each in target.rglob("result.json") if not each.with_name("checkpoint.pt").exists()]
    for sentence in (*dict.fromkeys(map(str, left_out)), *(f"{each} has no checkpoint.pt" for each in sorted(bare))):
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


def report(
    run: Run,
    latex: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=a_path, help="Also a table for LaTeX (booktabs).")
    ] = None,
) -> None:
    """Write the report of a run again.

    From its files, without training.

    For instance: stn-train report runs/rts --latex rts.tex
    """
    from stn_train.report.page import latex as latex_of
    from stn_train.report.page import summary
    from stn_train.report.write import report_run
    from stn_train.run_folder import RunFolder
    from stn_train.storage import write

    written = report_run(RunFolder(run))
    files = [*written.files, *([] if latex is None else [latex])]
    if latex is not None:
        write(latex, latex_of(written))
    typer.echo(summary(written))
    typer.echo("\n" + "\n".join(f"wrote {path}" for path in files))


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN RUN...", parser=a_path, help="Folders of runs; the first is the baseline."),
    ],
    power: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS",
            help="Also how many seeds a difference of so many percentage points of error needs; one run is enough.",
        ),
    ] = None,
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
    """Compare runs with each other.

    Each model with the same model, or the only one, of the first run, on the same test images; and each run's own
    models with their baselines.

    For instance: stn-train compare runs/table1 runs/table1-recipe-paper

    How many seeds would show a fifth of a percentage point: stn-train compare runs/table1 --power 0.2

    How errors fall with more training digits: stn-train compare runs/rts runs/low_data --plot digits.png
    """
    from stn_train.report.compare import compare_runs, compared_document, side_by_side, trials_by_digits
    from stn_train.run_folder import RunFolder
    from stn_train.storage import json_text

    if len(set(runs)) < len(runs) or len(runs) < (2 if power is None else 1):
        raise UserError("expected at least two runs, each named once: stn-train compare RUN RUN")
    if power is not None and not 0 < power <= 100:
        raise UserError(f"--power {power:g}: expected percentage points, above 0 and up to 100")
    folders = [RunFolder(run) for run in runs]
    found = compare_runs(folders, power)
    if plot is not None:
        from stn_train.report.plots import errors_by_digits, save_figure

        save_figure(errors_by_digits(trials_by_digits(folders)), plot)
    typer.echo(json_text(compared_document(found, power), only_ascii=True) if as_json else side_by_side(found, power))
    if plot is not None and not as_json:
        typer.echo(f"\nwrote {plot}")


def status(run: Run, as_json: AsJson = False) -> None:
    """Tell which trials are done, running, failed or pending.

    And which process trains each that is running, on which host, and since when.

    For instance: stn-train status runs/rts
    """
    from stn_train.report.status import status, status_json, status_text
    from stn_train.run_folder import RunFolder

    found = status(RunFolder(run))
    typer.echo(status_json(found) if as_json else status_text(found))


def _evaluations(found: "list[Evaluation]", per_class: bool, confusion: bool, as_json: bool, as_csv: bool) -> str:
    """Checkpoints side by side, as they were asked for."""
    from stn_train.report.page import evaluation
    from stn_train.report.results import read_evaluation, tabulate
    from stn_train.report.write import csv_documents, json_document
    from stn_train.storage import json_text

    models = tuple({one.result.trial.model.name: one.result.trial.model for one in found}.values())
    results = tabulate(
        [
            read_evaluation(one.result, one.trained_on, (one.label, one.predicted, one.digit), one.alignment, models)
            for one in found
        ]
    )
    if as_json:
        return json_text({"checkpoints": [_values(one) for one in found], **json_document(results)}, only_ascii=True)
    if as_csv:
        return csv_documents(results)[0]
    checkpoints = [(str(one.checkpoint), one.epoch, one.result) for one in found]
    return evaluation(results, checkpoints, per_class, confusion)


def _values(evaluation: "Evaluation") -> dict[str, Any]:
    """What --json has of a checkpoint."""
    result = evaluation.result
    return {
        "checkpoint": str(evaluation.checkpoint),
        "model": result.trial.model.name,
        "trained_on": evaluation.trained_on,
        "seed": result.trial.seed,
        "epoch": evaluation.epoch,
        "epochs": result.trial.training.epochs,
        "dataset": result.trial.dataset.model_dump(mode="json", exclude_none=True),
        "split": result.split,
        "tta_angles": list(result.trial.model.tta_angles),
        "images": result.images,
        "errors": result.errors,
        "confusion": result.confusion,
        "alignment": evaluation.alignment and evaluation.alignment.model_dump(mode="json"),
    }
