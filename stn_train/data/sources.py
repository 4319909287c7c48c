"""Sources of digits: undistorted 28 x 28 images and their labels."""

import contextlib
import gzip
import hashlib
import io
import math
import os
import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn_train.errors import UserError
from stn_train.specs import DIGIT, Source
from stn_train.storage import at_home

CLASSES = 10
DATA_VARIABLE = "STN_TRAIN_DATA"


@dataclass(frozen=True)
class Digits:
    """One split of a source: `images` (N x 28 x 28, uint8) and `labels` (N, int64).

    `repeats` says how often each digit appears in an epoch, or in the test variant, each time distorted differently:
    a small source is shown more often. Image j of the N * repeats shows digit j modulo N.
    """

    images: Tensor
    labels: Tensor
    repeats: int = 1

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, index: Tensor) -> "Digits":
        """The digits of these numbers."""
        return Digits(self.images[index], self.labels[index], self.repeats)

    def to(self, device: torch.device) -> "Digits":
        """The same digits on a device."""
        return Digits(self.images.to(device), self.labels.to(device), self.repeats)

    @cached_property
    def ink(self) -> NDArray[np.float64]:
        """N x 56 x 2, (x, y) in centred pixels: of each of the 28 rows the leftmost, then the rightmost inked pixel.

        Inked is what has a value above 0. A row without ink repeats the digit's first inked row, which changes no
        extent; a digit without any counts as one inked pixel in the middle of its frame. Among these points are the
        corners of the ink's convex hull.
        """
        inked = self.images.cpu().numpy() > 0
        inked[~inked.any(axis=(1, 2)), DIGIT // 2, DIGIT // 2] = True
        rows = inked.any(axis=2)
        y = np.where(rows, np.arange(DIGIT), rows.argmax(axis=1)[:, None])
        left = np.take_along_axis(inked.argmax(axis=2), y, axis=1)
        right = np.take_along_axis(DIGIT - 1 - inked[:, :, ::-1].argmax(axis=2), y, axis=1)
        ends = [np.concatenate([left, right], axis=1), np.concatenate([y, y], axis=1)]
        return np.stack(ends, axis=2) - (DIGIT - 1) / 2


def load_digits(source: Source, data_root: str | None = None) -> tuple[Digits, Digits]:
    """The training and the test split of a source: see `load_split`."""
    return load_split(source, "train", data_root), load_split(source, "test", data_root)


def load_split(source: Source, split: Literal["train", "test"], data_root: str | None = None) -> Digits:
    """One split of a source.

    The files of a torchvision source are looked for under `data_root`, then under the folder that the environment
    variable STN_TRAIN_DATA names, else in a cache folder, and downloaded where they are missing. Raises UserError where
    they cannot be had, are damaged or are not the source's own.
    """
    if source == "digits":
        return _scikit_digits()[split == "test"]
    root = data_folder(data_root)
    files = find_files(source, root) or _download(source, root)
    of_images, of_labels = _FILES[split]
    count = _COUNTS[split]
    # To delete a file is told only of one that we have downloaded.
    mend = f"put {source}'s own file there, or name another folder by --data-root"
    if files[of_labels].is_relative_to(_cache()):
        mend = "delete it to have it downloaded again"
    images = _read_idx(source, of_images, files[of_images], (count, DIGIT, DIGIT), mend)
    labels = _read_idx(source, of_labels, files[of_labels], (count,), mend)
    if labels.max() >= CLASSES:
        wrong = int((labels >= CLASSES).argmax())
        raise UserError(
            f"{files[of_labels]} is damaged: image {wrong}, counted from 0, has the label {labels[wrong]}, and labels "
            f"are from 0 to {CLASSES - 1}; {mend}"
        )
    return Digits(torch.from_numpy(images), torch.from_numpy(labels).long())


def data_folder(data_root: str | None = None) -> Path:
    """Where the files of sources are looked for: `data_root`, or STN_TRAIN_DATA's folder, or a cache."""
    return at_home(data_root or os.environ.get(DATA_VARIABLE) or str(_cache()))


def _cache() -> Path:
    return at_home(os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "stn-train"))


def source_size(source: Source, validation: bool) -> tuple[int, int, int]:
    """How many digits of a source are trained on, how many reported on, and how often an epoch shows each (`Digits`).

    A part of the training digits may be held out for validation. Reads no file.
    """
    training, test, repeats = _COUNTS["train"], _COUNTS["test"], 1
    if source == "digits":
        digits, tested = _scikit_digits()
        training, test, repeats = len(digits), len(tested), digits.repeats
    held = training // 6
    return (training - held, held, repeats) if validation else (training, test, repeats)


# --- torchvision's sources: MNIST, Fashion-MNIST, KMNIST ----------------------------------------------------------

_FOLDERS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}
_COUNTS = {"train": 60_000, "test": 10_000}
_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def find_files(source: Source, root: Path) -> dict[str, Path] | None:
    """The four files of a torchvision source, by torchvision's names for them; None where no folder has them all.

    `root` is as for torchvision, or the folder of the files or one above it. A file may be gzipped, and have a dot
    before idx, as in train-images.idx3-ubyte.
    """
    for folder in _folders(source, root):
        found = {}
        for name in _MNIST_MD5:
            dotted = name.replace("-idx", ".idx")
            paths = (folder / spelling for spelling in (name, dotted, f"{name}.gz", f"{dotted}.gz"))
            found[name] = next((path for path in paths if path.is_file()), None)
        there = {name: path for name, path in found.items() if path is not None}
        if len(there) == len(found):
            return there
    return None


def _folders(source: Source, root: Path) -> list[Path]:
    """Where a source's files may lie: all have the same names, so not in a folder named for another source."""
    own = root / _FOLDERS[source]
    others = set(_FOLDERS.values()) - {own.name}
    return [own / "raw", own] if others & set(root.absolute().parts[-2:]) else [own / "raw", own, root / "raw", root]


def _download(source: Source, root: Path) -> dict[str, Path]:
    import torchvision

    folder = root / _FOLDERS[source] / "raw"
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            getattr(torchvision.datasets, _FOLDERS[source])(str(root), download=True)
    except (OSError, RuntimeError, HTTPException) as error:
        for each in made:
            with contextlib.suppress(OSError):
                each.rmdir()
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        instead = ""
        for other in _folders(source, root):
            names = sorted(path.name for path in other.iterdir()) if other.is_dir() else []
            if names:
                more = f" and {len(names) - 8} more" if len(names) > 8 else ""
                wanted = ", ".join(_MNIST_MD5)
                instead = f": {other} has {', '.join(names[:8])}{more}, not {wanted}, each with or without .gz"
                break
        raise UserError(
            f"{source} is not in {root} and could not be downloaded ({reason}){instead}; name the folder that holds "
            f"{_FOLDERS[source]}/raw by --data-root, by data_root in the configuration or by {DATA_VARIABLE}, or start "
            "with `stn-train run --config quickstart`, which needs no download"
        ) from None
    return {name: folder / name for name in _MNIST_MD5}


def _read_idx(source: Source, name: str, path: Path, shape: tuple[int, ...], mend: str) -> NDArray[np.uint8]:
    """The values of an IDX file, gzipped or not, that holds bytes of just this shape; any other is refused by name."""
    header = struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape)
    size = len(header) + math.prod(shape)
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            content = (gzip.GzipFile(fileobj=file) if packed else file).read(size + 1)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path} is damaged: {error}; {mend}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) != size or not content.startswith(header):
        found = f"over {size:,}" if len(content) > size else f"{len(content):,}"
        raise UserError(
            f"{path} is damaged or is not {source}'s: expected the header of {' x '.join(map(str, shape))} bytes and "
            f"{size:,} bytes in all, found {found}; no command reads images of your own; {mend}"
        )
    if (hashlib.md5(content, usedforsecurity=False).hexdigest() == _MNIST_MD5[name]) != (source == "mnist"):
        why = "is damaged: its checksum is not MNIST's" if source == "mnist" else f"is MNIST's and not {source}'s"
        raise UserError(f"{path} {why}; {mend}")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape).copy()


# --- the embedded source: scikit-learn's digits -------------------------------------------------------------------

_SMALL, _BOX, _REPEATS = 8, 20, 10


def _scikit_digits() -> tuple[Digits, Digits]:
    """The 1,797 real handwritten digits that ship with scikit-learn, brought from 8 x 8 to 28 x 28 as MNIST was:
    enlarged to 20 x 20 and placed with the centre of mass in the middle. Every fourth of each class is for testing.
    """
    from sklearn.datasets import load_digits as load_scikit_digits

    # Enlarged bilinearly, edge pixels repeated, by a 20 x 8 matrix in tenths: in whole numbers, since many pixels end
    # half-way between two grey values, where machines round floats differently.
    position = (4 * np.arange(_BOX) - 3).clip(0, 10 * (_SMALL - 1))
    enlarge = np.maximum(0, 10 - np.abs(position[:, None] - 10 * np.arange(_SMALL)))
    bunch = load_scikit_digits()
    boxes = ((enlarge @ bunch.images.astype(np.int64) @ enlarge.T * 255 + 800) // 1600).astype(np.uint8)
    images = np.zeros((len(boxes), DIGIT, DIGIT), np.uint8)
    mass = boxes.sum(axis=(1, 2), dtype=np.int64)
    ramp = np.arange(_BOX)
    centre_y = (boxes.sum(axis=2, dtype=np.int64) @ ramp) / mass
    centre_x = (boxes.sum(axis=1, dtype=np.int64) @ ramp) / mass
    corners = np.rint((DIGIT - 1) / 2 - np.stack([centre_y, centre_x], axis=1)).astype(int).clip(0, DIGIT - _BOX)
    inside = np.arange(_BOX)
    rows, columns = corners[:, :1] + inside, corners[:, 1:] + inside
    images[np.arange(len(boxes))[:, None, None], rows[:, :, None], columns[:, None, :]] = boxes

    labels = bunch.target.astype(np.int64)
    order_in_class = np.zeros(len(labels), np.int64)
    for label in range(CLASSES):
        order_in_class[labels == label] = np.arange((labels == label).sum())
    everything = Digits(torch.from_numpy(images), torch.from_numpy(labels), _REPEATS)
    tested = torch.from_numpy(order_in_class % 4 == 3)
    return everything.subset(~tested), everything.subset(tested)
