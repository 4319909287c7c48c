"""Files that are whole or absent and tell when they are damaged, and folders that one process at a time works in.

Torch-free. A file with a checksum ends with the SHA-256 of every byte before it. An object in JSON has it as its last
key, lines of JSON have it as their last line, and an archive (.npz, .pt) as its comment, so that whatever reads such
files still does.
"""

import errno
import hashlib
import io
import json
import os
import platform
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from stn_train.errors import Stopped, UserError
from stn_train.safe_io import read_bytes
from stn_train.specs import Spec

if sys.platform != "win32":
    import fcntl

_AT_WORK = ".at-work"
"""The file that says who is alone in a folder; it is the folder itself that is locked."""
_PAUSE = 0.05
"""Seconds between two attempts to get into a folder."""


@contextmanager
def atomic(path: Path, before: Path | None = None) -> Iterator[IO[bytes]]:
    """Open a file to write that appears under `path`, whole and on disk, when the block ends without an error.

    Until then, and after an error, whatever stood under `path` stays as it was; afterwards it stands under `before`,
    where that is given. Folders are made as needed. Raises UserError where it vanishes meanwhile, and OSError, which
    names `path` or its folder, where the system refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = str(path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        # Also to be read: of a file that is only to be written, numpy does not say why it could not write.
        file = open(temporary, "x+b")  # noqa: SIM115 - closed below, before it takes its place, as Windows wants
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if before is not None and path.exists():
                _keep(path, before)
            os.replace(temporary, path)
        except FileNotFoundError:
            raise UserError(f"{path} vanished while it was written; give the command again") from None
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        folder_refuses = error.filename == temporary and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        error.filename = str(path.parent if folder_refuses else path)  # and no name that is ours alone
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


def json_text(value: Any, only_ascii: bool = False) -> str:
    """A value as JSON, one key a line. Raises ValueError where it holds a number that is not finite: JSON has none."""
    return json.dumps(value, indent=2, ensure_ascii=only_ascii, allow_nan=False)


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as JSON, one key a line, atomically."""
    write_text(path, json_text(value) + "\n")


def at_home(path: str) -> Path:
    """A path of the user's, in which ~ stands for the home folder, as in a shell."""
    return Path(os.path.expanduser(path))


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def folder_lock(folder: Path, stop: Callable[[], bool] | None = None) -> Iterator[None]:
    """Keep out of a folder, made as needed, every other process that asks here for the same folder.

    Where one is inside, raises UserError, which says which process it is; or, with `stop`, waits until it has left, and
    raises Stopped as soon as `stop` says so. The system lets go when a process ends, however it ends; where it cannot
    lock (Windows, some network drives), nobody is kept out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locking(folder) as lock:
        if not lock():
            time.sleep(_PAUSE)  # `is_at_work` holds the lock for the moment in which it looks
            while not lock():  # asked again and again, since a lock that is waited for lets no signal through
                if stop is None:
                    raise UserError(
                        f"another process is at work in {folder}{_who(folder)}; wait until it has ended, or stop it"
                    )
                if stop():
                    raise Stopped
                time.sleep(_PAUSE)
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


def is_locked(folder: Path) -> bool:
    """Whether a process is alone in this folder; False where the system cannot tell."""
    if not folder.is_dir():
        return False
    with _locking(folder) as lock:
        return not lock()


def check_links(folder: Path) -> None:
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
def _locking(folder: Path) -> Iterator[Callable[[], bool]]:
    """Gives a function that locks the folder and says whether it could, or is not able to; unlocked at the end."""
    if sys.platform == "win32":
        yield lambda: True
        return

    def lock() -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
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


JSON: Final = b',\n  "sha256": "%b"\n}\n'
LINES: Final = b'{"sha256": "%b"}\n'
ARCHIVE: Final = b"sha256 %b"

_LARGEST = {JSON: 2**28, LINES: 2**28, ARCHIVE: 2**33}
"""Bytes of a file of each kind that are read."""

T = TypeVar("T", bound=Spec)


class DamagedError(UserError):
    """A file is not as it was written."""


def with_checksum(body: bytes, seal: bytes) -> bytes:
    """What a file with this body holds; `seal` is one of JSON, LINES and ARCHIVE."""
    return body + seal % hashlib.sha256(body).hexdigest().encode()


def verified(content: bytes, seal: bytes) -> bytes | None:
    """The body of a file that was sealed so; None where a single bit is not as it was."""
    body = content[: -len(with_checksum(b"", seal))]
    return body if with_checksum(body, seal) == content else None


def write_record(path: Path, value: Mapping[str, Any]) -> None:
    """Write a mapping that is not empty to `path` as JSON, one key a line, atomically."""
    write_bytes(path, with_checksum(json_text(value).removesuffix("\n}").encode(), JSON))


def write_records(path: Path, lines: Iterable[str]) -> None:
    """Write objects in JSON, one a line, to `path`, atomically."""
    write_bytes(path, with_checksum("".join(f"{line}\n" for line in lines).encode(), LINES))


def write_archive(path: Path, archive: bytes, before: Path | None = None) -> None:
    """Write a zip archive that has no comment to `path`, atomically; what stood there goes to `before`, if given."""
    length_of_comment = len(with_checksum(b"", ARCHIVE)).to_bytes(2, "little")
    write_bytes(path, with_checksum(archive[:-2] + length_of_comment, ARCHIVE), before)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays to `path`, an .npz file, atomically."""
    archive = io.BytesIO()
    named: dict[str, Any] = {**arrays}
    np.savez(archive, **named)
    write_archive(path, archive.getvalue())


def read_checked(path: Path, mend: str) -> bytes:
    """The text that `write_record` wrote, without its seal.

    Raises UserError where it cannot be read, DamagedError where it is not as it was written; `mend` ends the sentence.
    """
    return _read_verified(path, JSON, mend) + b"\n}"


def read_records(path: Path, mend: str) -> list[bytes]:
    """The lines that `write_records` wrote, or an error as of `read_checked`."""
    return _read_verified(path, LINES, mend).splitlines()


def read_archive(path: Path, mend: str) -> io.BytesIO:
    """What `write_archive` wrote, to be read as a file, or an error as of `read_checked`."""
    return io.BytesIO(with_checksum(_read_verified(path, ARCHIVE, mend), ARCHIVE))


def read_record(kind: type[T], path: Path, mend: str) -> T:
    """Read a JSON file that holds a record of this kind, which has a `format`.

    `mend` ends the sentence of the UserError where the file is missing, damaged or of another format.
    """
    expected: int = kind.model_fields["format"].default
    try:
        text = read_checked(path, mend)
    except DamagedError:
        check_format(path, _format_in(path.read_bytes()), expected, mend)
        raise
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        check_format(path, _format_in(text), expected, mend)
        raise UserError(f"{path} is damaged: {error.errors()[0]['msg']}; {mend}") from None


def check_format(path: Path, found: object, expected: int, mend: str) -> None:
    """Raise UserError where `found`, what a file says of its format, is the number of another."""
    if type(found) is int and found != expected:
        raise UserError(
            f"{path} has format {found}, and this version reads format {expected}; "
            f"use the version of stn-train that wrote it, or {mend}"
        )


def _format_in(text: bytes) -> object:
    """What a JSON object without a seal says of its format; None where it says nothing, or is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found.get("format") if isinstance(found, dict) and "sha256" not in found else None


def _read_verified(path: Path, seal: bytes, mend: str) -> bytes:
    try:
        content = read_bytes(path, _LARGEST[seal])
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; {mend}") from None
    body = verified(content, seal)
    if body is None:
        raise DamagedError(f"{path} is damaged: the checksum at its end is not that of its content; {mend}")
    return body
