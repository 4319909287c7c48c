"""How long trials take on this machine: a few steps of each are trained, and timed. Nothing is read or downloaded.

The images are the digits that come with the package, brought to the size of the trials' own: a step takes as long with
them.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from heapq import heapreplace
from itertools import pairwise
from statistics import median
from typing import Literal

from torch.nn import functional as F

from stn_train.data.images import ImageSet, source_size
from stn_train.data.sources import load_images
from stn_train.errors import Stopped
from stn_train.experiment.runtime import Runtime, load_trial_data
from stn_train.experiment.trial import classified, network_of, size_of, templates_of
from stn_train.run_folder import RunFolder
from stn_train.specs import SourceSpec, TrialSpec
from stn_train.training.loop import BN_IMAGES, TrainingState, train

_STEPS, _SECONDS = 2, 0.4
"""At least so many steps are timed, and so long."""
_CLASSIFIED = 500
_SPLITS: tuple[Literal["train", "test"], ...] = ("train", "test")


@dataclass(frozen=True)
class CellPlan:
    """What a model on a dataset amounts to, and how long it is expected to take.

    `canvas` and `output_size` in pixels, height and width; `seconds_per_trial` of training and evaluation from the
    first epoch to the last, `seconds_left` of all its trials that are planned, without what is `finished` or trained,
    and `left_by_seed` of each.
    """

    dataset: str
    model: str
    canvas: tuple[int, int]
    output_size: tuple[int, int] | None
    width: float | None
    parameters: int
    macs: int
    epochs: int
    seeds: tuple[int, ...]
    finished: int
    seconds_per_trial: float
    seconds_left: float
    left_by_seed: tuple[float, ...]


def plan(trials: Sequence[TrialSpec], folder: RunFolder, runtime: Runtime) -> Iterator[CellPlan]:
    """The cells, datasets times models, that trials make up, as they are measured; `folder` may hold some trials."""
    cells: dict[tuple[str, str], list[TrialSpec]] = {}
    for trial in trials:
        cells.setdefault((trial.dataset.name, trial.model.name), []).append(trial)
    for of_cell in cells.values():
        trial = of_cell[0]
        transformer, size, epochs = trial.model.transformer, size_of(trial), trial.training.epochs
        seconds = seconds_of_epoch(trial, runtime)
        left = tuple((epochs - _epochs_done(each, folder)) * seconds for each in of_cell)
        yield CellPlan(
            dataset=trial.dataset.name,
            model=trial.model.name,
            canvas=trial.dataset.canvas,
            output_size=transformer.output_size if transformer and 0 in transformer.before else None,
            width=size.width,
            parameters=size.parameters,
            macs=size.macs,
            epochs=epochs,
            seeds=tuple(each.seed for each in of_cell),
            finished=sum(folder.trial(each).result.exists() for each in of_cell),
            seconds_per_trial=epochs * seconds,
            seconds_left=sum(left),
            left_by_seed=left,
        )


def duration(cells: Sequence[CellPlan], workers: int) -> float:
    """How many seconds all cells take on so many workers, which begin their trials as `executors.in_order` has them."""
    left = [(number, -seconds) for cell in cells for number, seconds in enumerate(cell.left_by_seed)]
    ends = [0.0] * workers
    for _, seconds in sorted(left):
        heapreplace(ends, ends[0] - seconds)
    return max(ends)


def _epochs_done(trial: TrialSpec, folder: RunFolder) -> int:
    files = folder.trial(trial)
    if files.result.exists():
        return trial.training.epochs
    return max((record.epoch for record in files.load_metrics()), default=0)


def _stand_ins(source: SourceSpec, data_root: str | None) -> dict[object, ImageSet]:
    """Images of the size, channels and classes of a source's, to be timed in their place."""
    found: dict[object, ImageSet] = {}
    for split, digits in zip(_SPLITS, load_images("digits"), strict=True):
        images = F.interpolate(digits.images.float(), source.size).byte().expand(-1, source.channels, -1, -1)
        labels = digits.labels % len(source.classes)
        found[source.name, source.checksum, split, data_root] = ImageSet(images.contiguous(), labels, digits.repeats)
    return found


def seconds_of_epoch(trial: TrialSpec, runtime: Runtime) -> float:
    """How long an epoch of a trial and its evaluation take, from a few steps and a few images. Changes no file."""
    recipe = trial.training.changed(epochs=_STEPS + 1, restarts=(), curriculum=0.0, train_size=None)
    shown, reported, repeats = source_size(trial.source, trial.validation)
    shown, reported = min(trial.training.train_size or shown, shown) * repeats, reported * repeats
    if runtime.prebuilt is None:
        trial = trial.changed(validation=False, training=recipe)
        runtime = replace(runtime, loaded=_stand_ins(trial.source, runtime.data_root))
    data, _, fixed = load_trial_data(trial, runtime)
    if runtime.prebuilt is not None:
        shown, reported = len(data), len(fixed)
    state = TrainingState.start(network_of(trial, runtime), recipe)
    templates = templates_of(state.network, data, trial)

    began = time.perf_counter()
    next(data.batches(trial.seed, 0, recipe.batch_size))
    drawing = (time.perf_counter() - began) / len(data)
    ends: list[float] = []

    def after_step(epochs: float) -> bool:
        state.step_losses[-1].item()  # waits for the device
        ends.append(time.perf_counter())
        return len(ends) > _STEPS and ends[-1] - ends[0] > _SECONDS

    with suppress(Stopped):
        for _ in train(state, data, recipe, trial.seed, runtime.device, after_step, templates):
            pass
    step = median(end - begin for begin, end in pairwise(ends))  # the first sets things up, and is not timed
    few = replace(fixed, images=fixed.images[:_CLASSIFIED], theta=fixed.theta[:_CLASSIFIED])
    image = classified(trial, state.final, runtime, trial.dataset, few).seconds / len(few)
    every = -(-reported // shown)  # see run_trial
    if state.average is not None:
        reported += BN_IMAGES
    # An epoch's distortions are drawn to train on, to update batch normalisation and for the transformers' diagnostics.
    return max(shown // recipe.batch_size, 1) * step + reported * image / every + 3 * shown * drawing
