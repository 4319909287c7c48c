"""Files that tell when they are damaged: each ends with the SHA-256 of every byte before it. Torch-free.

An object in JSON has it as its last key, lines of JSON have it as their last line, and an archive (.npz, .pt) as its
comment, so that whatever reads such files still does.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from stn_train.errors import UserError
from stn_train.plain import read_bytes
from stn_train.specs import Spec
from stn_train.storage import json_text, write_bytes

JSON: Final = b',\n  "sha256": "%b"\n}\n'
LINES: Final = b'{"sha256": "%b"}\n'
ARCHIVE: Final = b"sha256 %b"

_LARGEST = {JSON: 2**28, LINES: 2**28, ARCHIVE: 2**33}
"""Bytes of a file of each kind that are read."""

T = TypeVar("T", bound=Spec)


class DamagedError(UserError):
    """A file is not as it was written."""


def sealed(body: bytes, seal: bytes) -> bytes:
    """What a file with this body holds; `seal` is one of JSON, LINES and ARCHIVE."""
    return body + seal % hashlib.sha256(body).hexdigest().encode()


def opened(content: bytes, seal: bytes) -> bytes | None:
    """The body of a file that was sealed so; None where a single bit is not as it was."""
    body = content[: -len(sealed(b"", seal))]
    return body if sealed(body, seal) == content else None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a mapping that is not empty to `path` as JSON, one key a line, atomically."""
    write_bytes(path, sealed(json_text(value).removesuffix("\n}").encode(), JSON))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write objects in JSON, one a line, to `path`, atomically."""
    write_bytes(path, sealed("".join(f"{line}\n" for line in lines).encode(), LINES))


def write_archive(path: Path, archive: bytes, before: Path | None = None) -> None:
    """Write a zip archive that has no comment to `path`, atomically; what stood there goes to `before`, if given."""
    length_of_comment = len(sealed(b"", ARCHIVE)).to_bytes(2, "little")
    write_bytes(path, sealed(archive[:-2] + length_of_comment, ARCHIVE), before)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays to `path`, an .npz file, atomically."""
    archive = io.BytesIO()
    named: dict[str, Any] = {**arrays}
    np.savez(archive, **named)
    write_archive(path, archive.getvalue())


def read_json(path: Path, mend: str) -> bytes:
    """The text that `write_json` wrote, without its seal.

    Raises UserError where it cannot be read, DamagedError where it is not as it was written; `mend` ends the sentence.
    """
    return _read(path, JSON, mend) + b"\n}"


def read_lines(path: Path, mend: str) -> list[bytes]:
    """The lines that `write_lines` wrote, or an error as of `read_json`."""
    return _read(path, LINES, mend).splitlines()


def read_archive(path: Path, mend: str) -> io.BytesIO:
    """What `write_archive` wrote, to be read as a file, or an error as of `read_json`."""
    return io.BytesIO(sealed(_read(path, ARCHIVE, mend), ARCHIVE))


def read_record(kind: type[T], path: Path, mend: str) -> T:
    """Read a JSON file that holds a record of this kind, which has a `format`.

    `mend` ends the sentence of the UserError where the file is missing, damaged or of another format.
    """
    expected: int = kind.model_fields["format"].default
    try:
        text = read_json(path, mend)
    except DamagedError:
        refuse_format(path, _format_in(path.read_bytes()), expected, mend)
        raise
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        refuse_format(path, _format_in(text), expected, mend)
        raise UserError(f"{path} is damaged: {error.errors()[0]['msg']}; {mend}") from None


def refuse_format(path: Path, found: object, expected: int, mend: str) -> None:
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


def _read(path: Path, seal: bytes, mend: str) -> bytes:
    try:
        content = read_bytes(path, _LARGEST[seal])
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; {mend}") from None
    body = opened(content, seal)
    if body is None:
        raise DamagedError(f"{path} is damaged: the checksum at its end is not that of its content; {mend}")
    return body
