"""Sets of images, and the sources that are known by name: MNIST and its like, and the digits of scikit-learn."""

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
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn_train.errors import UserError
from stn_train.specs import DIGIT, SourceSpec
from stn_train.storage import at_home

SourceSplit = Literal["train", "test"]
DATA_VARIABLE = "STN_TRAIN_DATA"


@dataclass(frozen=True)
class ImageSet:
    """One split of a source: `images` (N x C x H x W, uint8) and `labels` (N, int64).

    `repeats` says how often each image appears in an epoch, or in the test variant, each time distorted differently:
    a small source is shown more often. Image j of the N * repeats shows image j modulo N of these.
    """

    images: Tensor
    labels: Tensor
    repeats: int = 1

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, index: Tensor) -> "ImageSet":
        """The images of these numbers."""
        return ImageSet(self.images[index], self.labels[index], self.repeats)

    def to(self, device: torch.device) -> "ImageSet":
        """The same images on a device."""
        return ImageSet(self.images.to(device), self.labels.to(device), self.repeats)

    @cached_property
    def ink(self) -> NDArray[np.float64]:
        """N x 2H x 2, (x, y) in centred pixels: of each of the H rows the leftmost, then the rightmost inked pixel.

        Inked is what has a value above 0 in any channel. A row without ink repeats the image's first inked row, which
        changes no extent; an image without any counts as one inked pixel in the middle of its frame. Among these points
        are the corners of the ink's convex hull.
        """
        inked: NDArray[np.bool_] = np.any(self.images.cpu().numpy() > 0, axis=1)
        height, width = inked.shape[1:]
        inked[~inked.any(axis=(1, 2)), height // 2, width // 2] = True
        rows = inked.any(axis=2)
        y = np.where(rows, np.arange(height), rows.argmax(axis=1)[:, None])
        left = np.take_along_axis(inked.argmax(axis=2), y, axis=1)
        right = np.take_along_axis(width - 1 - inked[:, :, ::-1].argmax(axis=2), y, axis=1)
        ends = [np.concatenate([left, right], axis=1), np.concatenate([y, y], axis=1)]
        return np.stack(ends, axis=2) - (np.array([width, height]) - 1) / 2


def load_known(source: SourceSpec, split: SourceSplit, data_root: str | None = None) -> ImageSet:
    """One split of a source that is known by name, and not made of another: the digits, or files.

    Raises UserError where its files cannot be had, are damaged or are not the source's own.
    """
    if source.name == "digits":
        return scikit_digits()[split == "test"]
    root = data_folder(data_root)
    files = find_files(source.name, root) or _download(source.name, root)
    # To delete a file is told only of one that we have downloaded.
    mend = f"put {source.name}'s own file there, or name another folder by --data-root"
    if all(path.is_relative_to(_cache()) for path in files.values()):
        mend = "delete it to have it downloaded again"
    path = files[_files(source.name)[split][-1]]
    if source.name == "svhn":
        images, labels = _read_svhn(source, split, path, mend)
    else:
        images, labels = _read_idx_pair(source, split, files, mend)
    most = len(source.classes)
    if labels.min() < 0 or labels.max() >= most:
        wrong = int(((labels < 0) | (labels >= most)).argmax())
        first = 1 if source.name == "emnist_letters" else 0
        raise UserError(
            f"{path} is damaged: image {wrong}, counted from 0, has the label {labels[wrong] + first}, and labels "
            f"are from {first} to {most - 1 + first}; {mend}"
        )
    return ImageSet(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))


def data_folder(data_root: str | None = None) -> Path:
    """Where the files of sources are looked for: `data_root`, or STN_TRAIN_DATA's folder, or a cache."""
    return at_home(data_root or os.environ.get(DATA_VARIABLE) or str(_cache()))


def _cache() -> Path:
    return at_home(os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "stn-train"))


def source_size(source: SourceSpec, validation: bool) -> tuple[int, int, int]:
    """How many images of a source are trained on, how many reported on, and how often an epoch shows each (ImageSet).

    A part of the training images may be held out for validation. Reads no file of the user's.
    """
    (training, test), repeats = source.counts, 1
    if source.name == "digits":
        digits, tested = scikit_digits()
        training, test, repeats = len(digits), len(tested), digits.repeats
    held = training // 6
    return (training - held, held, repeats) if validation else (training, test, repeats)


# --- torchvision's sources --------------------------------------------------------------------------------------------

_FOLDERS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST", "qmnist": "QMNIST", "svhn": "SVHN"}
_FOLDERS |= dict.fromkeys(("mnist_rot", "mnist_rot_centred"), _FOLDERS["mnist"])  # of whose digits they are made
_EMNIST = "EMNIST"
_MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def _files(name: str) -> dict[str, tuple[str, ...]]:
    """The files of a source by split, as torchvision calls them: images and labels, or both in one."""
    if name == "svhn":
        return {split: (f"{split}_32x32.mat",) for split in ("train", "test")}
    begin, labels = {"train": "train", "test": "t10k"}, "labels-idx1-ubyte"
    if name == "qmnist":
        begin, labels = {split: f"qmnist-{split}" for split in begin}, "labels-idx2-int"
    elif name.startswith("emnist_"):
        begin = {split: f"emnist-{name.removeprefix('emnist_')}-{split}" for split in begin}
    return {split: (f"{start}-images-idx3-ubyte", f"{start}-{labels}") for split, start in begin.items()}


def find_files(name: str, root: Path) -> dict[str, Path] | None:
    """The files of a torchvision source, by torchvision's names for them; None where no folder has them all.

    `root` is as for torchvision, or the folder of the files or one above it. A file may be gzipped, and have a dot
    before idx, as in train-images.idx3-ubyte.
    """
    wanted = [file for of_split in _files(name).values() for file in of_split]
    for folder in _folders(name, root):
        found = {}
        for file in wanted:
            paths = (folder / spelling for spelling in spellings(file))
            found[file] = next((path for path in paths if path.is_file()), None)
        there = {file: path for file, path in found.items() if path is not None}
        if len(there) == len(found):
            return there
    return None


def _folders(name: str, root: Path) -> list[Path]:
    """Where a source's files may lie: some have the same names, so not in a folder named for another source."""
    own = root / _FOLDERS.get(name, _EMNIST)
    others = {*_FOLDERS.values(), _EMNIST} - {own.name}
    return [own / "raw", own] if others & set(root.absolute().parts[-2:]) else [own / "raw", own, root / "raw", root]


def _download(name: str, root: Path) -> dict[str, Path]:
    import torchvision

    folder = root / _FOLDERS.get(name, _EMNIST) / "raw"
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    kind = getattr(torchvision.datasets, folder.parent.name)
    reason = "it left no such files"
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            if name == "svhn":
                for split in ("train", "test"):
                    kind(str(folder.parent), split, download=True)
            elif name == "qmnist":
                for split in ("train", "test"):
                    kind(str(root), split, download=True)
            else:
                split_of = {"split": name.removeprefix("emnist_")} if folder.parent.name == _EMNIST else {}
                kind(str(root), **split_of, download=True)
    except (OSError, RuntimeError, HTTPException) as error:
        for each in made:
            with contextlib.suppress(OSError):
                each.rmdir()
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
    if found := find_files(name, root):
        return found
    wanted = [file for of_split in _files(name).values() for file in of_split]
    instead = ""
    for other in _folders(name, root):
        names = sorted(path.name for path in other.iterdir()) if other.is_dir() else []
        if names:
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            instead = f": {other} has {', '.join(names[:8])}{more}, not {', '.join(wanted)}, each with or without .gz"
            break
    raise UserError(
        f"{name} is not in {root} and could not be downloaded ({reason}){instead}; name the folder that holds "
        f"{folder.relative_to(root)} by --data-root, by data_root in the configuration or by {DATA_VARIABLE}, or start "
        "with `stn-train run --config quickstart`, which needs no download"
    )


def _read_idx_pair(
    source: SourceSpec, split: SourceSplit, files: dict[str, Path], mend: str
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Images, N x 1 x H x W, and labels, N, from 0 on."""
    of_images, of_labels = _files(source.name)[split]
    count = source.counts[split == "test"]
    images = _read_idx(source.name, of_images, files[of_images], (count, *source.size), mend)
    if source.name == "qmnist":  # the class, and where it was written, by whom
        labels = _read_idx(source.name, of_labels, files[of_labels], (count, 8), mend, ">i4")[:, 0]
    else:
        labels = _read_idx(source.name, of_labels, files[of_labels], (count,), mend)
    if source.name.startswith("emnist_"):  # whose images lie on their side, and whose letters count from 1
        images = np.ascontiguousarray(images.transpose(0, 2, 1))
        labels = labels.astype(np.int64) - (source.name == "emnist_letters")
    return images[:, None], labels


def _read_idx(
    source: str, name: str, path: Path, shape: tuple[int, ...], mend: str, kind: Literal["u1", ">i4"] = "u1"
) -> NDArray[Any]:
    """The values of an IDX file, gzipped or not, of just this shape and kind; any other is refused by name."""
    code, width = {"u1": (0x8, 1), ">i4": (0xC, 4)}[kind]
    header = struct.pack(f">{1 + len(shape)}I", 0x100 * code + len(shape), *shape)
    size = len(header) + width * math.prod(shape)
    content = unpacked(path, size + 1, f"; {mend}")
    if len(content) != size or not content.startswith(header):
        found = f"over {size:,}" if len(content) > size else f"{len(content):,}"
        raise UserError(
            f"{path} is damaged or is not {source}'s: expected the header of {' x '.join(map(str, shape))} numbers and "
            f"{size:,} bytes in all, found {found}; for images of your own set source: to their folder; {mend}"
        )
    of_mnist = hashlib.md5(content, usedforsecurity=False).hexdigest() == _MNIST_MD5.get(name)
    if of_mnist != (source == "mnist"):
        why = "is damaged: its checksum is not MNIST's" if source == "mnist" else f"is MNIST's and not {source}'s"
        raise UserError(f"{path} {why}; {mend}")
    return np.frombuffer(content, kind, offset=len(header)).reshape(shape).copy()


def spellings(name: str) -> tuple[str, ...]:
    """How an IDX file may be called: `train-images-idx3-ubyte`, with a dot before idx, and each gzipped."""
    dotted = name.replace("-idx", ".idx")
    return name, dotted, f"{name}.gz", f"{dotted}.gz"


def unpacked(path: Path, size: int, mend: str) -> bytes:
    """The first `size` bytes of a file, gzipped or not, or as many as it has; `mend` ends a sentence on damage."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            return (gzip.GzipFile(fileobj=file) if packed else file).read(size)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path} is damaged: {error}{mend}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _read_svhn(
    source: SourceSpec, split: SourceSplit, path: Path, mend: str
) -> tuple[NDArray[np.uint8], NDArray[np.integer[Any]]]:
    """Images, N x 3 x 32 x 32, and labels, N, of SVHN's file, in which 0 has the label 10."""
    from scipy.io import loadmat

    shape = (*source.size, source.channels, source.counts[split == "test"])
    try:
        content = loadmat(path, variable_names=("X", "y"))
        images, labels = content["X"], content["y"].reshape(-1).astype(np.int64)
    except Exception as error:  # scipy and zlib raise many kinds
        raise UserError(f"{path} is damaged: {error}; {mend}") from None
    if (images.shape, images.dtype) != (shape, np.uint8) or labels.shape != shape[-1:]:
        found = f"{' x '.join(map(str, images.shape))} of {images.dtype}, and {len(labels):,} labels"
        raise UserError(
            f"{path} is not svhn's: expected images of {' x '.join(map(str, shape))} bytes, found {found}; {mend}"
        )
    labels[labels == 10] = 0
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1)), labels


# --- the embedded source: scikit-learn's digits -----------------------------------------------------------------------

_SMALL, _BOX, _REPEATS = 8, 20, 10


def scikit_digits() -> tuple[ImageSet, ImageSet]:
    """The 1,797 real handwritten digits that ship with scikit-learn, brought from 8 x 8 to 28 x 28 as MNIST was:
    enlarged to 20 x 20 and placed with the centre of mass in the middle. Every fourth of each class is for testing.
    """
    from sklearn.datasets import load_digits as load_digits

    # Enlarged bilinearly, edge pixels repeated, by a 20 x 8 matrix in tenths: in whole numbers, since many pixels end
    # half-way between two grey values, where machines round floats differently.
    position = (4 * np.arange(_BOX) - 3).clip(0, 10 * (_SMALL - 1))
    enlarge = np.maximum(0, 10 - np.abs(position[:, None] - 10 * np.arange(_SMALL)))
    bunch = load_digits()
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
    for label in range(10):
        order_in_class[labels == label] = np.arange((labels == label).sum())
    everything = ImageSet(torch.from_numpy(images[:, None]), torch.from_numpy(labels), _REPEATS)
    tested = torch.from_numpy(order_in_class % 4 == 3)
    return everything.subset(~tested), everything.subset(tested)
