"""Stopping work from outside: the first signal asks for an end, the second is one."""

import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], int]]:
    """Note the first SIGINT or SIGTERM, and leave the second to end the process at once.

    Gives a function that says which signal came; 0 while none did.
    """
    received = 0

    def note(number: int, frame: object) -> None:
        nonlocal received
        received = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stopped(kept: str, number: int) -> typer.Exit:
    """Tell what was kept and how to go on after signal `number`; the exit to raise."""
    command = shlex.join(["stn-train", *sys.argv[1:]])
    typer.echo(f"stopped; {kept}. To go on: {command}", err=True)
    return typer.Exit(128 + number)
