"""Where random numbers come from: from what they are for, and never from who asks first."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Split = Literal["train", "test", "validation"]

_SPLITS = {"train": 0, "test": 1, "validation": 2}


class RandomStream(IntEnum):
    """What numbers are drawn for; each subject has a stream of its own, so that none disturbs another."""

    POSE = 0
    CLUTTER = 1
    ORDER = 2
    BEND = 3
    PARTNER = 4
    SUBSET = 5
    ELASTIC_AUGMENTATION = 6


@dataclass(frozen=True)
class RandomKey:
    """A split's epoch, and one of its images' channels: all that a draw depends on."""

    seed: int
    split: Split
    epoch: int = 0
    channel: int = 0

    def stream(self, subject: RandomStream, attempt: int = 0) -> np.random.Generator:
        """A fresh counter-based generator (Philox), at its beginning.

        What was refused is drawn again from a stream of its own: so no image depends on how many others there are.
        """
        key = [self.seed, _SPLITS[self.split], self.epoch, subject]
        if attempt:
            key += [self.channel, attempt]
        elif self.channel:
            key += [self.channel]
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def order(count: int, seed: int, epoch: int) -> Tensor:
    """The order, a permutation of `count` numbers, in which an epoch shows the training images."""
    return torch.from_numpy(RandomKey(seed, "train", epoch).stream(RandomStream.ORDER).permutation(count))


def chosen(count: int, total: int, seed: int) -> Tensor:
    """The numbers of the `count` training digits, out of `total`, that a seed chooses.

    A smaller choice is part of a larger one.
    """
    return torch.from_numpy(RandomKey(seed, "train").stream(RandomStream.SUBSET).permutation(total)[:count])
