"""Progress on stderr: bars on a terminal, one line an epoch elsewhere; only warnings and failures when quiet."""

import sys
import time
from typing import TYPE_CHECKING, Never

from tqdm import tqdm

if TYPE_CHECKING:
    from stn_train.experiment.run import RunProgress
    from stn_train.run_folder import EpochRecord
    from stn_train.specs import TrialSpec


class ProgressDisplay:
    """Shows a run's progress as it is told of it; `where` says on what and into which folder."""

    def __init__(self, quiet: bool, where: str) -> None:
        self.quiet = quiet
        self.where = where
        self.told_where = False
        self.bar: tqdm[Never] | None = None
        self.begun = False
        self.epoch_began = time.monotonic()
        self.warned: set[tuple[str, str]] = set()
        self.failed: list[str] = []
        """The keys of the trials that have failed."""

    def show(self, progress: "RunProgress") -> None:
        """A trial begins, has finished an epoch, has finished, was finished before, or has failed."""
        trial, record = progress.trial, progress.record
        title = f"trial {progress.number} of {progress.total}  {trial.key}"
        if progress.warning is not None:
            self._line(f"warning: {progress.warning}")
        if progress.failure is not None:
            self.close()
            self.failed.append(trial.key)
            self._line(f"{progress.failure.traceback or ''}{title}  failed: {progress.failure.why}")
        elif record is not None:
            self._warn(trial, record)
        if not self.quiet and progress.failure is None:
            self._show_step(progress, title)

    def _show_step(self, progress: "RunProgress", title: str) -> None:
        trial, record = progress.trial, progress.record
        if not self.told_where:
            self._line(f"{progress.total} {'trial' if progress.total == 1 else 'trials'} {self.where}")
            self.told_where = True
        if record is None:
            self.close()
            self.epoch_began = time.monotonic()
        elif self.bar is not None:
            self.bar.set_postfix_str(f"error {record.error:.2f} %, loss {record.loss:.2f}")
        if progress.skipped:
            self._line(f"{title}  was finished before")
        elif record is None and not progress.finished and sys.stderr.isatty():
            self.bar = tqdm(total=trial.training.epochs, desc=title, unit="epoch", bar_format=_FORMAT, file=sys.stderr)
            if (self.bar.ncols or 0) < 1:  # a terminal that does not know its size
                self.bar.ncols, self.bar.nrows = 79, 24
            self.begun = False
        elif record is not None and self.bar is None:
            now = time.monotonic()
            self._line(
                f"{title}  epoch {record.epoch} of {trial.training.epochs}  loss {record.loss:.4f}  "
                f"error {record.error:.2f} %  {now - self.epoch_began:.1f} s"
            )
            self.epoch_began = now

    def _warn(self, trial: "TrialSpec", record: "EpochRecord") -> None:
        """Say what is wrong with the transformers, each trouble once a trial."""
        from stn_train.report.diagnostics import warnings_of

        for warning in warnings_of(record, trial.training):
            if (trial.key, warning.kind) not in self.warned:
                self.warned.add((trial.key, warning.kind))
                self._line(f"warning: {trial.key}: {warning.sentence}")

    def after_step(self, epochs: float) -> None:
        """So many epochs of the trial are done; what was done before the first step, and its loading, is not timed."""
        if self.bar is None:
            return
        if self.begun:
            self.bar.update(epochs - self.bar.n)
        else:
            self.bar.reset()
            self.bar.initial = self.bar.n = self.bar.last_print_n = epochs
            self.begun = True

    def close(self) -> None:
        """Leave the terminal as it should be."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    @staticmethod
    def _line(text: str) -> None:
        """A line of its own, above a bar where there is one."""
        tqdm.write(text, file=sys.stderr)
        sys.stderr.flush()


_FORMAT = "{desc} |{bar}| {n:.1f} of {total} epochs, {remaining} left{postfix}"
