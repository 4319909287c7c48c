"""Data sets that are built on disk and read back.

<folder>/<dataset>/
  manifest.json             format, source, specification, family of theta, seeds, counts and checksums
  train/images.npy          M x H x W, uint8; opens with numpy.load, also memory-mapped
  train/digits.npy          N x h x w, uint8: the digits before they were distorted
  train/parameters.npz      label, digit (M); theta (M x p); rotation, scale, shear, clipped (M); shift (M x 2);
                            frame (M x 4 x 2), frame_box, ink_box (M x 4): see Outline;
                            with clutter: clutter_digit, clutter_from_y, ... (M x P)
  test/images.npy, test/digits.npy, test/parameters.npz

Where an image shows two digits, images and all parameters but the label have an axis of length 2 after the first; in
colour, images and digits have one of length 3 there.
"""

import io
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from stn_train import storage
from stn_train.data.datasets import TEST_SEED, Batch, FixedDataset, OnlineDataset, make_fixed_dataset, whole_batches
from stn_train.data.distortion import Distortion, Outline, distortion_family
from stn_train.data.images import ImageSet, SourceSplit
from stn_train.errors import UserError
from stn_train.specs import DatasetSpec, SourceSpec, Spec
from stn_train.storage import arrays_in, check_axes, read_array

BUILD_SEED = 0
"""The seed of built training images: those of epoch 0 of a training with this seed."""
_SPLITS: tuple[SourceSplit, ...] = ("train", "test")
_FILES = ("images.npy", "digits.npy", "parameters.npz")


class Manifest(Spec):
    """What a built dataset is made of, and the checksums (SHA-256) of its files."""

    format: Literal[5] = 5
    source: SourceSpec
    dataset: DatasetSpec
    family: str
    seeds: dict[str, int]
    images: dict[str, int]
    files: dict[str, str]


def build_prebuilt(spec: DatasetSpec, source: SourceSpec, digits: dict[SourceSplit, ImageSet], folder: Path) -> Path:
    """Write a dataset of these splits below `folder`; the folder it lies in. The manifest is written last.

    Raises UserError where another process is writing it.
    """
    target = folder / spec.name
    seeds: dict[str, int] = {split: BUILD_SEED if split == "train" else TEST_SEED for split in digits}
    counts: dict[str, int] = {}
    files: dict[str, str] = {}
    with storage.folder_lock(target):
        for part in (target / split for split in digits):
            storage.clear_leftovers(part)
        for split, of_split in digits.items():
            made, draws, outlines = make_fixed_dataset(spec, of_split, split, seeds[split])
            counts[split] = len(made.images)
            channels = [_parameters(*channel) for channel in zip(draws, outlines, strict=True)]
            # One channel has no axis of its own in the files.
            parameters: dict[str, Any] = {"label": made.labels.numpy()}
            for name in channels[0]:
                parameters[name] = torch.stack([channel[name] for channel in channels], dim=1).squeeze(1).numpy()
            for name, images in (("images.npy", made.images.squeeze(1)), ("digits.npy", made.sources.squeeze(1))):
                np.save(file := io.BytesIO(), images.numpy())
                storage.write(target / split / name, file.getvalue())
            np.savez(archive := io.BytesIO(), **parameters)
            storage.write(target / split / "parameters.npz", archive.getvalue())
            files |= {f"{split}/{name}": storage.sha256(target / split / name) for name in _FILES}
        family = distortion_family(spec).name
        manifest = Manifest(source=source, dataset=spec, family=family, seeds=seeds, images=counts, files=files)
        storage.write_record(target / "manifest.json", manifest.model_dump(mode="json"))
    return target


def _parameters(drawn: Distortion, lies: Outline) -> dict[str, Tensor]:
    """What is true of one channel of the images, by the names in the file."""
    frame_box = np.concatenate([lies.frame.min(axis=1), lies.frame.max(axis=1)], axis=1)
    values = {name: getattr(drawn, name) for name in ("digit", "theta", "rotation", "scale", "shear", "shift")}
    values |= {"frame": lies.frame, "frame_box": frame_box, "ink_box": lies.ink, "clipped": lies.clipped}
    if drawn.clutter is not None:
        names = ("clutter_digit", "clutter_from_y", "clutter_from_x", "clutter_to_y", "clutter_to_x")
        values |= dict(zip(names, drawn.clutter.unbind(-1), strict=True))
    return {name: torch.as_tensor(value) for name, value in values.items()}


@dataclass(frozen=True)
class PrebuiltDataset:
    """Images that were distorted once, and stay as they are: M x C x H x W, uint8, with M labels and M x 9 poses."""

    images: Tensor
    labels: Tensor
    poses: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, seed: int, epoch: int, size: int) -> Iterator[Batch]:
        """As an OnlineDataset's."""
        for index in whole_batches(len(self), seed, epoch, size):
            index = index.to(self.images.device)
            poses = None if self.poses is None else self.poses[index.cpu()]
            yield Batch(self.images[index].float() / 255, self.labels[index], poses)


TrainingData = OnlineDataset | PrebuiltDataset
"""What a trial trains on."""


def read_manifest(spec: DatasetSpec, source: SourceSpec, folder: Path) -> Manifest:
    """The manifest of a built dataset. Raises UserError where it is missing, damaged, or another dataset's."""
    target, mend = folder / spec.name, _build_again(folder)
    if not (target / "manifest.json").exists():
        raise UserError(f"{target} holds no prebuilt dataset; {mend.replace('again ', '')}")
    manifest = storage.read_record(Manifest, target / "manifest.json", mend)
    if (manifest.source, manifest.dataset) != (source, spec):
        raise UserError(
            f"{target} holds another dataset than the configuration's {spec.name} of {source.label}; {mend}"
        )
    if manifest.files.keys() != {f"{split}/{name}" for split in _SPLITS for name in _FILES}:
        raise UserError(f"{target / 'manifest.json'} is damaged: it names other files than those of a dataset; {mend}")
    return manifest


def _build_again(folder: Path) -> str:
    return f"build it again by `stn-train data build --config CONFIG --output-dir {shlex.quote(str(folder))}`"


def load_prebuilt(spec: DatasetSpec, source: SourceSpec, folder: Path) -> dict[str, FixedDataset]:
    """Read a built dataset, train and test, and check it against its manifest and `spec`.

    Raises UserError where it is missing, damaged, or of another specification or source.
    """
    target, mend = folder / spec.name, _build_again(folder)
    manifest = read_manifest(spec, source, folder)
    for name, checksum in manifest.files.items():
        if not (target / name).is_file() or storage.sha256(target / name) != checksum:
            raise UserError(f"{target / name} is missing or damaged: its checksum is not the manifest's; {mend}")
    try:
        return {split: _read_split(target / split, spec, source) for split in _SPLITS}
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{target} is damaged: {error}; {mend}") from None


def _read_split(folder: Path, spec: DatasetSpec, source: SourceSpec) -> FixedDataset:
    arrays = {"images": read_array(folder / "images.npy"), "sources": read_array(folder / "digits.npy")}
    parameters = arrays_in((folder / "parameters.npz").read_bytes())
    arrays |= {name: parameters[name] for name in ("label", "digit", "theta", "clipped")}
    two = "D" if spec.addition else ""
    colour = "C" if source.channels > 1 else ""
    axes = {"images": f"u M{two or colour}HW", "sources": f"u N{colour}YX", "label": "i M"}
    axes |= {"digit": f"i M{two}", "theta": f"f M{two}P", "clipped": f"b M{two}"}
    lengths = {"C": source.channels, "D": 2, "H": spec.canvas[0], "W": spec.canvas[1]}
    lengths |= {"Y": source.size[0], "X": source.size[1], "P": len(distortion_family(spec).identity)}
    check_axes(arrays, axes, lengths)
    classes = 2 * len(source.classes) - 1 if spec.addition else len(source.classes)
    for name, most in (("label", classes), ("digit", len(arrays["sources"]))):
        if arrays[name].min() < 0 or arrays[name].max() >= most:
            raise ValueError(f"{folder.name}: {name} is not between 0 and {most - 1}")
    if not np.isfinite(arrays["theta"]).all():
        raise ValueError(f"{folder.name}: theta is not finite")
    images, sources, labels, digit, theta, clipped = map(torch.from_numpy, arrays.values())
    if images.ndim == 3:
        images = images[:, None]
    if sources.ndim == 3:
        sources = sources[:, None]
    return FixedDataset(images, labels, digit, theta, sources, int(clipped.view(len(labels), -1).any(dim=1).sum()))
