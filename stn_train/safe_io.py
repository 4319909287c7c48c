"""Files of anyone's as plain data: what they declare is checked before memory is given to it. Torch-free."""

import codecs
import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from stn_train.errors import UserError

Arrays = Mapping[str, NDArray[Any]]


def read_bytes(path: Path, most: int) -> bytes:
    """A file's bytes. Raises UserError where it is a pipe or a device, or larger than `most`; OSError otherwise."""
    status = path.stat()
    if not path.is_file() and not path.is_dir():
        raise UserError(f"{path} cannot be read: it is a pipe or a device, not a file")
    if status.st_size > most:
        raise UserError(f"{path} cannot be read: it has {status.st_size:,} bytes, and at most {most:,} are read")
    return path.read_bytes()


_KINDS = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"%PDF": "a PDF file",
    b"\x1f\x8b": "a gzip file",
    b"\x93NUMPY": "a NumPy array",
    **{bytes([0x80, protocol]): "a Python pickle" for protocol in range(2, 6)},
}
"""What a file is that begins so."""


def what_is(path: Path) -> str:
    """What a file of anyone's is, as far as its first bytes tell, and which command reads it."""
    with path.open("rb") as file:
        head = file.read(1000)
    kind = next((words for magic, words in _KINDS.items() if head.startswith(magic)), None)
    if head.startswith(b"PK\x03\x04"):
        members = _members(path)
        if any(name.endswith("/data.pkl") for name in members):
            return "a PyTorch file, which `stn-train eval` and `stn-train visualize` read if `stn-train run` wrote it"
        kind = "an archive of NumPy's" if any(name.endswith(".npy") for name in members) else "an archive"
    elif head[5:9] == b"\0\0\0{":
        kind = "a safetensors file"
    if kind is None:
        try:
            text = codecs.getincrementaldecoder("utf-8")().decode(head).strip()
        except UnicodeDecodeError:
            return "of a kind that no command reads"
        if text[:1] not in ("{", "["):
            return "text, which `stn-train run --config` reads if it is a configuration" if text else "empty"
        return "JSON, which `stn-train run --config` reads if it is a configuration, and no other command"
    return f"{kind}, which no command reads"


def _members(path: Path) -> list[str]:
    """The names in an archive; none where it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except zipfile.BadZipFile:
        return []


def check_archive_size(content: bytes) -> None:
    """Raise ValueError where an archive declares more bytes than it has, or zipfile's error where it is none."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        declared = sum(each.file_size for each in archive.infolist())
    if declared > len(content):
        raise ValueError(f"it declares {declared:,} bytes, and has {len(content):,}")


def arrays_in(content: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file. Raises ValueError where it is none."""
    try:
        check_archive_size(content)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for each in archive.infolist():
                with archive.open(each) as member:
                    _check_array_size(member, each.file_size)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # numpy and zipfile raise many kinds
        raise ValueError(str(error) or type(error).__name__) from None


def read_array(path: Path) -> NDArray[Any]:
    """The array of an .npy file. Raises ValueError where it is none, OSError where it cannot be read."""
    with path.open("rb") as file:
        try:
            _check_array_size(file, path.stat().st_size)
            file.seek(0)
            array: NDArray[Any] = np.load(file, allow_pickle=False)
        except Exception as error:  # numpy raises many kinds
            raise ValueError(f"{path.name}: {error}") from None
    return array


def _check_array_size(file: IO[bytes], size: int) -> None:
    """Raise ValueError where an array of `size` bytes, header and all, has not the size that its header says."""
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(file)]
    shape, _, dtype = read(file)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != size - file.tell():
        raise ValueError(f"its header says {' x '.join(map(str, shape)) or 1} of {dtype}, which is not what it holds")


def check_axes(arrays: Arrays, axes: Mapping[str, str], lengths: Mapping[str, int] | None = None) -> None:
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
            shape = " x ".join(map(str, array.shape))
            raise ValueError(f"{name} is {shape or 'one'} of {array.dtype}, which does not fit")
