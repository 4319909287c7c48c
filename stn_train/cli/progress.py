"""Progress on stderr: bars on a terminal, one line an epoch elsewhere, nothing when quiet."""

import sys
import time
from typing import TYPE_CHECKING, Never

from tqdm import tqdm

if TYPE_CHECKING:
    from stn_train.experiment.run import Progress


class ProgressDisplay:
    """Shows a run's progress as it is told of it."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.bar: tqdm[Never] | None = None
        self.epoch_began = time.monotonic()

    def show(self, progress: "Progress") -> None:
        """A trial begins, has finished an epoch, has finished, or was finished before."""
        if self.quiet:
            return
        if progress.record is None:
            self.close()
            self.epoch_began = time.monotonic()
        elif self.bar is not None:
            self.bar.set_postfix_str(f"loss {progress.record.loss:.4f}, error {progress.record.error:.2f} %")
        trial, record = progress.trial, progress.record
        title = f"trial {progress.number} of {progress.total}  {trial.key}"
        if progress.skipped:
            self._line(f"{title}  was finished before")
        elif progress.record is None and not progress.finished and sys.stderr.isatty():
            self.bar = tqdm(total=trial.training.epochs, desc=title, unit="epoch", bar_format=_FORMAT, file=sys.stderr)
        elif record is not None and self.bar is None:
            now = time.monotonic()
            self._line(
                f"{title}  epoch {record.epoch} of {trial.training.epochs}  loss {record.loss:.4f}  "
                f"error {record.error:.2f} %  {now - self.epoch_began:.1f} s"
            )
            self.epoch_began = now

    def after_step(self, epochs: float) -> None:
        """So many epochs of the trial are done."""
        if self.bar is not None:
            self.bar.update(epochs - self.bar.n)

    def close(self) -> None:
        """Leave the terminal as it should be."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    @staticmethod
    def _line(text: str) -> None:
        print(text, file=sys.stderr, flush=True)


_FORMAT = "{desc}: {percentage:3.0f} %|{bar}| {n:.1f} of {total} epochs, {remaining} left{postfix}"
