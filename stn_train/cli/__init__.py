"""The command `stn-train`: parses, calls, prints; no logic of its own.

One module a command group. They import what is heavy (torch, and all that reads a configuration) inside the commands,
so that help and mistakes come at once.
"""

import errno
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from stn_train.cli import (
    colocalise,
    config,
    data,
    demo,
    doctor,
    export,
    predict,
    results,
    robustness,
    run,
    tune,
    visualize,
)
from stn_train.cli.common import in_one_line
from stn_train.errors import RENAMED, TrialError, UserError

# Click's UsageError, wherever this version of typer keeps it.
UsageError: type[typer.BadParameter] = typer.BadParameter.__bases__[0]

app = typer.Typer(
    help="Measure how much a spatial transformer helps on distorted digits, and whether it removes the distortion.",
    epilog="Start with: stn-train run --config quickstart",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

# Every command group joins here, in the order of the help.
_TRAIN, _MEASURE, _PREPARE = "Train", "Look at what was trained", "Configurations and data"
app.command(rich_help_panel=_TRAIN)(run.run)
app.command(rich_help_panel=_TRAIN)(tune.tune)
app.command(rich_help_panel=_TRAIN)(results.status)
app.command(rich_help_panel=_TRAIN)(colocalise.colocalise)
app.command("eval", rich_help_panel=_MEASURE)(results.eval_)
app.command(rich_help_panel=_MEASURE)(results.compare)
app.command(rich_help_panel=_MEASURE)(robustness.robustness)
app.command(rich_help_panel=_MEASURE)(results.report)
app.command(rich_help_panel=_MEASURE)(visualize.visualize)
app.command(rich_help_panel=_MEASURE)(predict.predict)
app.command(rich_help_panel=_MEASURE)(demo.demo)
app.command(rich_help_panel=_MEASURE)(export.export)
app.add_typer(config.app, name="config", rich_help_panel=_PREPARE)
app.add_typer(data.app, name="data", rich_help_panel=_PREPARE)
app.command(rich_help_panel=_PREPARE)(doctor.doctor)


_FAILED = {
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "no space is left on the disk",
    errno.EFBIG: "the limit to the size of files (`ulimit -f`) leaves no room",
    errno.EIO: "the disk fails",
}
"""What the system says where a disk fails (exit code 1), in our words."""
_REFUSED = {
    errno.EACCES: "you have no permission",
    errno.EPERM: "you have no permission",
    errno.EROFS: "its file system is read-only",
    errno.EEXIST: "it is a file, not a folder",
    errno.ENOTDIR: "a file is where a folder should be",
    errno.EISDIR: "it is a folder, not a file",
    errno.ENAMETOOLONG: "its name is too long",
}
"""Much of what the system says where a path of the user's is at fault, in our words."""
_PACKAGE = Path(__file__).parent.parent
"""Where our own files lie, with which only we can be wrong."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line (sys.argv's without `arguments`) and exit.

    A mistake of the user's is a sentence on stderr and exit code 2; what we got wrong keeps its traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # a path need not be text
    try:
        code = app(args=None if arguments is None else list(arguments), prog_name="stn-train", standalone_mode=False)
        if sys.stdout is not None:  # as it is where whoever started this has closed it
            sys.stdout.flush()
    except UserError as error:
        for sentence in error.args:
            code = _complain(str(sentence))
    except TrialError as error:
        _complain(str(error))
        code = 1
    except UsageError as error:
        code = _complain_of_usage(error)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        code = 1
    except OSError as error:
        sentence = _about_a_file(error)
        if sentence is None:
            raise
        code = _complain(sentence)
        if error.errno in _FAILED:
            code = 1
    sys.exit(code)


def _about_a_file(error: OSError) -> str | None:
    """A sentence for what the system refuses to do with a file or a disk of the user's; None for all else."""
    name = error.filename2 or error.filename
    path = Path(os.fsdecode(name)) if isinstance(name, str | bytes) else None
    if error.errno in _FAILED:
        later = f" for {path}; what is saved is whole: give the command again when that is mended" if path else ""
        return _FAILED[error.errno] + later
    if path is None or error.errno is None or path.is_relative_to(_PACKAGE):
        return None
    if os.path.islink(path) and not os.path.exists(path):
        return f"{path} cannot be used: it is a link that leads nowhere"
    return f"{path} cannot be used: {_REFUSED.get(error.errno, f'the system says {error.strerror!r}')}"


def _complain(sentence: str, way_out: str = "") -> int:
    typer.echo(f"stn-train: error: {in_one_line(sentence)}{way_out}", err=True)
    return 2


def _complain_of_usage(error: typer.BadParameter) -> int:
    """Words for an unknown command or option; a group without a command has printed its help by now."""
    message = error.format_message().strip()
    if not message:
        return 2
    command = error.ctx.command_path if error.ctx else "stn-train"
    option = getattr(error, "option_name", "")
    now = f"; it is called {RENAMED[option]} now" if option in RENAMED else ""
    return _complain(message.rstrip(".") + now, f"\nTry '{command} --help'.")


def _installed(package: str) -> str:
    """The version of an installed package, found without importing it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@app.callback(invoke_without_command=True)
def _app(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        typer.echo(f"stn-train {_installed('stn-train')} (torch {_installed('torch')})")
        raise typer.Exit
