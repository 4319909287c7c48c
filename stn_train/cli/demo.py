"""`stn-train demo`: a page on which one moves a digit by hand, and trained networks answer."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stn_train.cli.common import AllowImports, DataRoot, a_path
from stn_train.errors import UserError

if TYPE_CHECKING:
    from stn_train.experiment.runtime import Runtime
    from stn_train.report.demo import Shown
    from stn_train.run_folder import RunFolder
    from stn_train.specs import ExperimentSpec


def demo(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", parser=a_path, help="A run's folder; the networks that ship if not given."),
    ] = None,
    only: Annotated[
        str, typer.Option(metavar="PATTERN", help="Only the models whose dataset/model matches, as 'rts/st_*'.")
    ] = "*",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", parser=a_path, help="The page; RUN/demo.html if not given."),
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Write the page, and do not open it.")] = False,
    data_root: DataRoot = None,
    allow_imports: AllowImports = False,
) -> None:
    """Move a digit by hand, and watch the networks.

    Writes one page, demo.html, that opens from disk, on a phone too, and needs no network. On it a digit is dragged,
    turned and scaled, or written; beside it one sees where the transformer looks, what it makes of the digit, and what
    the networks read, with and without it.

    For instance: stn-train demo runs/quickstart
    """
    import webbrowser

    from stn_train.data.sources import load_images
    from stn_train.experiment.load import SHIPPED
    from stn_train.experiment.runtime import load_digits_of, open_runtime
    from stn_train.report.demo import demo_page
    from stn_train.report.write import report_run
    from stn_train.run_folder import RunFolder
    from stn_train.storage import write

    folder = RunFolder(run or SHIPPED)
    experiment = folder.load_experiment()
    runtime = open_runtime("cpu", None, data_root or experiment.data_root, allow_imports=allow_imports)
    shown = _trained(folder, experiment, only, runtime)
    path = output or (Path("demo.html") if run is None else folder.demo)
    # The networks that ship need no MNIST: their page shows scikit-learn's digits.
    digits = load_images("digits")[1] if run is None else load_digits_of(shown[0].trial, "fixed", runtime)
    write(path, demo_page(shown, digits))
    if run is not None and output is None and folder.finished(experiment):
        report_run(folder, experiment)  # which links it
    typer.echo(f"wrote {path}")
    if not no_open:
        webbrowser.open(path.resolve().as_uri())


def _trained(folder: "RunFolder", experiment: "ExperimentSpec", only: str, runtime: "Runtime") -> "list[Shown]":
    """The models that match, of the first dataset that has any: the first seed of each that has a checkpoint.

    Raises UserError where none has.
    """
    from stn_train.experiment.load import load_trained
    from stn_train.report.demo import Shown
    from stn_train.specs import trials_of

    trials = [trial for trial in trials_of(experiment, only) if folder.trial(trial).checkpoint.exists()]
    if not trials:
        raise UserError(f"{folder.path} has no checkpoint of {only}: train first, or name others by --only")
    first = {trial.model.name: trial for trial in reversed(trials) if trial.dataset == trials[0].dataset}
    shown = []
    for trial in reversed(first.values()):
        files, may_be_read = folder.trial(trial), not trial.model.own_parts or runtime.allow_imports
        network = load_trained(files.checkpoint, runtime).network if may_be_read else None
        shown.append(Shown(trial, network, files.load_gallery(["training"]).get("training")))
    return shown
