"""The door for notebooks: run, load, build and evaluate, and leave everything of the caller's as it was.

Every function here is also `stn_train.NAME`. None of them changes the random generators, torch's number of threads or
way with denormal numbers, `sys.path`, matplotlib's backend or the warnings' filters for whoever calls it.
"""

import json
import random
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stn_train.config import validated
from stn_train.data.datasets import TEST_SEED, FixedDataset, make_fixed_dataset
from stn_train.data.images import SourceSplit
from stn_train.data.own_images import read_images
from stn_train.data.sources import load_split
from stn_train.errors import TrialError, UserError, did_you_mean
from stn_train.evaluation.prediction import Prediction
from stn_train.experiment import load
from stn_train.experiment.runtime import Runtime
from stn_train.models import insert
from stn_train.models import network as networks
from stn_train.models.network import Network
from stn_train.run_folder import RunFolder, TrialFolder, unnumbered
from stn_train.specs import (
    DatasetSpec,
    ExperimentSpec,
    ModelSpec,
    SourceSpec,
    TrialSpec,
    check_source,
    trials_of,
)
from stn_train.statistics import Estimate, error_over_seeds

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

    from stn_train.report.results import Results

Size = tuple[int, int]


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Inside, anything may be drawn, imported or set; afterwards the caller's process is as it was."""
    threads, path, drawn = torch.get_num_threads(), list(sys.path), random.getstate()
    flushes = float(torch.tensor(1e-310, dtype=torch.float64) * 1.0) == 0
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())), warnings.catch_warnings():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushes)
        sys.path[:] = path
        random.setstate(drawn)  # rich draws from it when it is imported


insert_transformer = _undisturbed()(insert.insert_transformer)
load_network = _undisturbed()(load.load_network)


class Run:
    """A run in its folder: what it has found so far, as tables, predictions and networks."""

    def __init__(self, path: str | Path) -> None:
        self.folder = RunFolder(Path(path))
        self.experiment: ExperimentSpec = self.folder.load_experiment()

    @cached_property
    @_undisturbed()
    def results(self) -> "Results":
        """Everything that a report shows. Raises UserError where nothing has finished, or a file is damaged."""
        from stn_train.report.results import results_of

        return results_of(self.folder, self.experiment)

    @property
    def trials(self) -> "pd.DataFrame":
        """A row for each finished trial: dataset, model, seed, and a column for each measure."""
        return self.results.trials

    @property
    def summary(self) -> "pd.DataFrame":
        """A row for each dataset and model: means over the seeds, 95 % intervals in columns `..._low`, `..._high`."""
        return self.results.summary

    @property
    def comparisons(self) -> "pd.DataFrame":
        """A row for each model and its baseline: the difference in percentage points, its 95 % interval, p."""
        return self.results.comparisons

    @_undisturbed()
    def predictions(self, dataset: str, model: str, seed: int = 0) -> "pd.DataFrame":
        """Of each fixed image its label, the predicted class, the digit it shows, and theta of each transformer.

        `digit` counts the source's digits from 0; with two channels there are digit_0 and digit_1. theta_0, theta_1,
        ... are the first transformer's parameters, theta_1_0, ... the second's. Raises UserError for a trial that is
        not one of the run's, or has not finished.
        """
        import pandas as pd

        trial, files = self._trial(dataset, model, seed)
        arrays = files.load_predictions(trial.dataset.addition)
        columns: dict[str, NDArray[Any]] = {"label": arrays["label"], "predicted": arrays["predicted"]}
        columns |= _columns("digit", arrays["digit"])
        for number, theta in enumerate(unnumbered("theta", arrays)):
            columns |= _columns(f"theta_{number}" if number else "theta", theta)
        return pd.DataFrame(columns)

    def network(self, dataset: str, model: str, seed: int = 0, allow_imports: bool = False) -> Network:
        """A trial's network on the CPU, ready to be called: see `load_network`.

        Raises UserError for a trial that is not one of the run's, or has no checkpoint.
        """
        return load_network(self._trial(dataset, model, seed)[1].checkpoint, allow_imports)

    @_undisturbed()
    def predict(
        self,
        image: "str | Path | bytes | Image.Image | NDArray[Any] | torch.Tensor",
        *,
        invert: bool | None = None,
        as_is: bool = False,
        allow_imports: bool = False,
    ) -> list[Prediction]:
        """What each network of the run makes of a picture of yours, prepared as its training images were.

        image: a path, a file's bytes, an image of Pillow's, or an array: see `read_picture`. invert: whether ink is
        dark on bright; found out if None. as_is: the picture's pixels are what the networks read. Raises UserError
        where it is no picture, is blank, has values that are not from 0 to 1 or, as it is, another size; and where no
        network has been trained yet.
        """
        from stn_train.data.pictures import read_picture
        from stn_train.experiment.predict import predict_picture

        picture = read_picture(image)
        runtime = Runtime(torch.device("cpu"), allow_imports=allow_imports)
        trained = [load.load_trained(checkpoint, runtime) for checkpoint in load.checkpoints_in(self.folder.path)]
        return predict_picture(trained, picture, invert, as_is)

    def _trial(self, dataset: str, model: str, seed: int) -> tuple[TrialSpec, TrialFolder]:
        key = f"{dataset}/{model}/seed-{seed}"
        trials = {trial.key: trial for trial in trials_of(self.experiment)}
        if key not in trials:
            raise UserError(f"{self.folder.path} has no trial {key}; it has {', '.join(list(trials)[:8])}")
        return trials[key], self.folder.trial(trials[key])

    @_undisturbed()
    def _repr_html_(self) -> str:
        """The report's first screen."""
        from stn_train.report.page import first_screen

        return first_screen(self.results)

    def __repr__(self) -> str:
        finished = len(self.folder.finished(self.experiment))
        return f"Run({str(self.folder.path)!r}): {finished} of {len(trials_of(self.experiment))} trials have finished"


def _columns(name: str, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """One column, M, or several, M x k, as `name_0`, `name_1`, ..."""
    return {name: values} if values.ndim == 1 else {f"{name}_{index}": column for index, column in enumerate(values.T)}


@_undisturbed()
def run(
    config: str | Path,
    *,
    seeds: Sequence[int] | None = None,
    set: Mapping[str, Any] | None = None,
    only: str = "*",
    output_dir: str | Path | None = None,
    data_root: str | Path | None = None,
    device: str | None = None,
    threads: int | None = None,
    quiet: bool = False,
    allow_imports: bool = False,
) -> Run:
    """Train every model of a configuration on every dataset and seed, as `stn-train run` does, and report.

    config: a YAML file, or a shipped configuration's name. seeds: in place of the configuration's. set: values by
    dotted key, as {"training.epochs": 2}. only: a pattern of `dataset/model`. output_dir: `runs/NAME` if not given; the
    same call again skips what has finished there, and goes on where it was stopped. device, threads: torch's choice if
    not given. allow_imports: of parts of networks that a configuration in a run's folder names, which may be somebody
    else's. Raises UserError for what is wrong before training, TrialError where a trial failed, after the others.
    """
    from tqdm.auto import tqdm

    from stn_train.experiment.run import check_imports, open_run, run_trials
    from stn_train.experiment.runtime import open_runtime, read_config
    from stn_train.report.write import report_run

    values = dict(set or {}) | ({} if seeds is None else {"seeds": list(seeds)})
    overrides = [f"{key}={json.dumps(value, ensure_ascii=False, default=_plain)}" for key, value in values.items()]
    experiment, images = read_config(str(config), overrides, data_root=None if data_root is None else str(data_root))
    if not allow_imports:
        check_imports(experiment, str(config))
    trials = trials_of(experiment, only)
    if not trials:
        raise UserError(f"only={only!r} matches no dataset/model of {config}")
    folder = RunFolder(Path(output_dir) if output_dir else Path("runs") / experiment.name)
    root = str(data_root) if data_root else experiment.data_root
    runtime = replace(open_runtime(device, threads, root, experiment.prebuilt), robustness=experiment.robustness)
    runtime.loaded.update(images)
    everything = open_run(experiment, trials, folder, runtime)
    done, failed = 0, []
    with tqdm(total=sum(trial.training.epochs for trial in trials), unit="epoch", disable=quiet) as bar:
        for progress in run_trials(trials, folder, runtime):
            bar.set_description(progress.trial.key)
            if progress.busy is not None:
                raise UserError(progress.busy)
            if progress.skipped or progress.finished:
                done += progress.trial.training.epochs
            bar.update(done + (progress.record.epoch if progress.record else 0) - bar.n)
            if progress.failure is not None:
                failed.append(f"{progress.trial.key}: {progress.failure.why}")
    if folder.finished(everything):
        report_run(folder, everything)
    if failed:
        raise TrialError("; ".join(failed))
    return Run(folder.path)


def _plain(value: Any) -> Any:
    """A number of NumPy's or torch's, or a path, as YAML has it. Raises UserError for anything else."""
    if isinstance(value, np.generic | np.ndarray | torch.Tensor):
        return value.tolist()
    if isinstance(value, PurePath):
        return str(value)
    raise UserError(f"{type(value).__name__} is no value of a configuration; give numbers, text, lists or mappings")


def load_run(path: str | Path | None = None) -> Run:
    """The run in a folder; without one, the networks that ship with the package. Raises UserError where there is none.

    Those are a CNN and an ST-CNN of 60,000 parameters, trained on MNIST as the dataset `rts` has it: to `predict` with,
    and to load as `network`. They have no tables.
    """
    return Run(load.SHIPPED if path is None else path)


@_undisturbed()
def make_dataset(
    dataset: str | Mapping[str, Any] | DatasetSpec,
    split: SourceSplit = "test",
    source: str | Path | SourceSpec = "mnist",
    data_root: str | Path | None = None,
    seed: int | None = None,
) -> FixedDataset:
    """The images of a split, each distorted once: a torch Dataset of (image, label), for DataLoader and `evaluate`.

    dataset: a preset's name, or what a configuration's entry of `datasets` says. source: a name, as mnist, or digits,
    which needs no download; or the path of images of your own. seed: that of a run's test images, or for the training
    split 0, if not given. An image is C x H x W, float32 from 0 to 1; `.images` (M x C x H x W, uint8), `.labels` (M)
    and `.theta` (M x p, from the canvas to the digit's frame, normalised) hold all of them. Raises UserError for an
    unknown dataset, and where the images cannot be had, or do not fit.
    """
    if split not in get_args(SourceSplit):
        raise UserError(f"there is no split {split!r}{did_you_mean(split, get_args(SourceSplit))}")
    if seed is not None and seed < 0:
        raise UserError(f"seed {seed}: expected a whole number from 0 on")
    asked = {"path": str(source)} if isinstance(source, PurePath) else source
    known, root = validated(SourceSpec, asked), None if data_root is None else str(data_root)
    if known.path is None:
        digits = load_split(known, split, root)
    else:
        known, *both = read_images(known, root)
        digits = both[split == "test"]
    spec = validated(DatasetSpec, dataset, known.size)
    try:
        check_source(spec, known)
    except ValueError as error:
        raise UserError(str(error)) from None
    drawn = seed if seed is not None else TEST_SEED if split == "test" else 0
    return make_fixed_dataset(spec, digits, split, drawn)[0]


@_undisturbed()
def build_model(
    model: str | Mapping[str, Any] | ModelSpec,
    size: Size = (28, 28),
    *,
    parameters: int | None = None,
    channels: int = 1,
    classes: int = 10,
    seed: int = 0,
) -> Network:
    """Build a model for images N x `channels` x H x W of `size` (H, W): an nn.Module that gives logits, N x `classes`.

    model: a preset's name, or what a configuration's entry of `models` says. parameters: the budget that its width is
    fitted to, within 2 %. seed: that of its weights. Its parts are `transformer`, where it has one at the input, and
    `classifier`. Raises UserError for an unknown model, and where it cannot be built for such images.
    """
    spec = validated(ModelSpec, model)
    torch.manual_seed(seed)
    return networks.build_model(spec, size, parameters, channels, classes)


@dataclass(frozen=True)
class Scores:
    """How well a network classifies M images: percentages with 95 % intervals, and what it predicted.

    `confusion` (classes x classes) has a row for each true and a column for each predicted class; `predicted` (M).
    """

    accuracy: Estimate
    error: Estimate
    confusion: NDArray[np.int64]
    predicted: NDArray[np.int64]

    def __repr__(self) -> str:
        one = self.accuracy
        return f"accuracy {one.value:.2f} % [{one.low:.2f}, {one.high:.2f}] of {len(self.predicted):,} images"


@_undisturbed()
def evaluate(network: nn.Module, data: FixedDataset) -> Scores:
    """Classify the images of a dataset, as `make_dataset` gives them, in float32; see Scores.

    network: any that maps N x C x H x W, float32 from 0 to 1, on the device of its parameters, to logits, N x classes.
    It reads each image once, without a model's `tta_angles`, and gets no poses: an oracle stays at the identity. The
    intervals count digits and not images: one that is shown ten times tells little more than one. Raises UserError
    where the network has fewer classes than the dataset.
    """
    from stn_train.evaluation.classify import classify

    device = next(network.parameters(), torch.empty(0)).device
    training = {module: module.training for module in network.modules()}
    try:
        found = classify(network, data.images, device, "float32")
    finally:
        for module, was in training.items():
            module.training = was
    classes = found.logits.shape[1]
    if (most := int(data.labels.max())) >= classes:
        raise UserError(f"the network tells {classes} classes apart, and the dataset has labels up to {most}")
    wrong = (found.predicted != data.labels).numpy()
    error = error_over_seeds(wrong[None], data.digit.numpy())
    accuracy = Estimate(100 - error.value, 100 - error.high, 100 - error.low)
    return Scores(accuracy, error, found.confusion(data.labels, classes).numpy(), found.predicted.numpy())
