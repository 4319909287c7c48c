"""What is measured: rows, each with its baseline and its target, and what they found."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Literal

import torch

from benchmark.timing import Clock, clock_of
from stn_train.data.images import DATA_VARIABLE, ImageSet, find_files
from stn_train.data.sources import load_images
from stn_train.experiment.runtime import Runtime
from stn_train.storage import at_home

TRAINING_DIGITS = 60_000


@dataclass(frozen=True)
class Setting:
    """What all rows share: where is computed, and on the digits of which source."""

    runtime: Runtime
    source: str

    @cached_property
    def digits(self) -> ImageSet:
        """60,000 training digits; those of a smaller source over and over, so that an epoch is as long as MNIST's."""
        training, _ = load_images(self.source, self.runtime.data_root)
        again = torch.arange(TRAINING_DIGITS) % len(training)
        return ImageSet(training.images[again], training.labels[again])

    @property
    def clock(self) -> Clock:
        """Seconds, on the device."""
        return clock_of(self.runtime.device)


def source_at_hand(data_root: str | None) -> str:
    """MNIST where `data_root`, or else the environment, names a folder that has it; else the bundled digits."""
    folder = data_root or os.environ.get(DATA_VARIABLE)
    return "mnist" if folder and find_files("mnist", at_home(folder)) else "digits"


@dataclass(frozen=True)
class Target:
    """What a row has to reach: at least, or at most, so many `unit`."""

    bound: Literal["at least", "at most"]
    limit: float
    unit: str = "x"

    def reached_by(self, value: float) -> bool:
        """Whether a value is as wanted."""
        return value >= self.limit if self.bound == "at least" else value <= self.limit

    def __str__(self) -> str:
        return f"{self.bound} {self.limit:g} {self.unit}"


@dataclass(frozen=True)
class Row:
    """Something of ours, by name; what it is measured against; and how, which gives a value a repetition."""

    name: str
    baseline: str
    target: Target
    measure: Callable[[Setting], list[float]]


@dataclass(frozen=True)
class Measurement:
    """What the repetitions of a row's measurement gave, in the unit of its target."""

    row: Row
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """What counts."""
        return median(self.values)

    @property
    def reached(self) -> bool:
        """Whether the median is as the target wants it."""
        return self.row.target.reached_by(self.median)


def measure(row: Row, setting: Setting) -> Measurement:
    """Measure a row, from the start."""
    return Measurement(row, tuple(row.measure(setting)))
