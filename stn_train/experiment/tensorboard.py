"""Logs for TensorBoard: every epoch of a run's trials. What a trial found does not depend on them."""

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from stn_train.errors import UserError
from stn_train.run_folder import EpochRecord, RunFolder

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from stn_train.experiment.run import RunProgress


def check_installed() -> None:
    """Raise UserError where TensorBoard is not installed; imports nothing of it."""
    found = find_spec("tensorboard")
    if found is None or found.origin is None:  # a folder of this name is no package
        raise UserError(
            "--tensorboard: the package tensorboard is not installed; pip install 'stn-train[tensorboard]' installs it"
        )


def logged(run: "Iterable[RunProgress]", folder: RunFolder) -> "Iterator[RunProgress]":
    """The progress of a run, yielded as it comes and logged in the run's folder, below `tensorboard/TRIAL`.

    A trial's log is written anew from its metrics.jsonl when the first is heard of what it has done: so it holds each
    epoch once, however often the trial was stopped, also those of a run without logs.
    """
    writers: dict[str, SummaryWriter] = {}
    try:
        for progress in run:
            key, record = progress.trial.key, progress.record
            ended = progress.skipped or progress.finished or progress.failure is not None
            if key in writers and record is not None:
                _write(writers[key], [record])
            elif key not in writers and (record is not None or ended):
                writers[key] = _begin(folder.path / "tensorboard" / key)
                _write(writers[key], folder.trial(progress.trial).load_metrics())
            if ended:
                writers.pop(key).close()
            yield progress
    finally:
        for writer in writers.values():
            writer.close()


def _begin(folder: Path) -> "SummaryWriter":
    """A log without events, in place of what was logged there before."""
    from torch.utils.tensorboard import SummaryWriter

    for before in folder.glob("events.out.tfevents.*"):
        before.unlink()
    return SummaryWriter(str(folder))


def _write(writer: "SummaryWriter", records: Iterable[EpochRecord]) -> None:
    """The epochs' `error`, `loss` and `lr`, and of each transformer `transformer_1/outside` and so on."""
    for record in records:
        for name in ("error", "loss", "lr"):
            writer.add_scalar(name, getattr(record, name), record.epoch)
        for number, diagnostics in enumerate(record.transformers, start=1):
            for name, value in diagnostics:
                writer.add_scalar(f"transformer_{number}/{name}", value, record.epoch)
    writer.flush()
