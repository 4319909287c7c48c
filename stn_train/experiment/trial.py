"""One trial: trains a model on a dataset, keeps its checkpoint, and writes what it found."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, count, islice
from typing import TYPE_CHECKING

import torch

from stn_train.data.datasets import FixedDataset
from stn_train.data.distortion import true_poses
from stn_train.errors import Stopped
from stn_train.experiment.runtime import Runtime, environment, load_digits_of, load_trial_data
from stn_train.experiment.snapshots import Arrays, frames_until, gallery, snapshot
from stn_train.models.network import ModelSize, Network, Precision, build_model, measure_model, precision_on
from stn_train.models.transformer import SpatialTransformer
from stn_train.run_folder import Diagnostics, EpochRecord, Timing, TrialFolder, TrialResult, numbered
from stn_train.specs import DatasetSpec, TrialSpec, pose_is_known
from stn_train.storage import LINES, write, write_arrays, write_record
from stn_train.training.checkpoint import (
    previous_checkpoint,
    read_checkpoint,
    restore,
    restore_localisation,
    save_checkpoint,
)
from stn_train.training.loop import TrainingState, scheduled_lr, train

if TYPE_CHECKING:
    from stn_train.data.prebuilt import TrainingData
    from stn_train.evaluation.classify import Predictions
    from stn_train.evaluation.metrics import AlignmentMetrics
    from stn_train.models.equivariant import Templates

_DIAGNOSED = 128
_CONGEALED_TIMES, _CONGEALED_AT_ONCE = 8, 1000


def size_of(trial: TrialSpec) -> ModelSize:
    """How large the trial's model is. Raises UserError where it cannot be built."""
    return measure_model(trial.model, trial.dataset.canvas, trial.parameters, trial.channels, trial.classes)


def network_of(trial: TrialSpec, runtime: Runtime) -> Network:
    """The trial's network as it is before training, on the runtime's device: the same for the same seed."""
    torch.manual_seed(trial.seed)
    network = build_model(trial.model, trial.dataset.canvas, trial.parameters, trial.channels, trial.classes)
    return network.to(runtime.device).to(memory_format=torch.channels_last)


def templates_of(network: Network, data: "TrainingData", trial: TrialSpec) -> "Templates | None":
    """What a single equivariant localisation network learns to turn digits to, found in the training images.

    Found before training, and again where one is taken up again: the same for the same seed. None for another network.
    """
    transformer = trial.model.transformer
    if not transformer or transformer.localisation != "equivariant" or not transformer.is_single or transformer.freeze:
        return None
    from stn_train.models.equivariant import EquivariantLocalisation, congeal

    assert isinstance(network.transformer, SpatialTransformer)
    assert isinstance(network.transformer.localisation, EquivariantLocalisation)
    end = (*trial.training.restarts, trial.training.epochs)[0]
    later = (data.batches(trial.seed, epoch, _CONGEALED_AT_ONCE) for epoch in count(end))
    images, labels, _ = zip(*islice(chain.from_iterable(later), _CONGEALED_TIMES), strict=True)
    return congeal(network.transformer.localisation, torch.cat(images), torch.cat(labels), trial.classes)


def run_trial(
    trial: TrialSpec, folder: TrialFolder, runtime: Runtime, after_step: Callable[[float], bool]
) -> Iterator[EpochRecord]:
    """Train a trial from its checkpoint, or from the start, and write its files; yields a record after each epoch.

    Where epochs are short, only after as many as show the images that a record takes to evaluate. `after_step` is told
    the epochs done, a fraction, and says whether to stop: then the checkpoint is written and Stopped is raised. Each
    record is followed by its checkpoint, so after a kill newer records are written again;
    `result.json` is the trial's last file. Raises UserError where the checkpoint is another's.
    """
    recipe = trial.training
    data, training_digits, fixed = load_trial_data(trial, runtime)
    network, transformer = network_of(trial, runtime), trial.model.transformer
    if transformer and transformer.localisation_from:
        restore_localisation(network, trial.model, runtime.loaded.get(transformer.localisation_from))
    state = TrainingState.start(network, recipe)
    frames = snapshot(trial, runtime, state.final, fixed, 0, {})
    records: list[str] = []
    if folder.checkpoint.exists():
        content = read_checkpoint(folder.checkpoint)
        restore(state, content, folder.checkpoint)
        records += content["records"]
        frames = frames_until(state.epoch, folder, frames)
        _write_epochs(folder, records, frames)
    templates = templates_of(state.network, data, trial)
    every = -(-len(fixed.images) // len(data))  # an epoch may be shorter than it takes to evaluate
    save = partial(save_checkpoint, folder.checkpoint, trial, state, records)
    predictions: Predictions | None = None
    began = time.perf_counter(), time.process_time()
    try:
        for loss in train(state, data, recipe, trial.seed, runtime.device, after_step, templates, every):
            predictions = classified(trial, state.final, runtime, trial.dataset, fixed)
            errors = int((predictions.predicted != fixed.labels).sum())
            start, end = recipe.cycle(state.epoch - 1)
            record = EpochRecord(
                epoch=state.epoch,
                loss=loss,
                error=100 * errors / len(fixed.labels),
                lr=scheduled_lr(recipe, (state.epoch - start) / (end - start)),
                transformers=_diagnostics(trial, state, data),
            )
            records.append(record.model_dump_json())
            frames = snapshot(trial, runtime, state.final, fixed, state.epoch, frames)
            _write_epochs(folder, records, frames)
            save()
            yield record
    except Stopped:
        save()
        raise
    predictions = predictions or classified(trial, state.final, runtime, trial.dataset, fixed)
    took = time.perf_counter() - began[0], time.process_time() - began[1]
    cpu_share = took[1] / (took[0] * torch.get_num_threads()) if runtime.device.type == "cpu" else None
    _write_results(trial, folder, runtime, state, data, training_digits, fixed, predictions, cpu_share)


def classified(
    trial: TrialSpec,
    network: Network,
    runtime: Runtime,
    dataset: DatasetSpec,
    fixed: FixedDataset,
    tta_angles: tuple[float, ...] | None = None,
) -> "Predictions":
    """What a trial's network makes of fixed images of a dataset, at the model's own `tta_angles` if none are given."""
    from stn_train.evaluation.classify import classify  # like all of evaluation only when something has been trained

    poses = true_poses(dataset, fixed.theta) if trial.model.pose == "oracle" else None
    precision = precision_on(runtime.device, trial.training)
    angles = trial.model.tta_angles if tta_angles is None else tta_angles
    return classify(network, fixed.images, runtime.device, precision, poses, angles)


def alignment_of(
    trial: TrialSpec,
    network: Network,
    runtime: Runtime,
    dataset: DatasetSpec,
    fixed: FixedDataset,
    thetas: tuple[torch.Tensor, ...],
) -> "AlignmentMetrics | None":
    """What a trial's transformers make of fixed images of a dataset, for which they predict `thetas`.

    None where nothing can be told: there is no transformer, or the images' poses are not known.
    """
    from stn_train.evaluation.alignment import alignment_metrics
    from stn_train.evaluation.metrics import HALF_TURNS

    if not pose_is_known(dataset, trial.source):
        return None
    half_turns = HALF_TURNS.get(trial.source.name, ())
    precision = precision_on(runtime.device, trial.training)
    return alignment_metrics(dataset, fixed, network, thetas, runtime.device, precision, half_turns)


def result_of(
    trial: TrialSpec, precision: Precision, training_digits: int, fixed: FixedDataset, predictions: "Predictions"
) -> TrialResult:
    """What `predictions` of the fixed images of the trial's dataset amount to."""
    size = size_of(trial)
    return TrialResult(
        trial=trial,
        parameters=size.parameters,
        width=size.width,
        macs=size.macs,
        precision=precision,
        split=trial.split,
        training_digits=training_digits,
        digits=len(fixed.digit.unique()),
        images=len(fixed.images),
        clipped=fixed.clipped,
        errors=int((predictions.predicted != fixed.labels).sum()),
        confusion=tuple(tuple(row) for row in predictions.confusion(fixed.labels, trial.classes).tolist()),
    )


def _write_epochs(folder: TrialFolder, records: list[str], frames: Arrays) -> None:
    write(folder.metrics, "".join(f"{record}\n" for record in records), LINES)
    if frames:
        write_arrays(folder.path / "training.npz", frames)


def _diagnostics(trial: TrialSpec, state: TrainingState, data: "TrainingData") -> tuple[Diagnostics, ...]:
    """Of each transformer, on a few images of the epoch just trained."""
    from stn_train.evaluation.diagnostics import diagnose

    if trial.model.pose != "predicted" or not trial.model.localises:
        return ()
    batch = next(data.batches(trial.seed, state.epoch - 1, trial.training.batch_size))
    return diagnose(state.final, batch.images[:_DIAGNOSED], batch.labels[:_DIAGNOSED])


def _write_results(
    trial: TrialSpec,
    folder: TrialFolder,
    runtime: Runtime,
    state: TrainingState,
    data: "TrainingData",
    training_digits: int,
    fixed: FixedDataset,
    predictions: "Predictions",
    cpu_share: float | None,
) -> None:
    """Write everything that a report reads of a training that has ended; `predictions` are of the fixed images."""
    precision = precision_on(runtime.device, trial.training)
    found = {"predicted": predictions.predicted, "label": fixed.labels, "digit": fixed.digit}
    found |= numbered("theta", predictions.thetas)
    write_arrays(folder.predictions, {name: values.numpy() for name, values in found.items()})
    for kind, arrays in gallery(trial, runtime, state.final, fixed, predictions).items():
        write_arrays(folder.path / f"{kind}.npz", arrays)
    alignment = alignment_of(trial, state.final, runtime, trial.dataset, fixed, predictions.thetas)
    if alignment is not None:
        write_record(folder.alignment, alignment.model_dump(mode="json"))
    timing = Timing(
        device=str(runtime.device),
        threads=torch.get_num_threads(),
        seconds=round(state.seconds, 1),
        training_images_per_second=round(trial.training.epochs * len(data) / state.seconds, 1),
        evaluation_images_per_second=round(len(fixed.images) / predictions.seconds, 1),
        cpu_share=cpu_share and round(cpu_share, 3),
    )
    result = result_of(trial, precision, training_digits, fixed, predictions)
    folder.robustness.unlink(missing_ok=True)  # of the network before, where this trial was deleted and trained anew
    if runtime.robustness:
        from stn_train.evaluation.robustness import robustness_of

        digits = load_digits_of(trial, "fixed", runtime)
        robust = robustness_of(trial.dataset, digits, trial.split, partial(classified, trial, state.final, runtime))
        write_record(folder.robustness, robust.model_dump(mode="json"))
    previous_checkpoint(folder.checkpoint).unlink(missing_ok=True)
    write_record(folder.timing, timing.model_dump(mode="json"))
    write_record(folder.environment, environment(runtime))
    write_record(folder.result, result.model_dump(mode="json"))
