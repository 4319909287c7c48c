"""Variants: a split of the digits, distorted once for good. Drawn in memory, or built on disk and read back.

<folder>/<dataset>/
  manifest.json             format, source, specification, seeds, counts and checksums
  train/images.npy          M x H x W, uint8; opens with numpy.load, also memory-mapped
  train/parameters.npz      label, digit (M); theta (M x 6); rotation, scale, shear, clipped (M); shift (M x 2);
                            with clutter: clutter_digit, clutter_from_y, ... (M x P)
  test/images.npy, test/parameters.npz
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from stn_train import storage
from stn_train.data.digits import Digits
from stn_train.data.distortion import Draw, Ink, Split, draw
from stn_train.data.render import render
from stn_train.errors import UserError
from stn_train.specs import DatasetSpec, Source, Spec

VARIANT_SEED = 20_150_605
"""The seed of every test and validation variant, apart from all seeds of trainings."""
BUILD_SEED = 0
"""The seed of built training images: those of epoch 0 of a training with this seed."""
_BATCH = 1000


@dataclass(frozen=True)
class Variant:
    """Distorted images (M x 1 x H x W, uint8), their `labels` and the numbers of their digits (M, int64)."""

    images: Tensor
    labels: Tensor
    digit: Tensor
    clipped: int


def draw_variant(spec: DatasetSpec, digits: Digits, split: Split, seed: int = VARIANT_SEED) -> tuple[Variant, Draw]:
    """Distort a whole split, on the CPU and quantised, so that it is the same wherever it is needed."""
    drawn = draw(spec, digits, Ink.of(digits), seed, split)
    images = torch.empty(len(drawn), 1, *spec.canvas, dtype=torch.uint8)
    for index in torch.arange(len(drawn)).split(_BATCH):
        images[index[0] : index[-1] + 1] = (render(spec, digits, drawn, index) * 255).round().byte()
    digit = torch.arange(len(drawn)) % len(digits)
    return Variant(images, digits.labels[digit], digit, int(drawn.clipped.sum())), drawn


class Manifest(Spec):
    """What a built variant is made of, and the checksums (SHA-256) of its files."""

    format: Literal[1] = 1
    source: Source
    dataset: DatasetSpec
    seeds: dict[str, int]
    images: dict[str, int]
    files: dict[str, str]


def build_variant(spec: DatasetSpec, source: Source, digits: dict[Split, Digits], folder: Path) -> Path:
    """Write a variant of these splits below `folder`; the folder it lies in. The manifest is written last.

    Raises UserError where another process is writing it.
    """
    target = folder / spec.name
    with storage.alone_in(target):
        for part in (target, *(target / split for split in digits)):
            storage.clear_leftovers(part)
        manifest = _write_splits(spec, source, digits, target)
        storage.write_json(target / "manifest.json", manifest.model_dump(mode="json"))
    return target


def _write_splits(spec: DatasetSpec, source: Source, digits: dict[Split, Digits], target: Path) -> Manifest:
    seeds: dict[str, int] = {split: BUILD_SEED if split == "train" else VARIANT_SEED for split in digits}
    files: dict[str, str] = {}
    counts: dict[str, int] = {}
    for split, of_split in digits.items():
        variant, drawn = draw_variant(spec, of_split, split, seeds[split])
        counts[split] = len(variant.images)
        parameters = asdict(drawn)
        clutter = parameters.pop("clutter") or {}
        arrays = {"label": variant.labels, "digit": variant.digit, **parameters}
        arrays |= {f"clutter_{name}": values for name, values in clutter.items()}
        with storage.atomic(target / split / "images.npy") as file:
            np.save(file, variant.images[:, 0].numpy())
        with storage.atomic(target / split / "parameters.npz") as file:
            np.savez(file, allow_pickle=False, **{name: np.asarray(values) for name, values in arrays.items()})
        for name in ("images.npy", "parameters.npz"):
            files[f"{split}/{name}"] = storage.sha256(target / split / name)
    return Manifest(source=source, dataset=spec, seeds=seeds, images=counts, files=files)


def load_variant(spec: DatasetSpec, source: Source, folder: Path) -> dict[str, Variant]:
    """Read a built variant, train and test, and check it against its manifest and `spec`.

    Raises UserError where it is missing, damaged, or of another specification or source.
    """
    target = folder / spec.name
    path = target / "manifest.json"
    mend = f"build it again by `stn-train data build --config CONFIG --output-dir {folder}`"
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; {mend}") from None
    except ValidationError as error:
        raise UserError(f"{path} is damaged: {error.errors()[0]['msg']}; {mend}") from None
    if (manifest.source, manifest.dataset) != (source, spec):
        raise UserError(f"{target} holds another variant than the configuration's {spec.name} of {source}; {mend}")
    for name, checksum in manifest.files.items():
        if not (target / name).is_file() or storage.sha256(target / name) != checksum:
            raise UserError(f"{target / name} is missing or damaged: its checksum is not the manifest's; {mend}")
    return {split: _read_split(target / split) for split in manifest.images}


def _read_split(folder: Path) -> Variant:
    images = torch.from_numpy(np.load(folder / "images.npy"))[:, None]
    with np.load(folder / "parameters.npz") as parameters:
        labels, digit = (torch.from_numpy(parameters[name]) for name in ("label", "digit"))
        return Variant(images, labels, digit, int(parameters["clipped"].sum()))
