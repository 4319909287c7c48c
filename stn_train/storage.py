"""Files that are whole or absent, their checksums, and folders that one process at a time works in. Torch-free."""

import hashlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from stn_train.errors import UserError

if sys.platform != "win32":
    import fcntl

_AT_WORK = ".at-work"
"""The file that says who is alone in a folder; it is the folder itself that is locked."""


@contextmanager
def atomic(path: Path, before: Path | None = None) -> Iterator[IO[bytes]]:
    """Open a file to write that appears under `path`, whole and on disk, when the block ends without an error.

    Until then, and after an error, whatever stood under `path` stays as it was; afterwards it stands under `before`,
    where that is given. Folders are made as needed. Raises UserError where it vanishes meanwhile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed below, before it takes its place, as Windows wants
            dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False
        )
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            if before is not None and path.exists():
                _keep(path, before)
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    except FileNotFoundError:
        raise UserError(f"{path} vanished while it was written; give the command again") from None
    except OSError as error:
        error.filename = error.filename or str(path)  # a file that cannot be written to does not say its name
        raise


def _keep(path: Path, before: Path) -> None:
    """Put what stands under `path` under `before` too."""
    before.unlink(missing_ok=True)
    try:
        os.link(path, before)
    except OSError:  # a file system without hard links
        os.replace(path, before)


def write_bytes(path: Path, content: bytes, before: Path | None = None) -> None:
    """Write `content` to `path`, atomically; what stood there goes to `before`, where that is given."""
    with atomic(path, before) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as JSON, one key a line, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def at_home(path: str) -> Path:
    """A path of the user's, in which ~ stands for the home folder, as in a shell."""
    return Path(os.path.expanduser(path))


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def alone_in(folder: Path, wait: bool = False) -> Iterator[None]:
    """Keep out of a folder, made as needed, every other process that asks here for the same folder.

    Where one is inside, waits for it, or raises UserError, which says which process it is. The system lets go when a
    process ends, however it ends; where it cannot lock (Windows, some network drives), nobody is kept out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locking(folder) as lock:
        if not lock(wait):
            time.sleep(0.05)  # `is_at_work` holds the lock for the moment in which it looks
            if not lock(wait):
                raise UserError(
                    f"another process is at work in {folder}{_who(folder)}; wait until it has ended, or stop it"
                )
        clear_leftovers(folder, _AT_WORK)
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        write_text(folder / _AT_WORK, f"process {os.getpid()} on {platform.node()}, since {since}")
        try:
            yield
        finally:
            (folder / _AT_WORK).unlink(missing_ok=True)


def _who(folder: Path) -> str:
    """What a process that is alone in a folder has written there of itself."""
    try:
        return f" ({(folder / _AT_WORK).read_text(encoding='utf-8')})"
    except OSError:
        return ""


def is_at_work(folder: Path) -> bool:
    """Whether a process is alone in this folder; False where the system cannot tell."""
    if not folder.is_dir():
        return False
    with _locking(folder) as lock:
        return not lock(False)


def refuse_links(folder: Path) -> None:
    """Raise UserError where a folder below this one is a link out of it: what is written there would go elsewhere."""
    for place, folders, _ in os.walk(folder):
        for link in (Path(place, name) for name in folders):
            if link.is_symlink() and not link.resolve().is_relative_to(folder.resolve()):
                raise UserError(f"{link} is a link, which leads out of {folder}; put the folder itself there")


def clear_leftovers(folder: Path, name: str = "*") -> None:
    """Delete what a killed process left half-written of the files of this name, a pattern; to be called alone."""
    for leftover in folder.glob(f".{name}.*.tmp"):
        with suppress(FileNotFoundError):
            leftover.unlink()


@contextmanager
def _locking(folder: Path) -> Iterator[Callable[[bool], bool]]:
    """Gives a function that locks the folder, waiting for it or not, and says whether it could; unlocked at the end."""
    if sys.platform == "win32":
        yield lambda wait: True
        return

    def lock(wait: bool) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    handle = os.open(folder, os.O_RDONLY)
    try:
        yield lock
    finally:
        os.close(handle)
