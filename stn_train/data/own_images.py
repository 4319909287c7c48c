"""How one's own images are read: an .npz file, a folder for each class, IDX files, .amat files.

Whatever does not fit is told by a UserError that names the file.
"""

import hashlib
import math
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from stn_train.data.images import ImageSet, spellings, unpacked
from stn_train.errors import UserError, first_line
from stn_train.specs import SourceSpec
from stn_train.specs.datasets import LARGEST_SIDE, LEAST_SIDE, MOST_CLASSES
from stn_train.specs.fields import LONGEST_NAME
from stn_train.storage import arrays_in, at_home

Array = NDArray[Any]

_CLASS_NAME = re.compile(rf"[^\ud800-\udfff]{{1,{LONGEST_NAME}}}")
"""Without what Python makes of a byte that is not UTF-8."""


# --- one's own images -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """What was read as a split: images N x H x W (x C), labels (N), and the file or folder of either, to name it."""

    images: Array
    labels: Array
    place: Path
    place_of_labels: Path


_Parts = tuple[_Part, _Part | None, tuple[str, ...]]
"""Training images, test images where there are any, and the classes' names where these are given."""


def read_images(source: SourceSpec, data_root: str | None = None) -> tuple[SourceSpec, ImageSet, ImageSet]:
    """One's own images: their source with all that is known of it now, the training images and the test images.

    A path that is not found from the current folder is looked for below `data_root`. Raises UserError where there is
    nothing, where it does not fit, and where these are not the images of a source that had been read before.
    """
    path = _place(source, data_root)
    parts = _read(path)
    train, test, names = parts
    given = [part for part in (train, test) if part is not None]
    for part in given:
        _check_part(part, train)
    names, train_labels, test_labels = _numbered(path, parts)
    channels = max(math.prod(part.images.shape[3:]) for part in given)
    images = [_channels_first(part.images, channels) for part in given]
    if test_labels is None:
        tested = _stratified(train_labels, source.split_seed, names, train)
        images, labels = [images[0][~tested], images[0][tested]], [train_labels[~tested], train_labels[tested]]
    else:
        labels = [train_labels, test_labels]
    content = hashlib.sha256(b"".join(array.tobytes() for array in images))
    content.update(b"".join(array.tobytes() for array in labels))
    height, width = train.images.shape[1:3]
    found = source.changed(
        size=(height, width),
        channels=channels,
        classes=names,
        counts=tuple(map(len, labels)),
        checksum=content.hexdigest()[:16],
    )
    if source.classes and found != source:
        raise UserError(
            f"{path} has changed: its images are not those of before (checksum {source.checksum}, now "
            f"{found.checksum}); put those back, or train on the new ones into another folder"
        )
    made = [ImageSet(torch.from_numpy(these), torch.from_numpy(of)) for these, of in zip(images, labels, strict=True)]
    return found, made[0], made[1]


def _place(source: SourceSpec, data_root: str | None) -> Path:
    assert source.path is not None
    path = at_home(source.path)
    roots = [at_home(data_root)] if data_root else []
    for place in (path, *(root / path for root in roots), *(root / path.name for root in roots)):
        if place.exists():
            return place
    raise UserError(
        f"source {source.path}: there is no such file or folder; name the folder that it lies in by --data-root"
    )


def _read(path: Path) -> _Parts:
    if path.is_file():
        if path.suffix == ".npz":
            return _read_npz(path)
        if path.suffix == ".amat":
            return _read_amat(path)
        raise UserError(f"{path} is no source: expected an .npz or .amat file, or a folder")
    for folder in (path, path / "raw"):
        if (folder.is_dir()) and (found := _idx_files(folder)):
            return _read_idx_files(folder, found)
    tables = sorted(path.glob("*train*.amat"))
    return _read_amat(tables[0]) if tables else _read_folder(path)


def _check_part(part: _Part, train: _Part) -> None:
    """Raise UserError where images are not of a kind that can be trained on, or not like the training images."""
    images, labels = part.images, part.labels
    if images.dtype != np.uint8:
        raise UserError(f"{part.place}: its images are {images.dtype}; expected uint8, 0 to 255 (8 bits a channel)")
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        shape = " x ".join(map(str, images.shape))
        raise UserError(f"{part.place}: its images are {shape}; expected N x H x W (grey) or N x H x W x 3 (colour)")
    height, width = images.shape[1:3]
    if not LEAST_SIDE <= min(height, width) <= max(height, width) <= LARGEST_SIDE:
        raise UserError(
            f"{part.place}: its images have {height} x {width} pixels; expected {LEAST_SIDE} to {LARGEST_SIDE} along "
            "each side; resize them"
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise UserError(f"{part.place_of_labels}: its labels are not a list of whole numbers or names, one an image")
    if len(labels) != len(images) or not len(images):
        where = part.place if part.place == part.place_of_labels else f"{part.place} and {part.place_of_labels}"
        raise UserError(f"{where}: {len(images):,} images and {len(labels):,} labels; expected one label an image")
    if images.shape[1:3] != train.images.shape[1:3]:
        here, there = (" x ".join(map(str, one.images.shape[1:3])) for one in (part, train))
        raise UserError(f"{part.place}: its test images are {here}, and the training images {there}; make them alike")


def _numbered(path: Path, parts: _Parts) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.int64] | None]:
    """The classes' names, and the labels of either part as numbers from 0 on."""
    train, test, given = parts
    known = np.unique(train.labels).tolist()
    if given:
        known = list(given) if train.labels.dtype.kind == "U" else list(range(len(given)))
    names, numbers = given or tuple(map(str, known)), {str(label): number for number, label in enumerate(known)}
    if not 2 <= len(names) <= MOST_CLASSES:
        raise UserError(f"{path}: {len(names):,} class{'es' * (len(names) != 1)}; expected 2 to {MOST_CLASSES:,}")
    if odd := [name for name in names if not _CLASS_NAME.fullmatch(name)]:
        raise UserError(
            f"{train.place_of_labels}: a class is called {odd[0][:LONGEST_NAME]!r}; expected 1 to {LONGEST_NAME} "
            "characters, in UTF-8; rename it"
        )
    if doubled := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UserError(f"{path}: two classes are called {doubled[0]}; rename one")
    labels = []
    for part in filter(None, (train, test)):
        found, places = np.unique(part.labels, return_inverse=True)
        numbered = np.array([numbers.get(str(label), -1) for label in found.tolist()], np.int64)[places]
        if (numbered < 0).any():
            at = int(numbered.argmin())
            raise UserError(
                f"{part.place_of_labels}: image {at}, counted from 0, has the label {part.labels[at]}, and there is no "
                f"such class {f'among the {len(names)} of class_names' if given else 'in the training images'}"
            )
        labels.append(numbered)
    counts = np.bincount(labels[0], minlength=len(names))
    if not counts.all():
        raise UserError(f"{train.place}: class {names[int(counts.argmin())]} has no training image; add some")
    return names, labels[0], labels[1] if test is not None else None


def _stratified(labels: NDArray[np.int64], seed: int, names: tuple[str, ...], part: _Part) -> NDArray[np.bool_]:
    """Which images are for testing: a fifth of each class, by the seed."""
    tested = np.zeros(len(labels), bool)
    for label, name in enumerate(names):
        members = np.random.default_rng([seed, label]).permutation(np.flatnonzero(labels == label))
        if len(members) < 2:
            raise UserError(f"{part.place}: class {name} has one image; expected one to train on and one to test")
        tested[members[: max(len(members) // 5, 1)]] = True
    return tested


def _channels_first(images: Array, channels: int) -> NDArray[np.uint8]:
    """N x H x W (x C) as N x C x H x W; what is grey has the same in each of as many channels."""
    first = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(first if first.shape[1] == channels else first.repeat(channels, axis=1))


# --- .npz and .amat ---------------------------------------------------------------------------------------------------


def _read_npz(path: Path) -> _Parts:
    """`images` and `labels`, and as far as they are there `images_test`, `labels_test` and `class_names`."""
    try:
        arrays = arrays_in(path.read_bytes())
        arrays |= {name: np.char.decode(array, "utf-8") for name, array in arrays.items() if array.dtype.kind == "S"}
    except UnicodeDecodeError as error:
        raise UserError(f"{path} has names that are not UTF-8: {error}; save them as text (dtype str)") from None
    except ValueError as error:
        raise UserError(f"{path} is no .npz file of plain arrays: {error}") from None
    pairs = [("images", "labels"), ("images_test", "labels_test")]
    for pair in pairs:
        there = [name for name in pair if name in arrays]
        if len(there) == 1 or (not there and pair == pairs[0]):
            raise UserError(f"{path} has {', '.join(arrays) or 'nothing'}; expected {' and '.join(pair)}")
    train, *test = [_Part(arrays[images], arrays[labels], path, path) for images, labels in pairs if images in arrays]
    return train, test[0] if test else None, tuple(map(str, arrays.get("class_names", np.array([])).tolist()))


def _read_amat(path: Path) -> _Parts:
    """The format of the "variations on MNIST" (Larochelle et al., 2007): an image a line, numbers from 0 to 1, row by
    row, and its label. The test images lie in the file beside it that is called `test` in place of `train`."""
    train = _read_table(path)
    for spelling in ("train_valid", "train"):
        beside = path.with_name(path.name.replace(spelling, "test"))
        if beside != path and beside.is_file():
            return train, _read_table(beside), ()
    return train, None, ()


_LARGEST_LABEL = 2**24
"""Up to which float32 tells every whole number from the next."""


def _read_table(path: Path) -> _Part:
    try:
        with warnings.catch_warnings(action="ignore"):  # numpy warns of a file without numbers
            table = np.loadtxt(path, dtype=np.float32, ndmin=2)
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no table of numbers: {error}") from None
    if not table.size:
        raise UserError(f"{path} has no numbers; expected a line of them for each image")
    side = math.isqrt(max(table.shape[1] - 1, 0))
    pixels, labels = table[:, :-1], table[:, -1]
    if side == 0 or side**2 != table.shape[1] - 1:
        raise UserError(f"{path}: a line has {table.shape[1]} numbers; expected those of a square image, and its label")
    whole = (labels == labels.round()) & (abs(labels) <= _LARGEST_LABEL)
    if not (pixels.min() >= 0 and pixels.max() <= 1 and whole.all()):
        raise UserError(
            f"{path}: expected pixels from 0 to 1, and as the last of each line its label, a whole number up to "
            f"{_LARGEST_LABEL:,}"
        )
    images = (pixels * 255).round().astype(np.uint8).reshape(-1, side, side)
    return _Part(images, labels.astype(np.int64), path, path)


# --- IDX --------------------------------------------------------------------------------------------------------------

_NAMES = {"train": ("train",), "test": ("t10k", "test")}


def _idx_files(folder: Path) -> dict[str, Path]:
    """The IDX files of one's own in a folder, by `train images`, `train labels`, `test images` and `test labels`."""
    kinds = {"images": ("idx3", "idx4"), "labels": ("idx1",)}
    wanted = {
        f"{split} {kind}": [
            spelling for name in names for end in ends for spelling in spellings(f"{name}-{kind}-{end}-ubyte")
        ]
        for split, names in _NAMES.items()
        for kind, ends in kinds.items()
    }
    there = {
        what: next((folder / name for name in names if (folder / name).is_file()), None)
        for what, names in wanted.items()
    }
    return {what: path for what, path in there.items() if path is not None}


def _read_idx_files(folder: Path, files: dict[str, Path]) -> _Parts:
    parts: list[_Part | None] = []
    for split in _NAMES:
        images, labels = (files.get(f"{split} {kind}") for kind in ("images", "labels"))
        if images is not None and labels is not None:
            parts.append(_Part(read_idx(images), read_idx(labels), images, labels))
        elif images or labels or split == "train":
            missing = f"{split} {'labels' if images else 'images'}"
            raise UserError(
                f"{folder} has {', '.join(path.name for path in files.values())}, and no file of {missing}, such as "
                f"{_NAMES[split][0]}-{'labels-idx1' if images else 'images-idx3'}-ubyte; add it"
            )
        else:
            parts.append(None)
    train, test = parts
    assert train is not None
    return train, test, ()


def read_idx(path: Path) -> Array:
    """The bytes of an IDX file, gzipped or not, in the shape that its header tells. Raises UserError for any other."""
    header = unpacked(path, 4, "")
    if len(header) < 4 or header[:2] != b"\0\0" or not 1 <= header[3] <= 4:
        raise UserError(f"{path} is no IDX file: it begins with {header.hex(' ') or 'nothing'}")
    if header[2] != 8:
        raise UserError(f"{path} holds numbers of another kind than bytes; expected values from 0 to 255, 8 bits each")
    begin = 4 + 4 * header[3]
    shape = tuple(np.frombuffer(unpacked(path, begin, "")[4:], ">u4").tolist())
    content = unpacked(path, begin + math.prod(shape), "")
    if len(content) != begin + math.prod(shape):
        raise UserError(
            f"{path} is damaged: its header tells of {' x '.join(map(str, shape))} bytes, and it has others"
        )
    return np.frombuffer(content, np.uint8, offset=begin).reshape(shape).copy()


# --- a folder for each class ------------------------------------------------------------------------------------------

_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"}


def _read_folder(path: Path) -> _Parts:
    """The layout of torchvision's ImageFolder: `train/CLASS/x.png` and `test/CLASS/y.png`, or `CLASS/x.png` alone."""
    root = path / "train" if (path / "train").is_dir() else path
    names = _folders_in(root)
    if not names:
        raise UserError(
            f"{root} has no folder of a class: expected {root / 'CLASS' / 'x.png'}, or IDX or .amat files, as the "
            "documentation has them (Your own images)"
        )
    train = _read_classes(root, names)
    test = path / "test"
    if root == path or not test.is_dir():
        return train, None, names
    for name in _folders_in(test):
        if name not in names:
            raise UserError(f"{test / name}: there is no such class in {root}; rename it, or add {root / name}")
    return train, _read_classes(test, names), names


def _folders_in(root: Path) -> tuple[str, ...]:
    return tuple(sorted(each.name for each in root.iterdir() if each.is_dir() and not each.name.startswith(".")))


def _read_classes(root: Path, names: tuple[str, ...]) -> _Part:
    images: list[Array] = []
    labels: list[int] = []
    first: Path | None = None
    for label, name in enumerate(names):
        files = sorted(file for file in (root / name).rglob("*") if file.suffix.lower() in _ENDINGS)
        if not files and (root / name).is_dir():
            raise UserError(f"{root / name} is taken for a class and has no images; add some, or name another folder")
        for file in files:
            image = _read_image(file)
            if images and image.shape[:2] != images[0].shape[:2]:
                here, there = (" x ".join(map(str, each.shape[:2])) for each in (image, images[0]))
                raise UserError(
                    f"{file} has {here} pixels, and {first} has {there}; images of a source have one size: resize them"
                )
            first = first or file
            images.append(image)
            labels.append(label)
    if not images:
        raise UserError(f"{root} has no images; add some")
    if len({image.ndim for image in images}) > 1:  # some are grey
        images = [image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2) for image in images]
    return _Part(np.stack(images), np.array(labels), root, root)


def _read_image(path: Path) -> Array:
    """A picture as H x W or H x W x 3, uint8, turned upright as its EXIF says."""
    try:
        with Image.open(path) as image:
            if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
                raise UserError(f"{path} has an alpha channel; save it without transparency")
            if image.mode.startswith(("I", "F")):
                raise UserError(f"{path} has more than 8 bits a channel ({image.mode}); save it with 8")
            if max(image.size) > LARGEST_SIDE:
                raise UserError(
                    f"{path} has {image.height} x {image.width} pixels, and a side may have {LARGEST_SIDE}; resize it"
                )
            upright = ImageOps.exif_transpose(image)
            return np.asarray(upright.convert("L" if image.mode in ("L", "1") else "RGB"))
    except UserError:
        raise
    except Exception as error:  # Pillow raises many kinds
        raise UserError(f"{path} cannot be read as an image: {first_line(error)}") from None
