"""Progress on stderr: bars on a terminal, one line an epoch elsewhere; only warnings and failures when quiet."""

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Never

from tqdm import tqdm

if TYPE_CHECKING:
    from stn_train.experiment.run import RunProgress


@dataclass
class ProgressDisplay:
    """Shows how far a run, or another command of many parts, is; `where` says on what and into which folder.

    `failed`: the keys of the parts that have failed.
    """

    quiet: bool
    where: str
    failed: list[str] = field(default_factory=list)
    warned: set[tuple[str, str, int]] = field(default_factory=set)
    bar: "tqdm[Never] | None" = None
    stepped: bool = False
    began: float = field(default_factory=time.monotonic)

    def show(self, progress: "RunProgress") -> None:
        """A trial begins, has finished an epoch, has finished, was finished before, or has failed."""
        trial, record = progress.trial, progress.record
        title = f"trial {progress.number} of {progress.total}  {trial.key}"
        if progress.warning is not None:
            self.line(f"warning: {progress.warning}")
        if progress.failure is not None:
            self.fail(trial.key, f"{progress.failure.traceback or ''}{title}  failed: {progress.failure.why}")
            return
        if record is not None:
            from stn_train.report.diagnostics import warnings_of  # there is nothing to warn of before an epoch's end

            for warning in warnings_of(record, trial.training):
                once = (trial.key, warning.fault, warning.number)  # each trouble once a trial
                if once not in self.warned:
                    self.warned.add(once)
                    self.line(f"warning: {trial.key}: {warning.sentence}")
        if self.quiet:
            return
        self.tell_where(progress.total, "trial")
        if progress.skipped:
            self.end(f"{title}  was finished before")
        elif progress.finished:
            self.close()
        elif record is None:
            self.begin(title, trial.training.epochs, "epochs")
        elif self.bar is not None:
            self.bar.set_postfix_str(f"error {record.error:.2f} %, loss {record.loss:.2f}")
        else:
            self.end(
                f"{title}  epoch {record.epoch} of {trial.training.epochs}  loss {record.loss:.4f}  "
                f"error {record.error:.2f} %  {self.seconds:.1f} s"
            )

    def tell_where(self, parts: int, noun: str) -> None:
        """Say once, before all else, of how many parts the work is, and where it is done."""
        if self.where:
            self.line(f"{parts} {noun if parts == 1 else f'{noun}s'} {self.where}")
        self.where = ""

    def begin(self, title: str, total: int, unit: str) -> None:
        """A part begins, which is done after `total` of its unit."""
        self.close()
        self.began, self.stepped = time.monotonic(), False
        if sys.stderr.isatty():
            self.bar = tqdm(total=total, desc=title, bar_format=_FORMAT.replace("UNIT", unit), file=sys.stderr)
            if (self.bar.ncols or 0) < 1:  # a terminal that does not know its size
                self.bar.ncols, self.bar.nrows = 79, 24

    def after_step(self, done: float) -> None:
        """So much of the part is done; what was done before the first step, and its loading, is not timed."""
        if self.bar is None:
            return
        if self.stepped:
            self.bar.update(done - self.bar.n)
        else:
            self.bar.reset()
            self.bar.initial = self.bar.n = self.bar.last_print_n = done
            self.stepped = True

    @property
    def seconds(self) -> float:
        """Since a part began, or the last line on it."""
        return time.monotonic() - self.began

    def end(self, text: str) -> None:
        """A line on what has been done."""
        self.close()
        self.began = time.monotonic()
        self.line(text)

    def fail(self, key: str, text: str) -> None:
        """A part has failed: told even when quiet."""
        self.close()
        self.failed.append(key)
        self.line(text)

    def close(self) -> None:
        """Leave the terminal as it should be."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    @staticmethod
    def line(text: str) -> None:
        """A line of its own, above a bar where there is one."""
        tqdm.write(text, file=sys.stderr)
        sys.stderr.flush()


_FORMAT = "{desc} |{bar}| {n:.1f} of {total} UNIT, {remaining} left{postfix}"
