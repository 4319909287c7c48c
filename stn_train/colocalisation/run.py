"""A whole co-localisation in one folder: the encoder, then cell by cell a localiser; skips what is finished."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from stn_train import storage
from stn_train.colocalisation.images import OneClass, crop_boxes, frame_boxes, overlap
from stn_train.colocalisation.report import CellResult, ColocalisationFolder
from stn_train.colocalisation.spec import CellSpec, ColocalisationSpec, cells_of
from stn_train.colocalisation.training import Encoder, build_localiser, train_localiser
from stn_train.config import dump, load_config
from stn_train.errors import TrialError, UserError
from stn_train.experiment.executors import Workers
from stn_train.experiment.load import load_network
from stn_train.experiment.questions import Question, answers
from stn_train.experiment.run import check_same_trial, check_trials, differences
from stn_train.experiment.runtime import Runtime, environment, load_digits_of
from stn_train.experiment.trial import run_trial
from stn_train.models.transformer import SpatialTransformer
from stn_train.run_folder import TrialFolder, TrialResult
from stn_train.specs import TrialSpec
from stn_train.training.checkpoint import fall_back

_SAMPLES = 8
_BATCH = 500


@dataclass(frozen=True)
class ColocalisationProgress:
    """Where it is: of `part`, the encoder or a cell's key, a share `done` is done.

    `found`, once it has ended: how many digits the cell found, or the encoder told right, in percent; `skipped` says
    that the cell had been finished before; `warning` is what the user must know; `failure` why a cell cannot go on.
    """

    part: str
    done: float
    found: float | None = None
    skipped: bool = False
    warning: str | None = None
    failure: str | None = None


def check_colocalisation(spec: ColocalisationSpec) -> None:
    """Raise UserError where the encoder or a localiser cannot be built."""
    check_trials([spec.encoder_trial], None)
    for dataset in spec.datasets:
        build_localiser(spec.localiser.localisation, dataset.canvas)


def run_colocalisation(
    spec: ColocalisationSpec,
    cells: list[CellSpec],
    folder: ColocalisationFolder,
    runtime: Runtime,
    stop: Callable[[], bool] = lambda: False,
    workers: Workers | None = None,
) -> Iterator[ColocalisationProgress]:
    """Run these cells of a co-localisation in `folder`, which may hold some of them already; yields as it goes.

    Cells are trained side by side where there are workers. Where `stop` says so after a step, raises Stopped: a cell
    that was being trained is begun anew the next time, and so is one that fails, while the others go on. Raises
    TrialError where the encoder cannot be trained, and UserError before anything is where the folder holds a cell, or
    an encoder, of another specification, or one cannot be built.
    """
    check_colocalisation(spec)
    if folder.config.exists():
        load_config(str(folder.config), kind=ColocalisationSpec)  # refuses the folder of a run, or of somebody else
    with storage.folder_lock(folder.path):
        _check_unchanged(spec, folder)
        for path in (folder.encoder.path, *(folder.cell(cell) for cell in cells)):
            storage.clear_leftovers(path)
        storage.write(folder.config, dump(spec))
        pending = []
        for cell in cells:
            if folder.result(cell).exists():
                yield ColocalisationProgress(cell.key, 1.0, folder.load_result(cell).found, skipped=True)
            else:
                pending.append(cell)
        if not pending:
            return
        storage.write_record(folder.environment, environment(runtime))
        yield from _train_encoder(spec.encoder_trial, folder.encoder, runtime, stop)
        encoder = Encoder(load_network(folder.encoder.checkpoint).classifier)
        by_key = {cell.key: cell for cell in pending}
        questions = [Question(cell.key, partial(_train_cell, cell, encoder)) for cell in pending]
        for question, answer in answers(questions, runtime, workers, stop):
            if answer.error is not None:
                yield ColocalisationProgress(question.key, 1.0, failure=str(answer.error))
            elif not answer.ended:
                yield ColocalisationProgress(question.key, answer.done)
            else:
                result, samples = answer.value
                cell = by_key[question.key]
                storage.write_arrays(folder.samples(cell), samples)
                storage.write_record(folder.result(cell), result.model_dump(mode="json"))
                yield ColocalisationProgress(cell.key, 1.0, result.found)


def _check_unchanged(spec: ColocalisationSpec, folder: ColocalisationFolder) -> None:
    check_same_trial(spec.encoder_trial, folder.encoder)
    for cell in cells_of(spec):
        if folder.result(cell).exists():
            before = folder.load_result(cell).cell
            if before != cell:
                raise UserError(
                    f"{folder.cell(cell)} holds another cell: {', '.join(differences(before, cell))}; "
                    "name another folder by --output-dir, or delete this one"
                )


def _train_encoder(
    trial: TrialSpec, files: TrialFolder, runtime: Runtime, stop: Callable[[], bool]
) -> Iterator[ColocalisationProgress]:
    if files.result.exists():
        return
    yield ColocalisationProgress("encoder", 0.0, warning=fall_back(files.checkpoint))
    try:
        for record in run_trial(trial, files, runtime, lambda epochs: stop()):
            yield ColocalisationProgress("encoder", record.epoch / trial.training.epochs)
    except TrialError as error:
        raise TrialError(f"the encoder, on which every cell depends, cannot be trained: {error}") from None
    yield ColocalisationProgress("encoder", 1.0, 100 - files.load(TrialResult, files.result).error)


def _train_cell(
    cell: CellSpec, encoder: Encoder, runtime: Runtime
) -> Iterator[float | tuple[CellResult, dict[str, NDArray[Any]]]]:
    """Train a localiser on a class's training digits, and measure it on the fixed images of the others.

    Yields the share that is done, and at last the result and the arrays of samples.npz.
    """
    yield 0.0
    spec = cell.localiser
    train, scored = (load_digits_of(cell.encoder, part, runtime) for part in ("training", "fixed"))
    torch.manual_seed(cell.seed)
    transformer = build_localiser(spec.localisation, cell.dataset.canvas).to(runtime.device)
    images = OneClass.of(cell.dataset, train, cell.label, runtime.device)
    losses = []
    batches = images.batches(cell.seed, spec.batch_size)
    for loss in train_localiser(transformer, encoder.to(runtime.device), batches, spec, cell.seed):
        losses.append(loss)
        yield len(losses) / spec.steps
    pictures, shift, digit = OneClass.of(cell.dataset, scored, cell.label, runtime.device).fixed(cell.split)
    boxes, true = _boxes(transformer, pictures, runtime.device), frame_boxes(shift, cell.dataset.canvas)
    overlaps = overlap(boxes, true)
    few = slice(_SAMPLES)
    samples = {"image": pictures[few, 0], "predicted": boxes[few], "true": true[few]}
    latest = losses[-max(len(losses) // 10, 1) :]
    result = CellResult(
        cell=cell,
        loss=sum(latest) / len(latest),
        overlap=tuple(round(float(each), 4) for each in overlaps),
        digit=tuple(digit.tolist()),
    )
    yield result, {name: values.numpy() for name, values in samples.items()}


@torch.no_grad()
def _boxes(transformer: SpatialTransformer, images: Tensor, device: torch.device) -> Tensor:
    """The predicted boxes, M x 4 in normalised coordinates on the CPU, for uint8 images, M x 1 x H x W."""
    transformer.eval()
    batches = (batch.to(device).float() / 255 for batch in images.split(_BATCH))
    return torch.cat([crop_boxes(transformer.localisation(batch)).cpu() for batch in batches])
