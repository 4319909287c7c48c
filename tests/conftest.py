"""What all tests share: one thread for small tensors, real digits, and how often chance is tried."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from stn_train.data.sources import ImageSet

# Read by torch when it is first imported: on small tensors, more threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def real_digits() -> "tuple[ImageSet, ImageSet]":
    """MNIST where STN_TRAIN_DATA names a folder that has it, else the bundled digits: training and test split."""
    from stn_train.data.sources import load_images

    folder = Path(os.environ.get("STN_TRAIN_DATA", "/nowhere"))
    return load_images("mnist" if (folder / "MNIST/raw").is_dir() else "digits", str(folder))


@pytest.fixture(scope="session")
def trials() -> Callable[[int, int], int]:
    """How often a test tries its luck, of a few and of many times: many where STN_TRAIN_TESTS is `full`."""
    return lambda short, full: full if os.environ.get("STN_TRAIN_TESTS") == "full" else short
