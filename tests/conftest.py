"""What all tests share: one thread for small tensors, real digits, and how often chance is tried."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from stn_train.data.images import ImageSet

# Read by torch when it is first imported: on small tensors, more threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts them in the background has them ignore Ctrl-C, which some of them send.
signal.signal(signal.SIGINT, signal.default_int_handler)

_named = Path(os.environ.get("STN_TRAIN_DATA", "/nowhere")).absolute()
MNIST_FOLDER = _named if (_named / "MNIST/raw").is_dir() else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that look at MNIST where it is at hand: `-m mnist` runs them alone."""
    for item in items:
        if isinstance(item, pytest.Function) and {"real_digits", "mnist_folder"} & set(item.fixturenames):
            item.add_marker("mnist")


@pytest.fixture(scope="session")
def real_digits() -> "tuple[ImageSet, ImageSet]":
    """MNIST where STN_TRAIN_DATA names a folder that has it, else the bundled digits: training and test split."""
    from stn_train.data.sources import load_images

    return load_images("digits") if MNIST_FOLDER is None else load_images("mnist", str(MNIST_FOLDER))


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """The folder that STN_TRAIN_DATA names, where it has MNIST; elsewhere the test is skipped."""
    if MNIST_FOLDER is None:
        pytest.skip("needs MNIST in the folder that STN_TRAIN_DATA names")
    return MNIST_FOLDER


@pytest.fixture(scope="session")
def trials() -> Callable[[int, int], int]:
    """How often a test tries its luck, of a few and of many times: many where STN_TRAIN_TESTS is `full`."""
    return lambda short, full: full if os.environ.get("STN_TRAIN_TESTS") == "full" else short
