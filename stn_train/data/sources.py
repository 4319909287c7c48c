"""Sources: images before they are distorted, of data sets that are known by name and of files of one's own."""

import math

import numpy as np
import torch

from stn_train.data.distortion import random_stream
from stn_train.data.images import ImageSet, SourceSplit, load_known
from stn_train.geometry import SIMILARITY, bilinear_sampler, ink_place
from stn_train.specs import SourceSpec

_ROTATED_SEED = 20_070_620
_BATCH = 1000


def load_images(source: SourceSpec | str, data_root: str | None = None) -> tuple[ImageSet, ImageSet]:
    """The training and the test images of a source, given by its name, a path or a SourceSpec: see `load_split`."""
    known = SourceSpec.model_validate(source)
    if known.path is not None:
        from stn_train.data.own_images import read_images  # most runs read none

        _, train, test = read_images(known, data_root)
        return train, test
    return load_split(known, "train", data_root), load_split(known, "test", data_root)


def load_split(source: SourceSpec, split: SourceSplit, data_root: str | None = None) -> ImageSet:
    """One split of a source.

    The files of a source with a name are looked for under `data_root`, then under the folder that the environment
    variable STN_TRAIN_DATA names, else in a cache folder, and downloaded where they are missing. Raises UserError where
    they cannot be had, are damaged or are not the source's own.
    """
    if source.path is not None:
        return load_images(source, data_root)[split == "test"]
    if source.is_rotated_mnist:
        return rotated_mnist(split, source.name == "mnist_rot_centred", data_root)
    return load_known(source, split, data_root)


def rotated_mnist(split: SourceSplit, centred: bool = False, data_root: str | None = None) -> ImageSet:
    """A split of rotated MNIST made anew: 12,000 or 50,000 of MNIST's 70,000 digits, each turned once by any angle.

    Which digits, and by what angles, is drawn from one seed: a random split, in which writers are in both parts. The
    original (Larochelle et al., ICML 2007) has as many of each, others of them and other angles. Turned bilinearly,
    about the middle of their frame, into a frame of the same size. MNIST's digits lie half a pixel to the lower right
    of that middle, which then tells which way is up; `centred`, they are turned about their ink's centre of mass, which
    comes to the middle.
    """
    mnist, (train, test) = SourceSpec.model_validate("mnist"), SourceSpec.model_validate("mnist_rot").counts
    parts = [load_known(mnist, part, data_root) for part in ("train", "test")]
    digits = ImageSet(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))
    chosen = torch.from_numpy(random_stream("subset", _ROTATED_SEED).permutation(len(digits)))
    chosen = chosen[:train] if split == "train" else chosen[train : train + test]
    digits = digits.subset(chosen)
    angle = random_stream("pose", _ROTATED_SEED, split).uniform(-math.pi, math.pi, len(digits))
    turns = torch.from_numpy(np.stack([np.cos(angle), np.sin(angle)], axis=1)).float()
    for some in torch.arange(len(digits)).split(_BATCH):
        images = digits.images[some].float()
        about = ink_place(images)[:, :2] if centred else torch.zeros_like(turns[some])
        grid = SIMILARITY.grid(torch.cat([turns[some], about], dim=1), mnist.size)
        digits.images[some] = bilinear_sampler(images, grid).round().byte()
    return digits
