"""Sources of digits: undistorted 28 x 28 images and their labels."""

import contextlib
import hashlib
import io
import os
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn_train.data.randomness import chosen
from stn_train.errors import UserError
from stn_train.plain import read_bytes
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


def load_digits(source: Source, data_root: str | None = None) -> tuple[Digits, Digits]:
    """The training and the test split of a source.

    The files of a torchvision source are looked for under `data_root`, then under the folder that the environment
    variable STN_TRAIN_DATA names, else in a cache folder, and downloaded where they are missing. Raises UserError where
    they cannot be had or are damaged.
    """
    if source == "digits":
        return _scikit_digits()
    return _torchvision_digits(source, at_home(data_root or os.environ.get(DATA_VARIABLE) or _cache()))


def hold_out(digits: Digits) -> tuple[Digits, Digits]:
    """Split training digits into the first five sixths, to train on, and the last sixth, to tune on.

    Neighbours in MNIST's training digits tend to be of one writer: of every sixth digit the rest would know the hand.
    """
    held = torch.arange(len(digits)) >= len(digits) - len(digits) // 6
    return digits.subset(~held), digits.subset(held)


def few(digits: Digits, count: int, seed: int) -> Digits:
    """`count` of the training digits, chosen by the seed, and repeated so that an epoch is about as long as before.

    What a seed chooses of fewer is among what it chooses of more. Raises UserError where there are not as many.
    """
    if count > len(digits):
        raise UserError(f"training.digits is {count:,}, and there are {len(digits):,} digits to train on; name fewer")
    repeats = max(round(len(digits) * digits.repeats / count), 1)
    return replace(digits.subset(chosen(count, len(digits), seed)), repeats=repeats)


def _cache() -> str:
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "stn-train")


# --- torchvision's sources: MNIST, Fashion-MNIST, KMNIST ----------------------------------------------------------

_FOLDERS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}
_COUNTS = {"train": 60_000, "t10k": 10_000}
_MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def _torchvision_digits(source: Source, root: Path) -> tuple[Digits, Digits]:
    folder = root / _FOLDERS[source] / "raw"
    if not all((folder / name).is_file() for name in _MNIST_MD5):
        _download(source, root, folder)
    return _read_split(source, folder, "train"), _read_split(source, folder, "t10k")


def _download(source: Source, root: Path, folder: Path) -> None:
    import torchvision

    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            getattr(torchvision.datasets, _FOLDERS[source])(str(root), download=True)
    except (OSError, RuntimeError, HTTPException) as error:
        for each in made:
            with contextlib.suppress(OSError):
                each.rmdir()
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise UserError(
            f"{source} is not in {root} and could not be downloaded ({reason}); name the folder that holds "
            f"{_FOLDERS[source]}/raw by --data-root, by data_root in the configuration or by {DATA_VARIABLE}, "
            "or start with `stn-train run --config quickstart`, which needs no download"
        ) from None


def _read_split(source: Source, folder: Path, split: str) -> Digits:
    count = _COUNTS[split]
    images = _read_idx(source, folder / f"{split}-images-idx3-ubyte", (count, DIGIT, DIGIT))
    labels = _read_idx(source, folder / f"{split}-labels-idx1-ubyte", (count,))
    return Digits(torch.from_numpy(images), torch.from_numpy(labels).long())


def _read_idx(source: Source, path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The bytes of an idx file that holds uint8 values of just this shape; anything else is refused by name."""
    header = np.array([0x800 + len(shape), *shape], dtype=">u4").tobytes()
    size = len(header) + int(np.prod(shape))
    mend = "delete it to have it downloaded again, or bring a sound copy"
    try:
        found = path.stat().st_size
        if found != size:
            raise UserError(f"{path} is damaged: it has {found} bytes, not {size}; {mend}")
        content = read_bytes(path, size)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if not content.startswith(header):
        raise UserError(f"{path} is damaged: its header is not that of {shape[0]} {source} entries; {mend}")
    if source == "mnist" and hashlib.md5(content, usedforsecurity=False).hexdigest() != _MNIST_MD5[path.name]:
        raise UserError(f"{path} is damaged: its checksum is not MNIST's; {mend}")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape).copy()


# --- the embedded source: scikit-learn's digits -------------------------------------------------------------------

_SMALL, _BOX, _REPEATS = 8, 20, 10


def _scikit_digits() -> tuple[Digits, Digits]:
    """The 1,797 real handwritten digits that ship with scikit-learn, brought from 8 x 8 to 28 x 28 as MNIST was:
    enlarged to 20 x 20 and placed with the centre of mass in the middle. Every fourth of each class is for testing.
    """
    from sklearn.datasets import load_digits as load_scikit_digits

    bunch = load_scikit_digits()
    enlarge = _enlargement()
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


def _enlargement() -> NDArray[np.int64]:
    """The 20 x 8 matrix that enlarges a column of pixels bilinearly, edge pixels repeated, in tenths.

    In whole numbers, since many pixels end half-way between two grey values, where machines round floats differently.
    """
    position = (4 * np.arange(_BOX) - 3).clip(0, 10 * (_SMALL - 1))
    weights: NDArray[np.int64] = np.maximum(0, 10 - np.abs(position[:, None] - 10 * np.arange(_SMALL)))
    return weights
