"""Folders that one process at a time works in."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stn_train.errors import UserError

if sys.platform != "win32":
    import fcntl


@contextmanager
def alone_in(folder: Path, wait: bool = False) -> Iterator[None]:
    """Keep out of a folder, made as needed, every other process that asks here for the same folder.

    Where one is inside, waits for it, or raises UserError. The system lets go when a process ends, however it ends;
    where it cannot lock (Windows, some network drives), nobody is kept out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle, folder, wait)
        yield
    finally:
        os.close(handle)


def clear_leftovers(folder: Path, name: str = "*") -> None:
    """Delete what a killed process left half-written of the files of this name, a pattern; to be called alone."""
    for leftover in folder.glob(f".{name}.*.tmp"):
        with suppress(FileNotFoundError):
            leftover.unlink()


def _lock(handle: int, folder: Path, wait: bool) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise UserError(f"another process is at work in {folder}; wait until it has ended, or stop it") from None
    except OSError:
        pass
