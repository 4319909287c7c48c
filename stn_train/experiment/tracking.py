"""A run's epochs in TensorBoard, Weights & Biases or Trackio. What a trial found does not depend on them."""

import io
import json
import secrets
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from contextvars import Context
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from stn_train.errors import UserError, check_installed, did_you_mean, first_line
from stn_train.run_folder import EpochRecord, RunFolder
from stn_train.specs import TrialSpec
from stn_train.storage import json_text, write

if TYPE_CHECKING:
    from stn_train.experiment.run import RunProgress

TRACKERS = ("tensorboard", "wandb", "trackio")
"""The packages that can be logged to; as extras of ours, they have the same names."""


def check_tracker(name: str) -> None:
    """Raise UserError where there is no tracker of this name, or its package is missing; imports nothing of it."""
    if name not in TRACKERS:
        raise UserError(f"--track {name}: there is no such tracker{did_you_mean(name, TRACKERS)}")
    check_installed(f"--track {name}", [name], name)


class Log(Protocol):
    """Where the epochs of one trial go; `seen` is the last that is there."""

    seen: int

    def add(self, values: dict[str, float], epoch: int) -> None:
        """Log values after an epoch."""

    def close(self) -> None:
        """Nothing more comes."""


def tracked(run: "Iterable[RunProgress]", folder: RunFolder, tracker: str) -> "Iterator[RunProgress]":
    """The progress of a run, yielded as it comes, and each epoch of its trials logged once.

    Also the epochs before, of a run without logs; and however often a trial is stopped. TensorBoard's logs lie in the
    run's folder, below `tensorboard/TRIAL`. Weights & Biases and Trackio have a project of the folder's name, and a run
    for each trial. Raises UserError where they refuse.
    """
    logs: dict[str, Log] = {}
    try:
        for progress in run:
            trial = progress.trial
            ended = progress.skipped or progress.finished or progress.failure is not None
            if trial.key not in logs and progress.busy is None:
                begin = TensorBoardLog if tracker == "tensorboard" else partial(OnlineLog, tracker=tracker)
                logs[trial.key] = begin(folder, trial)
            if progress.record is not None or ended:
                log = logs[trial.key]
                for record in folder.trial(trial).load_metrics():
                    if record.epoch > log.seen:
                        log.add(_values(record), record.epoch)
                        log.seen = record.epoch
            if ended:
                logs.pop(trial.key).close()
            yield progress
    finally:
        for log in logs.values():
            log.close()


def _values(record: EpochRecord) -> dict[str, float]:
    """An epoch's `error`, `loss` and `lr`, and of each transformer `transformer_1/outside` and so on."""
    values = {name: getattr(record, name) for name in ("error", "loss", "lr")}
    for number, diagnostics in enumerate(record.transformers, start=1):
        values |= {f"transformer_{number}/{name}": value for name, value in diagnostics}
    return values


class TensorBoardLog:
    """A trial's log for TensorBoard, written anew, in place of what was logged there before."""

    def __init__(self, folder: RunFolder, trial: TrialSpec) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.seen = 0
        path = folder.path / "tensorboard" / trial.key
        for before in path.glob("events.out.tfevents.*"):
            before.unlink()
        self.writer = SummaryWriter(str(path))

    def add(self, values: dict[str, float], epoch: int) -> None:
        """See Log."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, epoch)
        self.writer.flush()

    def close(self) -> None:
        """See Log."""
        self.writer.close()


class OnlineLog:
    """A trial's run at Weights & Biases or Trackio, begun when there is something to log, and gone on with later.

    A file in the folder, `tracking/TRACKER/TRIAL.json`, remembers the run's name and the last epoch that it holds. Both
    libraries are called alike; where they keep or send their data is theirs to say.
    """

    def __init__(self, folder: RunFolder, trial: TrialSpec, tracker: str) -> None:
        self.folder, self.trial, self.tracker = folder, trial, tracker
        self.memory = folder.path / "tracking" / tracker / f"{trial.key}.json"
        files = folder.trial(trial)
        self.id, self.seen = secrets.token_hex(4), 0
        if self.memory.exists() and (files.checkpoint.exists() or files.result.exists()):
            known = json.loads(self.memory.read_text(encoding="utf-8"))
            self.id, self.seen = str(known["id"]), int(known["epoch"])
        self.run: Any = None if files.result.exists() else self._begin()

    def _begin(self) -> Any:
        of_several = {"id": self.id, "dir": str(self.folder.path), "reinit": "create_new"}
        own = of_several if self.tracker == "wandb" else {}
        try:
            with redirect_stdout(io.StringIO()):
                return Context().run(  # in a context of its own, Trackio lets the runs of other trials go on
                    import_module(self.tracker).init,
                    project=self.folder.path.resolve().name,
                    name=f"{self.trial.key}-{self.id}",
                    config=self.trial.model_dump(mode="json"),
                    resume="allow",
                    **own,
                )
        except Exception as error:  # of many kinds: no key, no network
            raise UserError(f"--track {self.tracker} cannot begin a run: {first_line(error)}") from error

    def add(self, values: dict[str, float], epoch: int) -> None:
        """See Log."""
        self.run = self.run or self._begin()
        self.run.log(values, step=epoch)
        write(self.memory, json_text({"id": self.id, "epoch": epoch}))

    def close(self) -> None:
        """See Log."""
        if self.run is not None:
            with redirect_stdout(io.StringIO()):
                self.run.finish()
