"""Data sets of images: distorted afresh for every epoch, distorted once for good, and built on disk and read back.

<folder>/<dataset>/
  manifest.json             format, source, specification, family of theta, seeds, counts and checksums
  train/images.npy          M x H x W, uint8; opens with numpy.load, also memory-mapped
  train/digits.npy          N x 28 x 28, uint8: the digits before they were distorted
  train/parameters.npz      label, digit (M); theta (M x p); rotation, scale, shear, clipped (M); shift (M x 2);
                            frame (M x 4 x 2), frame_box, ink_box (M x 4): see Outline;
                            with clutter: clutter_digit, clutter_from_y, ... (M x P)
  test/images.npy, test/digits.npy, test/parameters.npz

With two channels, images and all parameters but the label have an axis of length 2 after the first.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn_train import storage
from stn_train.data.distortion import Distortion, distortion_family, sample_distortion, true_poses
from stn_train.data.extent import InkExtent, Outline, outline
from stn_train.data.randomness import Split, order
from stn_train.data.rendering import labels_of, render, to_device
from stn_train.data.sources import Digits
from stn_train.errors import UserError
from stn_train.specs import DIGIT, DatasetSpec, Source, Spec
from stn_train.storage import arrays_in, check_axes, read_array


class Batch(NamedTuple):
    """Images (B x C x H x W, float32 from 0 to 1), labels (B) and, where they are asked for, true poses (B x 9)."""

    images: Tensor
    labels: Tensor
    poses: Tensor | None


class TrainingData(Protocol):
    """Training images, in an order of their own for every epoch."""

    def __len__(self) -> int:
        """Images in an epoch."""

    def batches(self, seed: int, epoch: int, size: int) -> Iterator[Batch]:
        """An epoch's batches, only whole ones."""


@dataclass(frozen=True)
class OnlineDataset:
    """Digits that are distorted afresh for every epoch, on the device where they lie.

    `posed` asks for true poses; `elastic_augmentation` is a standard deviation in pixels (see
    `sample_distortion`). The distortions grow from none in epoch 0 to all of them in epoch `grown`.
    """

    spec: DatasetSpec
    digits: Digits
    ink: InkExtent
    posed: bool
    elastic_augmentation: float
    grown: float

    @staticmethod
    def of(
        spec: DatasetSpec,
        digits: Digits,
        device: torch.device,
        posed: bool = False,
        elastic_augmentation: float = 0.0,
        grown: float = 0.0,
    ) -> "OnlineDataset":
        """From digits on the CPU."""
        return OnlineDataset(spec, to_device(digits, device), InkExtent.of(digits), posed, elastic_augmentation, grown)

    def __len__(self) -> int:
        return len(self.digits) * self.digits.repeats

    def batches(self, seed: int, epoch: int, size: int) -> Iterator[Batch]:
        """See TrainingData. The distortions depend on seed and epoch alone."""
        spec = self.spec if epoch >= self.grown else self.spec.eased(epoch / self.grown)
        draws = sample_distortion(spec, self.digits, seed, "train", epoch, self.elastic_augmentation, self.ink)
        labels = labels_of(self.digits, draws)
        for index in whole_batches(len(self), seed, epoch, size):
            images = render(spec, self.digits, draws, index)
            poses = true_poses(spec, draws[0].theta[index]) if self.posed else None
            yield Batch(images, labels[index.to(labels.device)], poses)


@dataclass(frozen=True)
class PrebuiltDataset:
    """Images that were distorted once, and stay as they are: M x C x H x W, uint8, with M labels and M x 9 poses."""

    images: Tensor
    labels: Tensor
    poses: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, seed: int, epoch: int, size: int) -> Iterator[Batch]:
        """See TrainingData."""
        for index in whole_batches(len(self), seed, epoch, size):
            index = index.to(self.images.device)
            poses = None if self.poses is None else self.poses[index.cpu()]
            yield Batch(self.images[index].float() / 255, self.labels[index], poses)


def whole_batches(count: int, seed: int, epoch: int, size: int) -> Iterator[Tensor]:
    """The numbers of each batch's images; what is left over sits this epoch out. At least one batch, if a small one."""
    shuffled = order(count, seed, epoch)
    yield from shuffled[: max(count // size, 1) * size].split(size)


TEST_SEED = 20_150_605
"""The seed of every test and validation variant, apart from all seeds of trainings."""
BUILD_SEED = 0
"""The seed of built training images: those of epoch 0 of a training with this seed."""
_BATCH = 1000
_SPLITS: tuple[Split, ...] = ("train", "test")
_FILES = ("images.npy", "digits.npy", "parameters.npz")


@dataclass(frozen=True)
class FixedDataset:
    """A split of the digits, distorted once: M images of N digits.

    `images` (M x C x H x W, uint8) and their `labels` (M, int64); the numbers of the digits that they show, `digit` (M,
    int64), and `theta` of the dataset's family, from the canvas to the digit's frame (M x p, float32), both with an
    axis of length C after the first for several channels; `sources` (N x 28 x 28, uint8), the digits themselves; how
    many images lost ink at the canvas's edge.
    """

    images: Tensor
    labels: Tensor
    digit: Tensor
    theta: Tensor
    sources: Tensor
    clipped: int

    @property
    def source_labels(self) -> Tensor:
        """The labels of the digits themselves (N), where an image shows one."""
        return self.labels.new_zeros(len(self.sources)).index_put((self.digit,), self.labels)


def make_fixed_dataset(
    spec: DatasetSpec, digits: Digits, split: Split, seed: int = TEST_SEED
) -> tuple[FixedDataset, tuple[Distortion, ...], list[Outline]]:
    """Distort a whole split, on the CPU and quantised, so that it is the same wherever it is needed.

    With it a Distortion and an Outline for each channel.
    """
    ink = InkExtent.of(digits)
    draws = sample_distortion(spec, digits, seed, split, ink=ink)
    count = len(draws[0])
    images = torch.empty(count, spec.channels, *spec.canvas, dtype=torch.uint8)
    for index in torch.arange(count).split(_BATCH):
        images[index[0] : index[-1] + 1] = (render(spec, digits, draws, index) * 255).round().byte()
    family = distortion_family(spec)
    outlines = [outline(family, drawn.theta, spec.canvas, ink.points(drawn.digit)) for drawn in draws]
    clipped = np.any([one.clipped(spec.canvas) for one in outlines], axis=0)
    variant = FixedDataset(
        images,
        labels_of(digits, draws),
        torch.from_numpy(_joined([drawn.digit for drawn in draws])),
        torch.from_numpy(_joined([drawn.theta.numpy() for drawn in draws])),
        digits.images,
        int(clipped.sum()),
    )
    return variant, draws, outlines


def distorted_again(spec: DatasetSpec, variant: FixedDataset) -> FixedDataset:
    """A variant's digits, each distorted once more, otherwise than there."""
    return make_fixed_dataset(spec, Digits(variant.sources, variant.source_labels), "test", TEST_SEED + 1)[0]


class Manifest(Spec):
    """What a built variant is made of, and the checksums (SHA-256) of its files."""

    format: Literal[5] = 5
    source: Source
    dataset: DatasetSpec
    family: str
    seeds: dict[str, int]
    images: dict[str, int]
    files: dict[str, str]


def build_prebuilt(spec: DatasetSpec, source: Source, digits: dict[Split, Digits], folder: Path) -> Path:
    """Write a variant of these splits below `folder`; the folder it lies in. The manifest is written last.

    Raises UserError where another process is writing it.
    """
    target = folder / spec.name
    with storage.folder_lock(target):
        for part in (target, *(target / split for split in digits)):
            storage.clear_leftovers(part)
        manifest = _write_splits(spec, source, digits, target)
        storage.write_record(target / "manifest.json", manifest.model_dump(mode="json"))
    return target


def _write_splits(spec: DatasetSpec, source: Source, digits: dict[Split, Digits], target: Path) -> Manifest:
    seeds: dict[str, int] = {split: BUILD_SEED if split == "train" else TEST_SEED for split in digits}
    files: dict[str, str] = {}
    counts: dict[str, int] = {}
    for split, of_split in digits.items():
        variant, draws, outlines = make_fixed_dataset(spec, of_split, split, seeds[split])
        counts[split] = len(variant.images)
        channels = [_parameters(spec, *channel) for channel in zip(draws, outlines, strict=True)]
        arrays: dict[str, Any] = {name: _joined([channel[name] for channel in channels]) for name in channels[0]}
        with storage.atomic(target / split / "images.npy") as file:
            np.save(file, _joined(list(variant.images.numpy().swapaxes(0, 1))))
        with storage.atomic(target / split / "digits.npy") as file:
            np.save(file, variant.sources.numpy())
        with storage.atomic(target / split / "parameters.npz") as file:
            np.savez(file, label=variant.labels.numpy(), **arrays)
        for name in _FILES:
            files[f"{split}/{name}"] = storage.sha256(target / split / name)
    family = distortion_family(spec).name
    return Manifest(source=source, dataset=spec, family=family, seeds=seeds, images=counts, files=files)


def _parameters(spec: DatasetSpec, drawn: Distortion, lies: Outline) -> dict[str, NDArray[np.generic]]:
    """What is true of one channel of the images, by the names in the file."""
    values = asdict(drawn)
    clutter = values.pop("clutter") or {}
    del values["elastic_theta"]  # fixed images show the digits of the file as they are
    values |= {
        "frame": lies.frame,
        "frame_box": lies.frame_box,
        "ink_box": lies.ink,
        "clipped": lies.clipped(spec.canvas),
    }
    values |= {f"clutter_{name}": places for name, places in clutter.items()}
    return {name: np.asarray(value) for name, value in values.items()}


def _joined(channels: list[NDArray[Any]]) -> NDArray[Any]:
    """The one channel's array, or those of several along a second axis."""
    return channels[0] if len(channels) == 1 else np.stack(channels, axis=1)


def read_manifest(spec: DatasetSpec, source: Source, folder: Path) -> Manifest:
    """The manifest of a built variant. Raises UserError where it is missing, damaged, or another variant's."""
    target, mend = folder / spec.name, _build_again(folder)
    if not (target / "manifest.json").exists():
        raise UserError(f"{target} holds no prebuilt dataset; {mend.replace('again ', '')}")
    manifest = storage.read_record(Manifest, target / "manifest.json", mend)
    if (manifest.source, manifest.dataset) != (source, spec):
        raise UserError(f"{target} holds another dataset than the configuration's {spec.name} of {source}; {mend}")
    if manifest.files.keys() != {f"{split}/{name}" for split in _SPLITS for name in _FILES}:
        raise UserError(f"{target / 'manifest.json'} is damaged: it names other files than those of a variant; {mend}")
    return manifest


def _build_again(folder: Path) -> str:
    return f"build it again by `stn-train data build --config CONFIG --output-dir {folder}`"


def load_prebuilt(spec: DatasetSpec, source: Source, folder: Path) -> dict[str, FixedDataset]:
    """Read a built variant, train and test, and check it against its manifest and `spec`.

    Raises UserError where it is missing, damaged, or of another specification or source.
    """
    target, mend = folder / spec.name, _build_again(folder)
    manifest = read_manifest(spec, source, folder)
    for name, checksum in manifest.files.items():
        if not (target / name).is_file() or storage.sha256(target / name) != checksum:
            raise UserError(f"{target / name} is missing or damaged: its checksum is not the manifest's; {mend}")
    try:
        return {split: _read_split(target / split, spec) for split in _SPLITS}
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{target} is damaged: {error}; {mend}") from None


def _read_split(folder: Path, spec: DatasetSpec) -> FixedDataset:
    arrays = {"images": read_array(folder / "images.npy"), "sources": read_array(folder / "digits.npy")}
    parameters = arrays_in((folder / "parameters.npz").read_bytes())
    arrays |= {name: parameters[name] for name in ("label", "digit", "theta", "clipped")}
    channels = "C" if spec.channels > 1 else ""
    axes = {"images": f"u M{channels}HW", "sources": "u NDD", "label": "i M"}
    axes |= {"digit": f"i M{channels}", "theta": f"f M{channels}P", "clipped": f"b M{channels}"}
    lengths = {"C": spec.channels, "H": spec.canvas[0], "W": spec.canvas[1], "D": DIGIT}
    check_axes(arrays, axes, lengths | {"P": len(distortion_family(spec).identity)})
    for name, most in (("label", spec.classes), ("digit", len(arrays["sources"]))):
        if arrays[name].min() < 0 or arrays[name].max() >= most:
            raise ValueError(f"{folder.name}: {name} is not between 0 and {most - 1}")
    if not np.isfinite(arrays["theta"]).all():
        raise ValueError(f"{folder.name}: theta is not finite")
    images, sources, labels, digit, theta, clipped = map(torch.from_numpy, arrays.values())
    if spec.channels == 1:
        return FixedDataset(images[:, None], labels, digit, theta, sources, int(clipped.sum()))
    return FixedDataset(images, labels, digit, theta, sources, int(clipped.any(dim=1).sum()))
