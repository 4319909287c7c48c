"""What several commands share: options, sentences on one line, and stopping by a signal."""

import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

PICTURES = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp")
"""Endings of the pictures that can be asked for."""


def a_path(text: str | Path) -> Path:
    """A path of the command line. The empty one is refused: it would be the folder that one happens to be in."""
    if not str(text):
        raise typer.BadParameter("an empty path; name a file or a folder, the one you are in as '.'")
    return Path(text)


def a_picture(text: str | Path) -> Path:
    """The path of a picture, whose ending says its format."""
    if a_path(text).suffix.lower() not in PICTURES:
        raise typer.BadParameter(f"{text} has to end in {', '.join(PICTURES[:-1])} or {PICTURES[-1]}")
    return Path(text)


def complete_config(incomplete: str) -> list[str]:
    """The shipped configurations, and the YAML files and folders here, that begin like this; for the shell."""
    from stn_train.config import shipped

    here = (
        [*Path().glob(f"{incomplete}*.y*ml"), *Path().glob(f"{incomplete}*/")] if incomplete else Path().glob("*.y*ml")
    )
    return [name for name in shipped() if name.startswith(incomplete)] + sorted(map(str, here))


def complete_dataset(incomplete: str) -> list[str]:
    """The datasets' names that begin like this; for the shell."""
    from stn_train.specs import DATASETS

    return [name for name in DATASETS if name.startswith(incomplete)]


Config = Annotated[
    str,
    typer.Option(
        "--config", "-c", metavar="CONFIG", help="A YAML file, or a shipped name.", autocompletion=complete_config
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key, for instance training.epochs=5; can be repeated."),
]
DataRoot = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        parser=lambda text: str(a_path(text)),
        help="Folder of the digits; else data_root of the config, $STN_TRAIN_DATA, a cache.",
    ),
]
Device = Annotated[str | None, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, ...; the GPU where there is one.")]
Threads = Annotated[
    int | None, typer.Option(min=1, max=1024, metavar="N", help="CPU threads; torch's choice if not given.")
]
Run = Annotated[Path, typer.Argument(metavar="RUN", parser=a_path, help="A run's folder, for instance runs/rts.")]
Target = Annotated[
    Path,
    typer.Argument(metavar="RUN_OR_CHECKPOINT", parser=a_path, help="A run's or a trial's folder, or a checkpoint.pt."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OutputDir = Annotated[
    Path | None, typer.Option(metavar="DIR", parser=a_path, help="Where results go; runs/NAME if not given.")
]
Validate = Annotated[bool, typer.Option("--validate", help="Hold out training digits and report on them: for tuning.")]
AllowImports = Annotated[
    bool,
    typer.Option("--allow-imports", help="Run the code of your own parts that a checkpoint or a run's folder names."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress: only warnings, failures and the result.")]


_LONGEST, _END = 1500, 500


def in_one_line(sentence: str) -> str:
    """A sentence with the characters that would break its line escaped, and with a middle that is too long left out."""
    shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in sentence)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - _END]} ... {shown[-_END:]}"


def tell_failed(errors: Sequence[Exception]) -> None:
    """Tell why some of many could not be done while others were; exit code 1 where there are any."""
    for sentence in dict.fromkeys(map(str, errors)):
        typer.echo(f"failed: {in_one_line(sentence)}", err=True)
    if errors:
        raise typer.Exit(1)


@contextmanager
def stop_on_signal() -> Iterator[list[int]]:
    """Note the first SIGINT or SIGTERM, and leave the second to end the process at once.

    Gives a list, empty until a signal comes, which then holds its number.
    """
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stopped(kept: str, number: int) -> typer.Exit:
    """Tell what was kept and how to go on after signal `number`; the exit to raise."""
    command = shlex.join(["stn-train", *sys.argv[1:]])
    typer.echo(f"stopped; {kept}. To go on: {command}", err=True)
    return typer.Exit(128 + number)
