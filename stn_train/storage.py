"""Files that are whole or absent, tell when they are damaged and are read as data; folders for one process at a time.

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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from stn_train.errors import FolderBusyError, Stopped, UserError
from stn_train.specs import Spec

T = TypeVar("T", bound=Spec)

Seal = tuple[bytes, bytes, bytes]
"""How a kind of file holds a checksum: a plain end, and what stands in its place before, and with, the checksum."""
JSON: Final[Seal] = b"\n}", b"", b',\n  "sha256": "%b"\n}\n'
LINES: Final[Seal] = b"", b"", b'{"sha256": "%b"}\n'
ARCHIVE: Final[Seal] = b"\0\0", b"G\0", b"sha256 %b"
"""The length of a zip archive's comment, 0 or 71, and the comment."""


def write(
    path: Path, content: bytes | str, seal: Seal | None = None, before: Path | None = None, flush: bool = True
) -> None:
    """Write bytes, or text in UTF-8, to `path`, atomically: it appears there whole and, with `flush`, on disk.

    Until then, and after an error, whatever stood under `path` stays as it was; afterwards it stands under `before`,
    where that is given. Folders are made as needed. A link is replaced, and what it leads to stays; into a terminal,
    a pipe or the like it is written at once. `seal` is one of JSON, LINES and ARCHIVE, where a checksum is wanted; see
    `with_checksum`. Raises UserError where it vanishes meanwhile, and OSError, which names `path` or its
    folder, where the system refuses.
    """
    content = content.encode() if isinstance(content, str) else content
    if path.is_char_device() or path.is_fifo():
        path.write_bytes(content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = str(path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(with_checksum(content, seal) if seal else content)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        if before is not None and path.exists():
            before.unlink(missing_ok=True)
            try:
                os.link(path, before)
            except OSError:  # a file system without hard links
                os.replace(path, before)
        os.replace(temporary, path)
    except FileNotFoundError:
        raise UserError(f"{path} vanished while it was written; give the command again") from None
    except OSError as error:
        folder_refuses = error.filename == temporary and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        error.filename = str(path.parent if folder_refuses else path)  # and no name that is ours alone
        raise
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def json_text(value: Any, only_ascii: bool = False) -> str:
    """A value as JSON, one key a line. Raises ValueError where it holds a number that is not finite: JSON has none."""
    return json.dumps(value, indent=2, ensure_ascii=only_ascii, allow_nan=False)


def at_home(path: str) -> Path:
    """A path of the user's, in which ~ stands for the home folder, as in a shell."""
    return Path(os.path.expanduser(path))


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def clear_leftovers(folder: Path) -> None:
    """Delete what a killed process left half-written in a folder; to be called by whoever is alone in it."""
    for leftover in folder.glob(f".*.{'[0-9a-f]' * 8}.tmp"):
        leftover.unlink(missing_ok=True)


class Worker(Spec):
    """The process that works in a folder, its host, and since when; `retries`: how many workers were lost before it."""

    process: int
    host: str
    since: datetime = Field(default_factory=partial(datetime.now, UTC), strict=False)
    retries: int = 0

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since.astimezone():%Y-%m-%d %H:%M:%S%z}"


_LOCK, AT_WORK = ".lock", ".at-work"  # what is locked, and stays; and what says who is at work, while somebody is


@contextmanager
def folder_lock(folder: Path, stop: Callable[[], bool] | None = None) -> Iterator[None]:
    """Keep out of a folder, made as needed, every other process that asks here for the same folder.

    Whoever comes in finds nothing there that was left half-written. Where one is inside, raises FolderBusyError, which
    says which process it is; or, with `stop`, waits until it has left, and raises Stopped as soon as `stop` says so.
    The system lets go when a process ends, however it ends; where it cannot lock (some network drives), nobody is kept
    out. Raises UserError where a folder below is a link out of this one: what is written there would go elsewhere.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    while not lock.is_locked:
        try:
            lock.acquire(timeout=0.05, poll_interval=0.05)  # twice: `is_locked` holds it while it looks
        except Timeout:
            if stop is None:
                raise FolderBusyError(busy_sentence(folder)) from None
            if stop():
                raise Stopped from None
        except (OSError, NotImplementedError):  # if only the folder refuses, so it will in the next lines, by name
            break
    clear_leftovers(folder)
    write(folder / AT_WORK, Worker(process=os.getpid(), host=platform.node()).model_dump_json(), flush=False)
    try:
        for place, folders, _ in os.walk(folder):
            for link in (Path(place, name) for name in folders):
                if link.is_symlink() and not link.resolve().is_relative_to(folder.resolve()):
                    raise UserError(f"{link} is a link, which leads out of {folder}; put the folder itself there")
        yield
    finally:
        with suppress(OSError):
            (folder / AT_WORK).unlink()
        lock.release()


def worker_in(folder: Path) -> Worker | None:
    """Who says to be at work in this folder; None where nobody does. See `is_locked`: it may have been killed."""
    try:
        return Worker.model_validate_json((folder / AT_WORK).read_bytes())
    except (OSError, ValidationError):
        return None


def busy_sentence(folder: Path) -> str:
    """Who keeps others out of a folder, and what to do."""
    worker = worker_in(folder)
    who = f" ({worker})" if worker else ""
    return f"another process is at work in {folder}{who}; wait for its end, or stop it"


def is_locked(folder: Path) -> bool:
    """Whether a process is alone in this folder; False where the system cannot tell."""
    try:
        if (folder / _LOCK).exists():
            FileLock(folder / _LOCK).acquire(timeout=0).lock.release()
        return False
    except (OSError, NotImplementedError) as error:
        return isinstance(error, Timeout)


def with_checksum(content: bytes, seal: Seal) -> bytes:
    """What a file holds that ends with the checksum of its content; `seal` is one of JSON, LINES and ARCHIVE."""
    plain_end, start, end = seal
    body = content.removesuffix(plain_end) + start
    return body + end % hashlib.sha256(body).hexdigest().encode()


def verified(stored: bytes, seal: Seal) -> bytes | None:
    """The content that `with_checksum` was given; None where a single bit of what is stored is not as it was."""
    content = stored[: -len(with_checksum(b"", seal))] + seal[0]
    return content if with_checksum(content, seal) == stored else None


def write_record(path: Path, value: Mapping[str, Any]) -> None:
    """Write a mapping that is not empty to `path` as JSON, one key a line, atomically and with a checksum."""
    write(path, json_text(value), JSON)


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays to `path`, an .npz file, atomically and with a checksum."""
    np.savez(archive := io.BytesIO(), **arrays)
    write(path, archive.getvalue(), ARCHIVE)


def read_verified(path: Path, seal: Seal, mend: str, expected: int | None = None) -> bytes:
    """The content that `write` sealed so; `expected` is the number of its format, where it has one.

    `mend` ends the sentence of the UserError where it cannot be read, or is not as it was written.
    """
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; {mend}") from None
    content = verified(stored, seal)
    if content is None:
        if expected is not None:
            check_format(path, _format_in(stored), expected, mend)
        raise UserError(f"{path} is damaged: the checksum at its end is not that of its content; {mend}")
    return content


def read_record(kind: type[T], path: Path, mend: str) -> T:
    """Read a JSON file that holds a record of this kind, which has a `format`.

    `mend` ends the sentence of the UserError where the file is missing, damaged or of another format.
    """
    expected: int = kind.model_fields["format"].default
    content = read_verified(path, JSON, mend, expected)
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        check_format(path, _format_in(content), expected, mend)
        raise UserError(f"{path} is damaged: {error.errors()[0]['msg']}; {mend}") from None


def check_format(path: Path, found: object, expected: int, mend: str) -> None:
    """Raise UserError where `found`, what a file says of its format, is the number of another."""
    if type(found) is int and found != expected:
        way_out = f"use the version of stn-train that wrote it, or {mend}"
        raise UserError(f"{path} has format {found}, and this version reads format {expected}; {way_out}")


def _format_in(text: bytes) -> object:
    """What a JSON object without a seal says of its format; None where it says nothing, or is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found.get("format") if isinstance(found, dict) and "sha256" not in found else None


def read_arrays(
    path: Path, mend: str, axes: Mapping[str, str], lengths: Mapping[str, int] | None = None
) -> dict[str, NDArray[np.generic]]:
    """Read what `write_arrays` wrote. `mend` ends the sentence of the UserError where it is missing or damaged.

    axes, lengths: what it should hold, see `check_axes`.
    """
    content = read_verified(path, ARCHIVE, mend)
    try:
        arrays = arrays_in(content)
        check_axes(arrays, axes, lengths)
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}; {mend}") from None
    return arrays


def arrays_in(content: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file. Raises ValueError where it is none."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: np.asarray(array) for name, array in arrays.items()}
    except Exception as error:  # numpy and zipfile raise many kinds
        raise ValueError(str(error) or type(error).__name__) from None


def read_array(path: Path) -> NDArray[Any]:
    """The array of an .npy file. Raises ValueError where it is none, OSError where it cannot be read."""
    with path.open("rb") as file:
        try:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
        except Exception as error:  # numpy raises many kinds
            raise ValueError(f"{path.name}: {error}") from None


def check_axes(arrays: Mapping[str, Any], axes: Mapping[str, str], lengths: Mapping[str, int] | None = None) -> None:
    """Raise ValueError where arrays have not the names, kinds of values and axes of a file.

    axes: by name the kind of numpy (u, i, f, b) and a letter for each axis, for instance "u MHW"; of `output` also
    those of output_1, output_2, ...; a name that ends in ? may be absent. What has the same capital letter is as long;
    lengths: by letter, where it is known.
    """
    known = dict(lengths or {})
    wanted = {name.rstrip("?"): kind_and_axes.split() for name, kind_and_axes in axes.items()}
    missing = [name for name in axes if not name.endswith("?") and name not in arrays]
    strange = [name for name in arrays if name.rstrip("0123456789").rstrip("_") not in wanted]
    if missing or strange:
        raise ValueError(f"it has {', '.join(arrays) or 'nothing'}, expected {', '.join(wanted)}")
    for name, array in arrays.items():
        kind, letters = wanted[name.rstrip("0123456789").rstrip("_")]
        fits = array.dtype.kind == kind and array.ndim == len(letters)
        for letter, length in zip(letters, array.shape, strict=False):
            if letter.isupper():
                fits = fits and known.setdefault(letter, length) == length
        if not fits or 0 in array.shape[:1]:
            raise ValueError(
                f"{name} is {' x '.join(map(str, array.shape)) or 'one'} of {array.dtype}, not as expected"
            )
