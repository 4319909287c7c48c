"""No leak: by its sharpness alone, a piece of a digit cannot be told from a piece of clutter."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from stn_train.data.datasets import make_fixed_dataset
from stn_train.data.images import ImageSet
from stn_train.specs import DatasetSpec

SIDE = 6


def pieces(name: str, digits: ImageSet, generator: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pieces of moved digits (label 0), and of clutter (1), that have ink: P x 36.

    A piece of clutter is cut as `sample_clutter` does, from anywhere in a digit's frame; a piece of a digit is cut in
    the same way, of a digit that has been moved on the canvas.
    """
    spec = DatasetSpec.model_validate(name).changed(clutter=None)
    fixed, (drawn,), _ = make_fixed_dataset(spec, digits, "test")
    corner = np.floor((np.array([spec.canvas[1], spec.canvas[0]]) - 28) / 2 + drawn.shift).astype(int)
    pad = 28
    moved = np.pad(fixed.images[:, 0].numpy(), ((0, 0), (pad, pad), (pad, pad)))

    def cut(images: NDArray[np.uint8], x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.uint8]:
        inside = np.arange(SIDE)
        rows, columns = (y[:, None] + inside)[:, :, None], (x[:, None] + inside)[:, None]
        return images[np.arange(len(images))[:, None, None], rows, columns].reshape(len(images), -1)

    places = generator.integers(0, 28 - SIDE + 1, (2, 2, len(corner)))
    whole = fixed.sources[:, 0].numpy()[fixed.digit.numpy()]
    found = [
        cut(moved, places[0, 0] + corner[:, 0] + pad, places[0, 1] + corner[:, 1] + pad),
        cut(whole, places[1, 0], places[1, 1]),
    ]
    inked = [piece[piece.max(axis=1) > 0] for piece in found]
    return np.concatenate(inked), np.repeat([0, 1], [len(piece) for piece in inked])


def told_apart(name: str, real_digits: tuple[ImageSet, ImageSet]) -> float:
    """The share of pieces that boosted trees, trained on pieces of other digits, tell rightly."""
    generator = np.random.default_rng(0)
    halves = [digits.subset(torch.arange(min(len(digits), 3000))) for digits in real_digits]
    (train, of_train), (test, of_test) = (pieces(name, half, generator) for half in halves)
    trees = HistGradientBoostingClassifier(random_state=0).fit(train, of_train)
    return float(np.mean([(trees.predict(test) == of_test)[of_test == label].mean() for label in (0, 1)]))


@pytest.mark.parametrize(("name", "least", "most"), [("tc", 0.45, 0.55), ("tc_wide", 0.65, 1.0)])
def test_a_piece_of_a_digit_is_as_sharp_as_one_of_clutter(name, least, most, real_digits):
    assert least < told_apart(name, real_digits) < most
