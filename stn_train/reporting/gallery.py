"""The pictures of a trial's transformers: of which kinds there are, and how each is drawn."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stn_train.reporting.records import Gallery
from stn_train.reporting.tiles import examples, means, training, turning
from stn_train.specs import TrialSpec

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Kind:
    """How one kind of picture is drawn.

    `draw` gives the bytes of a file with this `ending`, from a title and the arrays of the kind's file (see Gallery).
    `title` and `words`, which say what is to be seen, have places for {model} and {dataset}.
    """

    title: str
    words: str
    ending: str
    draw: Callable[[str, Arrays], bytes]


@dataclass(frozen=True)
class Drawing:
    """A picture before it is written: its `title`, the file's `name`, in `words` what is to be seen, and the bytes."""

    title: str
    name: str
    words: str
    content: bytes


KINDS: dict[Gallery, Kind] = {
    "examples": Kind(
        "The transformer of {model} on {dataset}",
        "images of {dataset} with the sampling grid's outline, a dot at its top left corner, and what {model} makes of "
        "them: the best, typical ones, and the worst mistakes; below, the true class and what it is taken for, in red "
        "where that is wrong",
        "png",
        examples,
    ),
    "means": Kind(
        "The mean image of each class, {model} on {dataset}",
        "the mean image of each class of {dataset}, before and after the transformer of {model}",
        "png",
        means,
    ),
    "turning": Kind(
        "A digit turned right round, {model} on {dataset}",
        "a digit of {dataset} at every angle with the sampling grid's outline, a dot at its top left corner, what "
        "{model} makes of it, and what it is taken for, in red where that is wrong",
        "png",
        turning,
    ),
    "training": Kind(
        "Epoch by epoch, {model} on {dataset}",
        "an animation: the same digits of {dataset} with the sampling grid's outline, a dot at its top left corner, "
        "and what {model} makes of them, before training and after each epoch",
        "gif",
        training,
    ),
}
"""By name, in the order in which a report shows them."""


def drawings(trial: TrialSpec, seen: Mapping[Gallery, Arrays]) -> Iterator[Drawing]:
    """The pictures of a trial from what there is to draw them from. "@" stands in no name of a model or a dataset."""
    model, dataset = trial.model.name, trial.dataset.name
    for name, kind in KINDS.items():
        if name in seen:
            title = f"{kind.title.format(model=model, dataset=dataset)}, seed {trial.seed}"
            words = kind.words.format(model=model, dataset=dataset)
            yield Drawing(title, f"{name}_{model}@{dataset}.{kind.ending}", words, kind.draw(title, seen[name]))
