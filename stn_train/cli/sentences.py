"""Sentences for the terminal: one line each, whatever the names in them are made of."""

from collections.abc import Sequence

import typer

from stn_train.errors import UserError

_LONGEST, _END = 1500, 500


def in_one_line(sentence: str) -> str:
    """A sentence with the characters that would break its line escaped, and with a middle that is too long left out."""
    shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in sentence)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - _END]} ... {shown[-_END:]}"


def tell_failed(errors: Sequence[UserError]) -> None:
    """Tell why some of many could not be done while others were; exit code 1 where there are any."""
    for sentence in dict.fromkeys(map(str, errors)):
        typer.echo(f"failed: {in_one_line(sentence)}", err=True)
    if errors:
        raise typer.Exit(1)
