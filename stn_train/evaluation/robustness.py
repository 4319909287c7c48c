"""How a network does on images that differ from those that it was trained on."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from stn_train.data.datasets import FixedDataset, make_fixed_dataset
from stn_train.data.distortion import Split
from stn_train.data.images import ImageSet
from stn_train.evaluation.classify import Predictions
from stn_train.evaluation.metrics import LEVELS, Crossed, Point, Robustness, held
from stn_train.specs import DatasetSpec

_TURNED, _IMAGES = 10_000, 1000


def robustness_of(
    dataset: DatasetSpec,
    digits: ImageSet,
    split: Split,
    predict: Callable[[DatasetSpec, FixedDataset], Predictions],
    crossed: Sequence[DatasetSpec] = (),
) -> Robustness:
    """What a network gets wrong of a split's digits, drawn anew with one quantity held at each of its LEVELS.

    Each digit once: at most 10,000 for the rotation, and 1,000 for the other quantities. And all of them, as often as
    in the fixed images, as each other dataset `crossed` has them. Without points of a quantity that changes no image,
    as the translation where there is no room.
    """
    many, few = (
        replace(digits, repeats=1).subset(torch.arange(0, len(digits), -(-len(digits) // most)))
        for most in (_TURNED, _IMAGES)
    )
    points, somewhere = [], torch.zeros(1, dtype=torch.bool)
    for factor, levels in LEVELS.items():
        ends = (make_fixed_dataset(held(dataset, factor, end), few, split)[0] for end in (levels[0], levels[-1]))
        if torch.equal(*(end.images for end in ends)):
            continue
        for level in levels:
            asked = held(dataset, factor, level)
            fixed, *_ = make_fixed_dataset(asked, many if factor == "rotation" else few, split)
            wrong = predict(asked, fixed).predicted != fixed.labels
            images, errors = len(wrong), int(wrong.sum())
            points.append(Point(factor=factor, level=level, images=images, errors=errors, clipped=fixed.clipped))
            if factor == "rotation":
                somewhere = somewhere | wrong
    others = []
    for other in crossed:
        fixed, *_ = make_fixed_dataset(other, digits, split)
        wrong = predict(other, fixed).predicted != fixed.labels
        others.append(Crossed(dataset=other, images=len(wrong), errors=int(wrong.sum())))
    return Robustness(points=tuple(points), wrong_at_some_angle=int(somewhere.sum()), crossed=tuple(others))
